"""Which frames of a file are worked on, and whether each of them can be: free to find out.

Rules: a file that was begun goes on as it was begun, whatever the configuration says by now. What
is wrong with any frame is found before the first is paid for. A page that is too small for Venice
is left out, as thumbnails are: for its sake the other pages would not come out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from venice_watch.config.model import Folder
from venice_watch.config.model import Frames as Which
from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.decoders import Decoders
from venice_watch.images.frames import PAGES_MAX, Frame
from venice_watch.images.probe import Probe, upright_size
from venice_watch.job import Job
from venice_watch.parameters import PIXELS_MIN, SIDE_MIN_PX


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The frames of a file that are worked on, one at least."""

    frames: tuple[Frame, ...]
    left_out: tuple[int, ...] = ()  # pages that are too small, from 1


def find(decoders: Decoders, folder: Folder, job: Job, data: bytes, found: Probe) -> Wanted:
    """Return which frames of a file are worked on; `found` is its first picture. Blocks.

    Raises ImageRefusedError where the folder does not take a file with so many.
    """
    canvas = upright_size(found)
    first = Wanted(frames=(Frame(position=0, width=canvas[0], height=canvas[1]),))
    if not job.frame and folder.frames is Which.FIRST:
        return first
    count_max = folder.frames_max if folder.frames is Which.ALL else 1
    count_max = PAGES_MAX - 1 if job.frame else count_max
    there = decoders.find_frames(data, found.format, canvas=canvas, count_max=count_max)
    if there.count > count_max:
        raise ImageRefusedError(Code.TOO_MANY_FRAMES, _too_many(folder, found, there.count))
    large = tuple(frame for frame in there.frames if _is_large_enough(frame))
    small = tuple(n for n, frame in enumerate(there.frames, start=1) if frame not in large)
    # nothing but small ones: the first one's refusal has the numbers
    return Wanted(frames=large, left_out=small) if large else first


def check(
    decoders: Decoders,
    data: bytes,
    kind: str,
    frames: Sequence[Frame],
    fit_of: Callable[[int, int], object],
) -> None:
    """Make sure that each of several frames can be sent and decoded; blocks.

    `fit_of` takes width and height. Raises ImageRefusedError, naming the frame.
    """
    if len(frames) == 1:
        return
    for number, frame in enumerate(frames, start=1):
        try:
            fit_of(frame.width, frame.height)
        except ImageRefusedError as exc:
            which = f"Frame {number} of {len(frames)}"
            raise ImageRefusedError(exc.code, f"{which}: {exc.message}") from exc
    decoders.check_frames(data, kind, frames)


def _is_large_enough(frame: Frame) -> bool:
    sides = (frame.width, frame.height)
    return min(sides) >= SIDE_MIN_PX and frame.width * frame.height >= PIXELS_MIN


def _too_many(folder: Folder, found: Probe, count: int) -> str:
    what = "pages" if found.format == "tiff" else "frames"
    number = f"{count:,} {what}" if count < PAGES_MAX else f"{PAGES_MAX:,} {what} or more"
    if folder.frames is Which.REJECT:
        return (
            f"It has {number}, and this folder takes files with one: `frames` is `reject`. Set "
            "`frames: first` to upscale the first of them, or `frames: all` for each of them."
        )
    return (
        f"It has {number}, and `frames_max` of this folder is {folder.frames_max:,}: each would "
        "be paid for. Set a larger `frames_max` (10,000 at most), or `frames: first`."
    )
