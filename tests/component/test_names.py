"""Names that are left alone: the usual ones, a folder's own, and what is taken all the same."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.component.conftest import Place


def test_names(place: "Place", draw: Callable[..., bytes]) -> None:
    """Patterns of a folder add to the usual names and lift them; `status` counts what is left."""
    place.write(skip_names=["*_draft*", "rejects"], take_names=["#*"])
    for number, name in enumerate(("a.png", "#b.png", "#c/d.png")):
        place.drop(name, draw(number))
    left = ("a_Draft.png", "rejects/e.png", ".hidden.png", "f.png.part", "@eaDir/g.png")
    for name in left:
        place.drop(name, draw(9))
    place.drop("notes.txt", b"no picture")
    daemon = place.ready()
    place.wait_names("archive", {"a.png", "#b.png", "#c/d.png"})
    [folder] = json.loads(place.run("status", "--json").stdout)["folders"]
    assert folder["left_alone"] == {
        "names": {
            "hidden": 1,
            "named in `skip_names`": 1,
            "system folder": 2,
            "temporary": 1,
        },
        "no_images": 1,
    }
    shown = place.run("status").stdout
    assert "left alone in photos: 1 hidden, 1 named in `skip_names`" in shown
    assert "1 no image" in shown
    assert daemon.stop() == 0
    assert place.names("inbox") == {*left, "notes.txt"}
    why = place.run("why", str(place.inbox / "a_Draft.png"))
    assert "`skip_names`" in why.stdout + why.stderr
