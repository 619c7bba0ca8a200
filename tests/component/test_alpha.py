"""What becomes of transparency on the way to Venice."""

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.component.conftest import Place

BACKGROUND = (18, 52, 86)


def half_transparent() -> bytes:
    """Return a PNG whose left half is red, and whose right half cannot be seen."""
    picture = Image.new("RGBA", (320, 300), (0, 0, 0, 0))
    picture.paste((200, 30, 40, 255), (0, 0, 160, 300))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("alpha", ["keep", "flatten"])
def test_alpha(place: "Place", alpha: str) -> None:
    """Transparency is sent, or laid on the folder's colour first."""
    place.write(alpha=alpha, output={"background": "#123456"})
    place.drop("a.png", half_transparent())
    assert place.once()[0] == 0
    with Image.open(place.outbox / "a.png") as result:
        result.load()
        seen, hidden = result.getpixel((20, 300)), result.getpixel((620, 300))
    assert isinstance(seen, tuple)
    assert isinstance(hidden, tuple)
    assert seen[:3] == (200, 30, 40)
    if alpha == "keep":
        assert hidden[3:] == (0,)
    else:
        assert hidden == BACKGROUND
