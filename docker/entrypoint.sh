#!/bin/sh
# Begin as the user that the folders belong to. As root it becomes PUID:PGID and keeps of root's
# rights only CAP_LEASE, where the container has it; as anybody else it stays who it is. `exec`, so
# that signals reach the program itself: it is process 1, waits for its children and needs no init.
set -eu

state=${VENICE_WATCH_STATE:-/var/lib/venice-watch}

if [ "$(id -u)" -ne 0 ]; then
  exec venice-watch "$@"
fi

uid=${PUID:-10001}
gid=${PGID:-$uid}
for number in "$uid" "$gid"; do
  case $number in
    '' | *[!0-9]*)
      echo "entrypoint: PUID and PGID must be numbers, not '$number'; \`id\` shows yours" >&2
      exit 78
      ;;
  esac
done

# as: run a command as that user, with or without CAP_LEASE
as() {
  caps=$1
  shift
  exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs \
    --bounding-set="-all$caps" --inh-caps="-all$caps" --ambient-caps="-all$caps" -- "$@"
}

caps=,+lease
(as "$caps" true) 2>/dev/null || caps=
if ! (as "$caps" test -w "$state"); then
  echo "entrypoint: $state cannot be written by $uid:$gid. On the host, in its folder:" \
    "chown -R $uid:$gid ." >&2
  exit 77
fi
as "$caps" venice-watch "$@"
