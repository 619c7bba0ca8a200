# venice-watch in a container; see docs/install-container.md and compose.yaml.
#   docker build --tag venice-watch .

FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY man ./man
COPY venice_watch ./venice_watch
RUN python -m venv /opt/venice-watch \
  && /opt/venice-watch/bin/pip install --no-cache-dir .

FROM python:3.12-slim-bookworm
COPY --from=build /opt/venice-watch /opt/venice-watch
COPY --chmod=0755 docker/entrypoint.sh /usr/local/bin/entrypoint
COPY --chmod=0755 docker/health.sh /usr/local/bin/health
# A number that no user of a NAS has; PUID and PGID, or `user:`, choose another.
RUN groupadd --gid 10001 venice-watch \
  && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin venice-watch \
  && install -d -m 0755 /etc/venice-watch \
  && install -d -m 0710 -o venice-watch -g venice-watch /var/lib/venice-watch
ENV PATH=/opt/venice-watch/bin:$PATH \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /var/lib/venice-watch
# SIGTERM lets what is under way finish, because it is being paid for: `docker stop -t 360`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=1m --timeout=20s --start-period=5m --retries=3 CMD ["health"]
ENTRYPOINT ["entrypoint"]
CMD ["run"]
