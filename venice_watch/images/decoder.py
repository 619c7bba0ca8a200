"""The fence around Pillow: one door for untrusted bytes, one way out for what goes wrong.

Rules: a file is shown only to the decoder its first bytes ask for; its size is judged before
anything is decoded; whatever Pillow raises (it raises nearly everything) leaves as an
`ImageRefusedError` with the cause chained; whatever it warns about is nobody's business here.
"""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.damage import KINDS_WITH_END, find_missing_end
from venice_watch.images.signature import RASTERS

PIXELS_DECODE_MAX = 200_000_000  # the largest cameras and scans; about 0.8 GB once decoded
_STOPS_EARLY = re.compile(r"truncated|unexpected end|not enough", re.IGNORECASE)
_MEGA = 1_000_000

# Pillow refuses at twice this figure, by the header, and its refusal becomes ours; also for what
# only shows while decoding (a giant inside an icon, a tile larger than its picture).
Image.MAX_IMAGE_PIXELS = PIXELS_DECODE_MAX // 2


class _Hush:
    """Keeps Pillow's warnings from print and from `-W error` while any thread is inside.

    `warnings.catch_warnings` alone swaps process-wide state and is undone in the wrong order when
    threads overlap, so the first one in sets the filter and the last one out takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                self._saved.__exit__(None, None, None)
                self._saved = None


_HUSH = _Hush()  # one for the process, as the filters it guards are


@contextmanager
def decoding(data: bytes, kind: str) -> Iterator[None]:
    """Turn everything Pillow raises inside into one refusal of `data`, which claims to be `kind`.

    Raises:
        ImageRefusedError: `too_large`, `incomplete` or `corrupt`.

    """
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "half a picture must never pass for a whole one"
    try:
        with _HUSH:
            yield
    except ImageRefusedError:
        raise
    except Image.DecompressionBombError as exc:
        counted = re.search(r"\((\d+) pixels\)", str(exc))
        raise _too_many_pixels(int(counted[1]) if counted else None) from exc
    except MemoryError as exc:
        raise ImageRefusedError(
            Code.TOO_LARGE, "There is not enough memory to decode it. Reduce it first."
        ) from exc
    except Exception as exc:
        raise _damaged(data, kind, exc) from exc


def open_image(data: bytes, kind: str) -> ImageFile.ImageFile:
    """Open `data` with the one decoder for `kind`, reading its header only; call in `decoding`."""
    return Image.open(io.BytesIO(data), formats=[RASTERS[kind].plugin])


def _too_many_pixels(pixels: int | None) -> ImageRefusedError:
    """Say that an image is too large to be decoded, and what to do."""
    size = f"It has {pixels / _MEGA:.1f} megapixels" if pixels else "It has too many pixels"
    return ImageRefusedError(
        Code.TOO_LARGE,
        f"{size}; at most {PIXELS_DECODE_MAX / _MEGA:.0f} are decoded. Reduce it first.",
    )


def _damaged(data: bytes, kind: str, exc: Exception) -> ImageRefusedError:
    """Tell what is missing from what is wrong."""
    short = find_missing_end(data, kind)
    if short is None and kind not in KINDS_WITH_END and _STOPS_EARLY.search(str(exc)):
        short = "its data stop early"
    if short is not None:
        return ImageRefusedError(
            Code.INCOMPLETE,
            f"This {kind.upper()} is not whole: {short}. Copy or download it again.",
        )
    return ImageRefusedError(
        Code.CORRUPT,
        f"This {kind.upper()} cannot be decoded. Open it in an image editor and save it again, "
        "or take it from its source again.",
    )
