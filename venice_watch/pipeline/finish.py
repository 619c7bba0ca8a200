"""What a result's file in the outbox is made of: its pixels, and what its original said of itself.

Rules: finishing costs nothing and gives the same bytes every time, so that after a crash it can be
told whether it was done; the original's words are safe beside the result before the result is paid
for, because by its delivery the original may be gone.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from venice_watch import __version__
from venice_watch.config.model import Folder
from venice_watch.config.output import Dpi, Gps, Output, OutputFormat
from venice_watch.files.pieces import Piece, digest_of, size_of
from venice_watch.files.spool import drop_spooled, read_sidecar, write_sidecar
from venice_watch.images.adapt import adapt
from venice_watch.images.encode import Encoded, EncodeError, writable
from venice_watch.images.metadata import Metadata, MetadataRules, dumps, loads
from venice_watch.images.png import BrokenPngError
from venice_watch.images.signature import RASTERS
from venice_watch.images.splice import Splice, splice
from venice_watch.job import Job
from venice_watch.ledger import Delivered
from venice_watch.pipeline.consider import FolderHeldError
from venice_watch.pipeline.passage import Parts, Passage

PROGRAM = "venice-watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a file in the outbox is made of; spans are of the result in the spool."""

    format: str  # a key of RASTERS
    pieces: tuple[Piece, ...]
    sha256: bytes | None = None  # where it is not the result with a block put in

    @property
    def extension(self) -> str:
        """Return its ending, without the dot."""
        return RASTERS[self.format].extension

    def delivered_as(self, path: str) -> Delivered | None:
        """Return what the ledger must remember of it, if anything."""
        if self.sha256 is None:
            return None
        return Delivered(path=path, sha256=self.sha256, size_bytes=size_of(self.pieces))


def extension_of(folder: Folder, kind: str, *, width: int, height: int) -> str:
    """Return the ending of a result of this size, whose original is of that format."""
    wanted = _wanted(folder.output, kind)
    return RASTERS[writable(wanted, width=width, height=height)].extension


def _wanted(output: Output, kind: str) -> str:
    return kind if output.format is OutputFormat.SOURCE else output.format.value


# --- what the original says, until the result is delivered ---------------------------------------


async def keep_metadata(parts: Parts, passage: Passage) -> None:
    """Make it durable, so that the result can be finished whatever becomes of the original.

    Raises FolderHeldError: nothing is to be paid for until that is possible.
    """
    if passage.metadata in (None, Metadata()):
        await forget_metadata(parts, passage)  # an earlier page may have had its own profile
        return
    name = _sidecar_name(passage.job)
    try:
        await asyncio.to_thread(write_sidecar, parts.spool, name, dumps(passage.metadata))
    except OSError as exc:
        raise FolderHeldError(
            f"the spool {parts.spool} cannot take the metadata of an image: {exc.strerror}. Make "
            "room, or mend the disk."
        ) from exc


async def forget_metadata(parts: Parts, passage: Passage) -> None:
    """Remove what was kept for a job that has ended, or leave it to the next start."""
    name = _sidecar_name(passage.job)
    try:
        await asyncio.to_thread(drop_spooled, parts.spool, name)
    except OSError as exc:
        parts.log.warning("spool.leftover", file=name, error=exc.strerror)


def sidecar_names(job_ids: list[int]) -> set[str]:
    """Return what the metadata of these jobs are called in the spool."""
    return {f"{one}.meta" for one in job_ids}


def _sidecar_name(job: Job) -> str:
    return f"{job.id}.meta"


async def _metadata_of(parts: Parts, passage: Passage) -> Metadata:
    """Return what the original said: known still, or kept beside the result."""
    if passage.metadata is not None:
        return passage.metadata
    try:
        data = await asyncio.to_thread(read_sidecar, parts.spool, _sidecar_name(passage.job))
        return Metadata() if data is None else loads(data)
    except (OSError, ValueError) as exc:
        passage.log.error("metadata.lost", error=str(exc))
        return Metadata()


# --- the file ------------------------------------------------------------------------------------


async def finish(parts: Parts, passage: Passage, spooled: Path) -> Finished:
    """Return what the file in the outbox is made of. Raises OSError or BrokenPngError."""
    found = await _metadata_of(parts, passage)
    try:
        return await _finish_with(parts, passage, spooled, found)
    except (OSError, BrokenPngError):
        raise
    except Exception as exc:
        # it would be met at every try, and the folder be held for as long
        passage.log.error("metadata.lost", error=f"a bug: {type(exc).__name__}", exc_info=exc)
    return await _finish_with(parts, passage, spooled, Metadata())


async def _finish_with(parts: Parts, passage: Passage, spooled: Path, found: Metadata) -> Finished:
    output, job = passage.folder.output, passage.job
    metadata = await parts.decode(_adapted, output, job, found)
    kind = _format_for(passage)
    if kind != "png":
        try:
            encoded = await parts.decode(
                parts.decoders.encode,
                spooled,
                kind,
                metadata,
                quality=output.quality,
                background=output.background,
            )
        except EncodeError as exc:
            passage.log.warning("result.as_png", wanted=kind, reason=str(exc))
        else:
            return _finished_encoding(passage, kind, encoded)
    return await asyncio.to_thread(_finish_png, spooled, metadata, stripped=output.stripped)


def _format_for(passage: Passage) -> str:
    """Return the format that is to be tried, and say where it is not the one that was asked for."""
    job = passage.job
    assert job.result_width is not None, "known since it was staged"
    assert job.result_height is not None, "known since it was staged"
    wanted = _wanted(passage.folder.output, passage.kind)
    kind = writable(wanted, width=job.result_width, height=job.result_height)
    if kind != wanted and passage.folder.output.format is not OutputFormat.SOURCE:
        size = f"{job.result_width} x {job.result_height}"
        passage.log.warning("result.as_png", wanted=wanted, reason=f"{size} is too large for it")
    return kind


def _finished_encoding(passage: Passage, kind: str, encoded: Encoded) -> Finished:
    if encoded.left_out:
        passage.log.warning("metadata.left_out", format=kind, kinds=list(encoded.left_out))
    return Finished(
        format=kind, pieces=(encoded.data,), sha256=hashlib.sha256(encoded.data).digest()
    )


def _finish_png(spooled: Path, metadata: Metadata, *, stripped: bool) -> Finished:
    """Plan the result with a block of metadata in it; blocks."""
    descriptor = os.open(spooled, os.O_RDONLY | os.O_CLOEXEC)
    try:
        made: Splice = splice(descriptor, metadata, stripped=stripped)
        sha256 = None if made.pure else digest_of(descriptor, made.pieces)
    finally:
        os.close(descriptor)
    return Finished(format="png", pieces=made.pieces, sha256=sha256)


def _adapted(output: Output, job: Job, found: Metadata) -> Metadata:
    """Return what the result is to say, by the folder's settings."""
    assert job.result_width is not None, "known since it was staged"
    assert job.result_height is not None, "known since it was staged"
    rules = MetadataRules(
        kinds=output.kinds,
        gps=output.gps is Gps.KEEP,
        dpi_scaled=output.dpi is Dpi.SCALE,
    )
    return adapt(
        found,
        rules,
        width=job.result_width,
        height=job.result_height,
        scale=_growth(job),
        provenance=_provenance(job) if output.provenance and not output.stripped else None,
    )


def _growth(job: Job) -> float:
    """Return how much larger the result is than the original, which may have been reduced first."""
    if job.source is None or job.result_width is None or job.result_height is None:
        return job.result_scale or 1.0
    return max(job.result_width / job.source.width, job.result_height / job.source.height)


def _provenance(job: Job) -> Mapping[str, object]:
    """Return what made the result: nothing that changes, and nothing of this machine."""
    return {
        "program": PROGRAM,
        "version": __version__,
        "preset": job.preset,
        "parameters": json.loads(job.parameters or "{}"),
        "source_sha256": None if job.source_sha256 is None else job.source_sha256.hex(),
        "scale": job.result_scale,
    }
