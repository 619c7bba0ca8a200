"""Everything that decodes a picture, done by processes that may die of it: see `workshop`.

Rules: each method blocks and answers as the function of its name does, by which `tasks` does it;
what a picture may take of time goes by its size. Nothing here shows hostile bytes to a decoder.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from venice_watch.errors import ImageRefusedError
from venice_watch.images.channel import lent
from venice_watch.images.encode import Encoded, EncodeError
from venice_watch.images.frames import Frame, FrameSet
from venice_watch.images.metadata import Metadata, dumps, loads
from venice_watch.images.prepare import Prepared
from venice_watch.images.probe import Probe
from venice_watch.images.tasks import METADATA_BYTES_MAX
from venice_watch.images.workshop import Reply, Workshop
from venice_watch.parameters import RESULT_PIXELS_MAX, UPLOAD_BYTES_MAX

LEAST_S = 5  # of CPU, for whatever is asked of a picture
PIXELS_A_SECOND = 2_000_000  # a tenth of what the slowest decoder does on a small machine
# Of results in other formats. Noise as AVIF is the slowest: 15 s for 16.8 megapixels, measured on
# a core of a server; a photograph takes 3 to 4, and small machines five times as long.
ENCODED_PIXELS_A_SECOND = 150_000
RESULT_BYTES_MAX = 200_000_000  # a result of 16.8 megapixels without any compression is half of it
_PROFILE_BYTES_MAX = 16_000_000


class Decoders:
    """Asks a workshop; safe to use from several threads."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def look(self, data: bytes) -> tuple[Probe, Metadata]:
        """Return what a file is, and what it says beside its pixels.

        Raises ImageRefusedError.
        """
        reply = self._ask("look", data, bytes_max=METADATA_BYTES_MAX)
        facts = reply.facts["probe"]
        assert isinstance(facts, dict), "a probe"
        return Probe(**facts), Metadata() if reply.data is None else loads(reply.data)

    def find_frames(
        self, data: bytes, kind: str, *, canvas: tuple[int, int], count_max: int
    ) -> FrameSet:
        """Return the frames of a file. Raises ImageRefusedError."""
        reply = self._ask("find_frames", data, kind=kind, canvas=canvas, count_max=count_max)
        count, rows = reply.facts["count"], reply.facts["frames"]
        assert isinstance(count, int), "a number"
        assert isinstance(rows, list), "frames"
        frames = tuple(Frame(position=at, width=wide, height=high) for at, wide, high in rows)
        return FrameSet(count=count, frames=frames)

    def check_frames(self, data: bytes, kind: str, frames: Sequence[Frame]) -> None:
        """Decode every frame of a file. Raises ImageRefusedError."""
        pixels = sum(frame.width * frame.height for frame in frames)
        rows = [(frame.position, frame.width, frame.height) for frame in frames]
        self._ask("check_frames", data, pixels=pixels, kind=kind, frames=rows)

    def prepare(
        self,
        data: bytes,
        probe: Probe,
        *,
        position: int,
        width: int,
        height: int,
        flatten: tuple[int, int, int] | None = None,
    ) -> Prepared:
        """Return what to send of the frame at `position`; `probe` is of the file's first one.

        Raises ImageRefusedError.
        """
        reply = self._ask(
            "prepare",
            data,
            # frames of a film are made of those before them
            pixels=max(probe.width * probe.height, width * height) * (position + 1),
            bytes_max=UPLOAD_BYTES_MAX + _PROFILE_BYTES_MAX,
            probe=asdict(probe),
            position=position,
            width=width,
            height=height,
            flatten=flatten,
        )
        facts, blob = reply.facts, reply.data or b""
        split = int(str(facts.pop("profile_bytes")))
        converted = bool(facts.pop("converted"))
        return Prepared(
            data=blob[split:] if converted else data,
            converted=converted,
            profile=blob[:split] or None,
            **facts,  # type: ignore[arg-type] # a Prepared's
        )

    def encode(
        self,
        result: Path,
        kind: str,
        metadata: Metadata,
        *,
        quality: int,
        background: tuple[int, int, int],
    ) -> Encoded:
        """Return a whole PNG in another format. Raises EncodeError, or OSError."""
        words = b"" if metadata == Metadata() else dumps(metadata)
        descriptor = os.open(result, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with lent(words) as beside:
                reply = self._workshop.run(
                    "encode",
                    [descriptor, beside],
                    cpu_s=LEAST_S + RESULT_PIXELS_MAX // ENCODED_PIXELS_A_SECOND,
                    bytes_max=RESULT_BYTES_MAX,
                    kind=kind,
                    metadata_bytes=len(words),
                    quality=quality,
                    background=background,
                )
        except ImageRefusedError as exc:  # its encoder died of it, or took too long
            raise EncodeError(f"it cannot be written as {kind}: {exc}") from exc
        finally:
            os.close(descriptor)
        if "failed" in reply.facts:
            raise EncodeError(str(reply.facts["failed"]))
        left_out = reply.facts["left_out"]
        assert isinstance(left_out, list), "kinds of metadata"
        return Encoded(data=reply.data or b"", left_out=tuple(left_out))

    def decode_again(self, data: bytes, kind: str) -> bytes:
        """Return the pixels of a file that `encode` made, as a PNG. Raises ImageRefusedError."""
        reply = self._ask(
            "decode_again", data, pixels=RESULT_PIXELS_MAX, bytes_max=RESULT_BYTES_MAX, kind=kind
        )
        return reply.data or b""

    def _ask(
        self, task: str, data: bytes, *, pixels: int = 0, bytes_max: int = 0, **facts: object
    ) -> Reply:
        with lent(data) as descriptor:
            return self._workshop.run(
                task, [descriptor], cpu_s=_limit_s(pixels), bytes_max=bytes_max, **facts
            )


@contextlib.contextmanager
def opened() -> Iterator[Decoders]:
    """Yield decoders of one process, which ends with them."""
    workshop = Workshop(1)
    try:
        yield Decoders(workshop)
    finally:
        workshop.close()


def _limit_s(pixels: int) -> int:
    return LEAST_S + pixels // PIXELS_A_SECOND
