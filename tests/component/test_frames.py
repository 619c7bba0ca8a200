"""Animations and files of several pages: each frame is an image, and the file is one file."""

import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageCms

from tests.component.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

PRICE = 20_000  # micro-USD for one image at scale 2
SIZE = (256, 256)


def picture(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a picture that no other number has."""
    gradient = Image.linear_gradient("L").resize(size)
    image = Image.merge(
        "RGB", (gradient, Image.new("L", size, number * 37 % 256), gradient.rotate(90).resize(size))
    )
    return image.quantize(64).convert("RGB")  # so that a GIF keeps it as it is


def film(numbers: "Sequence[int]", kind: str = "GIF") -> bytes:
    """Return an animation of these pictures."""
    out = io.BytesIO()
    first, *rest = map(picture, numbers)
    first.save(
        out,
        kind,
        save_all=True,
        append_images=rest,
        duration=list(range(50, 50 + 10 * len(numbers), 10)),
    )
    return out.getvalue()


def document(sizes: "Sequence[tuple[int, int]]") -> bytes:
    """Return a TIFF with a page of each size."""
    out = io.BytesIO()
    first, *rest = [picture(number, size) for number, size in enumerate(sizes)]
    first.save(out, "TIFF", save_all=True, append_images=rest)
    return out.getvalue()


def numbered(stem: str, *numbers: int) -> set[str]:
    """Return the names of the results of these frames."""
    return {f"{stem}-{number:02}.png" for number in numbers}


def looks_like(data: bytes, number: int) -> bool:
    """Tell whether a result is of the picture of this number."""
    with Image.open(io.BytesIO(data)) as image:
        found = image.convert("RGB").getpixel((10, 10))
    wanted = picture(number).getpixel((5, 5))
    assert isinstance(found, tuple)
    assert isinstance(wanted, tuple)
    return abs(found[1] - wanted[1]) < 8


def test_every_frame_is_upscaled(place: "Place", venice: "Venice") -> None:
    """Each frame of a GIF has a result and a price, and the original is put away once."""
    place.write(frames="all")
    data = film([1, 2, 3])
    place.drop("a.gif", data)
    code, program = place.once()
    assert code == 0, program.stderr
    results = place.read("outbox")
    assert set(results) == numbered("a", 1, 2, 3)
    assert [looks_like(results[f"a-{n:02}.png"], n) for n in (1, 2, 3)] == [True] * 3
    assert place.read("archive") == {"a.gif": data}
    assert place.names("inbox") == place.names("quarantine") == set()
    assert venice.totals()["charges"] == 3
    assert place.money() == {"charged": 3 * PRICE}
    assert "1 upscaled (3 results), 0 quarantined, 0.06 USD" in program.stdout
    told = [(one["frame"], one["frames"]) for one in program.find("image.completed")]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert place.unaccounted() == set()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_every_kind_of_frames(place: "Place", venice: "Venice", kind: str) -> None:
    """APNG, animated WebP, sequences of AVIF and paged TIFF are files with frames as well."""
    place.write(frames="all")
    place.drop("a.x.png", film([1, 2], kind))
    assert place.once()[0] == 0
    results = place.read("outbox")
    assert set(results) == numbered("a.x", 1, 2)
    assert all(looks_like(results[f"a.x-{n:02}.png"], n) for n in (1, 2))
    assert venice.totals()["charges"] == 2


def test_a_picture_is_named_as_ever(place: "Place", draw: "Draw") -> None:
    """With `frames: all` nothing changes for a file that has one frame."""
    place.write(frames="all")
    place.drop("a.png", draw(1))
    place.drop("b.gif", film([1]))
    code, program = place.once()
    assert code == 0
    assert place.names("outbox") == {"a.png", "b.png"}
    assert "2 upscaled, 0 quarantined" in program.stdout
    assert [one for one in program.events if "frame" in one] == []


def test_pages_of_different_sizes(place: "Place", venice: "Venice") -> None:
    """Each page is fitted by its own size; one that is too small is left out, and that is said."""
    place.write(frames="all", output={"name": "p{frame}_{width}.{ext}"})
    place.drop("a.tif", document([(300, 280), (100, 90), (500, 400), (3_000, 2_000)]))
    code, program = place.once()
    assert code == 0, program.stderr
    sizes = place.sizes()
    assert sizes["p01_600.png"] == (600, 560)
    assert sizes["p02_1000.png"] == (1_000, 800)
    [large] = sizes.keys() - {"p01_600.png", "p02_1000.png"}
    assert large.startswith("p03_")
    assert 16_000_000 < sizes[large][0] * sizes[large][1] <= 16_777_216
    assert venice.totals()["charges"] == 3
    [left] = program.find("image.pages_left_out")
    assert left["pages"] == [2]
    assert place.names("archive") == {"a.tif"}


def test_a_profile_is_its_own_pages(place: "Place", venice: "Venice") -> None:
    """What is kept for a page's delivery is not what was kept for the page before it."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    out = io.BytesIO()
    first, second = picture(1), picture(2)
    first.info["icc_profile"] = srgb
    first.save(out, "TIFF", save_all=True, append_images=[second])
    place.write(frames="all")
    venice.change(latency_s=1.0)
    place.drop("a.tif", out.getvalue())
    daemon = place.start()
    venice.wait(received=1)
    assert [one for one in place.names("state/spool") if one.endswith(".meta")]
    venice.wait(received=2)
    assert not [one for one in place.names("state/spool") if one.endswith(".meta")]
    daemon.kill()


def test_a_thumbnail_before_the_page(place: "Place", venice: "Venice") -> None:
    """A file of one page and its thumbnail is one picture: the page, named as ever."""
    out = io.BytesIO()
    small, page = picture(1, (260, 256)), picture(2, (300, 280))
    page.encoderinfo = {"tiffinfo": {254: 0}}
    small.save(out, "TIFF", save_all=True, append_images=[page], tiffinfo={254: 1})
    place.write(frames="all")
    place.drop("a.tif", out.getvalue())
    assert place.once()[0] == 0
    assert place.sizes() == {"a.png": (600, 560)}
    assert venice.totals()["charges"] == 1


def test_a_large_page_is_found_before_anything_is_paid(place: "Place", venice: "Venice") -> None:
    """A page whose result would be too large is named, and no page is paid for."""
    place.write(frames="all", oversize="reject")
    place.drop("a.tif", document([(300, 280), (3_000, 2_000)]))
    assert place.once()[0] == 1
    report = place.report("a.tif")
    assert report["code"] == "too_large"
    assert report["message"].startswith("a.tif: Frame 2 of 2: It is 3000 x 2000")
    assert venice.upscales() == []


def test_damage_in_the_middle_is_found_before_anything_is_paid(
    place: "Place", venice: "Venice"
) -> None:
    """A GIF whose later frames are damaged costs nothing."""
    place.write(frames="all")
    data = film([1, 2, 3])
    place.drop("a.gif", data[: len(data) * 9 // 10] + b"\x00;")
    assert place.once()[0] == 1
    assert "Frame 3 of 3" in place.report("a.gif")["message"]
    assert venice.upscales() == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frames": "reject"}, "It has 3 frames, and this folder takes files with one"),
        (
            {"frames": "all", "frames_max": 2},
            "It has 3 frames, and `frames_max` of this folder is 2",
        ),
    ],
)
def test_too_many(
    place: "Place", venice: "Venice", draw: "Draw", settings: dict[str, object], words: str
) -> None:
    """A file with more frames than the folder takes is quarantined unpaid; others go on."""
    place.write(**settings)
    place.drop("a.gif", film([1, 2, 3]))
    place.drop("b.png", draw(1))
    assert place.once()[0] == 1
    report = place.report("a.gif")
    assert report["code"] == "too_many_frames"
    assert words in report["message"]
    assert "frames: first" in report["message"]
    assert place.names("outbox") == {"b.png"}
    assert venice.totals()["charges"] == 1


def test_the_first_only(place: "Place", venice: "Venice") -> None:
    """Without the key the first frame is the image."""
    place.drop("a.gif", film([1, 2, 3]))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png"}
    assert venice.totals()["charges"] == 1


def test_killed_in_the_middle(place: "Place", venice: "Venice") -> None:
    """After a death the frames before are neither paid nor delivered again."""
    place.write(frames="all")
    place.drop("a.gif", film([1, 2, 3, 4]))
    venice.change(latency_s=0.5)
    daemon = place.ready()
    daemon.wait_event("image.completed", frame=2)
    before = {name: (place.outbox / name).stat() for name in numbered("a", 1, 2)}
    daemon.kill()
    assert place.names("inbox") == {"a.gif"}
    venice.change(latency_s=0.0)
    assert place.once()[0] == 0
    assert place.names("outbox") == numbered("a", 1, 2, 3, 4)
    for name, status in before.items():
        now = (place.outbox / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    charged = venice.charged()
    doubts = place.money().get("unknown", 0) // PRICE
    assert len(set(charged)) == 4
    assert len(charged) <= 4 + doubts
    assert doubts <= 1
    assert place.names("archive") == {"a.gif"}


def test_doubts_are_a_frames_own(place: "Place", venice: "Venice") -> None:
    """Each frame may be in doubt as often as an image may: the one resend is not its file's."""
    place.write(frames="all")
    for after in (0, 2, 4):  # requests: each frame is in doubt once and then gets through
        venice.fail("close_after_body", after=after, times=1)
    place.drop("a.gif", film([1, 2, 3]))
    code, program = place.once()
    assert code == 0, program.stderr
    assert place.names("outbox") == numbered("a", 1, 2, 3)
    told = [(one["frame"], one["outcome"]) for one in program.find("request.failed")]
    assert told == [(1, "doubtful"), (2, "doubtful"), (3, "doubtful")]


@pytest.mark.parametrize("duplicates", ["reuse", "skip"])
def test_a_frame_that_fails(place: "Place", venice: "Venice", duplicates: str) -> None:
    """A frame that fails for good takes its file with it; what was paid before is kept.

    Taken back, the file costs what is missing, and has no result twice.
    """
    place.write(frames="all", duplicates=duplicates)
    data = film([1, 2, 3])
    venice.fail("rejected", after=1, times=1)
    place.drop("sub/a.gif", data)
    code, program = place.once()
    assert code == 1
    report = place.report("sub/a.gif")
    assert report["code"] == "rejected"
    assert report["message"].startswith("a.gif: frame 2 of 3: Venice refused it")
    assert (report["frame"], report["frames"]) == (2, 3)
    assert report["results"] == [str(place.outbox / "sub/a-01.png")]
    assert [one["frame"] for one in report["attempts"]] == [1, 2]
    assert report["charged_usd"] == PRICE / 1e6
    assert place.names("outbox") == {"sub/a-01.png"}
    first = (place.outbox / "sub/a-01.png").stat()

    told = json.loads(place.run("plan", "--json", "--offline").stdout)
    assert told["folders"][0]["files"] == []
    assert place.run("retry", "--all").process.returncode == 0
    [planned] = json.loads(place.run("plan", "--json", "--offline").stdout)["folders"][0]["files"]
    assert (planned["verdict"], planned["frames"], planned["usd"]) == ("send", 3, 0.04)
    assert planned["message"] == "2 frames are still to be paid for"
    code, program = place.once()
    assert code == 0, program.stderr
    assert place.names("outbox") == {f"sub/{name}" for name in numbered("a", 1, 2, 3)}
    again = (place.outbox / "sub/a-01.png").stat()
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert venice.totals()["charges"] == 3
    assert place.read("archive") == {"sub/a.gif": data}
    assert place.names("quarantine") == set()
    assert "1 upscaled (3 results, 1 of them from earlier results, free)" in program.stdout


@pytest.mark.parametrize("conflict", ["rename", "overwrite", "skip"])
def test_taken_back_with_something_in_the_way(
    place: "Place", venice: "Venice", draw: "Draw", conflict: str
) -> None:
    """What lies under a frame's name and is not its result is treated as any other file."""
    place.write(frames="all", output={"on_conflict": conflict})
    venice.fail("rejected", after=1, times=1)
    place.drop("a.gif", film([1, 2]))
    assert place.once()[0] == 1
    other = draw(9, (512, 512))
    (place.outbox / "a-02.png").write_bytes(other)
    assert place.run("retry", "--all").process.returncode == 0
    code, program = place.once()
    assert code == 0, program.stderr
    kept = place.read("outbox")["a-02.png"] == other
    assert kept == (conflict != "overwrite")
    extra = set() if conflict == "overwrite" else {"a-02-1.png"}
    assert place.names("outbox") == numbered("a", 1, 2) | extra
    assert place.names("archive") == {"a.gif"}


def test_a_file_in_the_way_is_skipped_by_its_first_frame(
    place: "Place", venice: "Venice", draw: "Draw"
) -> None:
    """With `on_conflict: skip` a file stays whose first result would be in another's place."""
    place.write(frames="all", output={"on_conflict": "skip"})
    (place.outbox / "a-01.png").write_bytes(draw(9, (512, 512)))
    place.drop("a.gif", film([1, 2]))
    for _ in range(2):
        assert place.once()[0] == 0
    assert place.names("inbox") == {"a.gif"}
    assert venice.upscales() == []


@pytest.mark.parametrize("duplicates", ["reuse", "skip", "process"])
def test_the_same_file_again(place: "Place", venice: "Venice", duplicates: str) -> None:
    """An animation that comes again is free, stays, or is paid for, as a picture would be."""
    place.write(frames="all", duplicates=duplicates)
    data = film([1, 2, 3])
    place.drop("a.gif", data)
    assert place.once()[0] == 0
    place.drop("b.gif", data)
    planned = json.loads(place.run("plan", "--json", "--offline").stdout)["folders"][0]["files"][0]
    assert place.once()[0] == 0
    verdict = {"reuse": "free", "skip": "skip", "process": "send"}[duplicates]
    assert planned["verdict"] == verdict
    assert venice.totals()["charges"] == (6 if duplicates == "process" else 3)
    copied = set() if duplicates == "skip" else numbered("b", 1, 2, 3)
    assert place.names("outbox") == numbered("a", 1, 2, 3) | copied
    assert place.names("inbox") == ({"b.gif"} if duplicates == "skip" else set())


def test_results_that_were_kept_nowhere_else(place: "Place", venice: "Venice") -> None:
    """With nothing kept in the state folder, the results of all frames are found where they lie."""
    place.write(frames="all")
    facts = json.loads(place.config.read_text()) | {"keep_results": 0}
    place.config.write_text(json.dumps(facts))
    data = film([1, 2, 3])
    place.drop("a.gif", data)
    assert place.once()[0] == 0
    place.drop("b.gif", data)
    assert place.once()[0] == 0
    assert place.names("outbox") == numbered("a", 1, 2, 3) | numbered("b", 1, 2, 3)
    assert venice.totals()["charges"] == 3


def test_results_had_again_from_delivered_files(place: "Place", venice: "Venice") -> None:
    """With nothing kept, each frame is had again from its own file in the other format."""
    place.write(frames="all", output={"format": "tiff"})
    data = film([1, 2, 3])
    place.drop("a.gif", data)
    assert place.once()[0] == 0
    for one in (place.state / "spool").iterdir():
        one.unlink()
    place.drop("b.gif", data)
    code, program = place.once()
    assert code == 0, program.stderr
    assert venice.totals()["charges"] == 3
    results = place.read("outbox")
    assert [looks_like(results[f"b-{n:02}.tif"], n) for n in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize("duplicates", ["reuse", "skip"])
def test_frames_that_repeat(place: "Place", venice: "Venice", duplicates: str) -> None:
    """A frame that was there before in its file is delivered under its own number, free."""
    place.write(frames="all", duplicates=duplicates)
    place.drop("a.gif", film([1, 2, 1]))
    assert place.once()[0] == 0
    results = place.read("outbox")
    assert set(results) == numbered("a", 1, 2, 3)
    assert results["a-01.png"] == results["a-03.png"] != results["a-02.png"]
    assert venice.totals()["charges"] == 2


def test_twins_at_once(place: "Place", venice: "Venice") -> None:
    """Two copies of an animation that come at once are paid for once."""
    place.write(frames="all")
    venice.change(latency_s=0.1)
    data = film([1, 2, 3])
    for name in ("a.gif", "b.gif"):
        place.drop(name, data)
    assert place.once()[0] == 0
    assert place.names("outbox") == numbered("a", 1, 2, 3) | numbered("b", 1, 2, 3)
    assert venice.totals()["charges"] == 3
    assert place.names("archive") == {"a.gif", "b.gif"}


def test_a_file_is_finished_before_another_is_begun(
    place: "Place", venice: "Venice", draw: "Draw"
) -> None:
    """The next frame goes before what waits: others come between only while it is prepared."""
    place.write(frames="all", api={"concurrency": 1}, concurrency=1)
    venice.change(latency_s=0.2)
    place.drop("a.gif", film([1, 2, 3, 4]))
    daemon = place.ready()
    daemon.wait_event("image.completed", frame=1)
    for number in range(12):
        place.drop(f"p{number}.png", draw(number))
    daemon.wait_event("image.completed", times=16)
    assert daemon.stop() == 0
    names = [event["path"] for event in daemon.find("image.completed")]
    last = len(names) - 1 - names[::-1].index("a.gif")
    # one for each frame, and what was read ahead
    assert len(set(names[:last]) - {"a.gif"}) <= 3 + 2, names
    assert venice.totals()["charges"] == 16


def test_a_budget_in_the_middle(place: "Place", venice: "Venice") -> None:
    """A budget that is reached holds the file where it is, and it goes on with more of it."""
    place.write(frames="all", budget={"per_month_usd": 0.05})
    place.drop("a.gif", film([1, 2, 3, 4]))
    code, program = place.once()
    assert code == 75, program.stdout
    assert place.names("outbox") == numbered("a", 1, 2)
    assert place.names("inbox") == {"a.gif"}
    assert venice.totals()["charges"] == 2
    [told] = json.loads(place.run("why", "--json", "a.gif").stdout)["jobs"]
    assert (told["frame"], told["frames"], told["state"]) == (3, 4, "available")
    assert [one["frame"] for one in told["results"]] == [1, 2]
    place.write(frames="all")
    assert place.once()[0] == 0
    assert place.names("outbox") == numbered("a", 1, 2, 3, 4)
    assert venice.totals()["charges"] == 4


def test_begun_is_finished_as_begun(place: "Place", venice: "Venice") -> None:
    """A change of `frames` is for files that come: one in the middle goes on."""
    place.write(frames="all", budget={"per_month_usd": 0.03})
    place.drop("a.gif", film([1, 2, 3]))
    assert place.once()[0] == 75
    place.write(frames="reject")
    assert place.once()[0] == 0
    assert place.names("outbox") == numbered("a", 1, 2, 3)
    assert venice.totals()["charges"] == 3


def test_changed_in_the_middle(place: "Place", venice: "Venice") -> None:
    """A file that is written again in the middle is a new file, from its first frame on."""
    place.write(frames="all")
    venice.change(latency_s=1.0)
    first, second = film([1, 2, 3]), film([4, 5])
    place.drop("a.gif", first)
    daemon = place.ready()
    daemon.wait_event("image.completed", frame=1)
    place.drop("a.gif", second)
    daemon.wait_event("image.completed", frame=2, frames=2)
    wait_until(lambda: place.names("archive") == {"a.gif"}, "the new version is done")
    assert daemon.stop() == 0
    results = place.read("outbox")
    assert any(looks_like(results[name], 5) for name in results)
    assert venice.totals()["charges"] <= 4, daemon.stderr


def test_what_is_told(place: "Place", draw: "Draw") -> None:
    """`plan`, `history`, `why` and `status` speak of frames where there are several."""
    place.write(frames="all")
    place.drop("a.gif", film([1, 2, 3]))
    place.drop("b.png", draw(1))
    plan = json.loads(place.run("plan", "--json", "--offline").stdout)
    files = {one["path"]: one for one in plan["folders"][0]["files"]}
    assert (files["a.gif"]["frames"], files["a.gif"]["usd"]) == (3, 0.06)
    assert (files["b.png"]["frames"], files["b.png"]["usd"]) == (1, 0.02)
    assert "3 frames, each a result" in files["a.gif"]["notes"]
    assert plan["totals"]["usd"] == 0.08
    said = place.run("plan", "--offline").stdout
    assert "4 images of 2 files to send for 0.08 USD" in said
    assert "of 3 frames" not in said
    assert place.once()[0] == 0
    history = {one["path"]: one for one in json.loads(place.run("history", "--json").stdout)}
    results = [str(place.outbox / f"a-{number:02}.png") for number in (1, 2, 3)]
    assert (history["a.gif"]["frames"], history["a.gif"]["results"]) == (3, results)
    assert (history["b.png"]["frames"], history["b.png"]["results"]) == (1, [])
    assert "3 of 3 frames" in place.run("history").stdout
    for name in ("a.gif", str(place.outbox / "a-02.png")):  # by any of its results
        said = place.run("why", name).stdout
        assert "  frame     3 of 3\n" in said
        assert "  request   frame 2, " in said
        assert all(result in said for result in results)
    assert "photos/a.gif, frame 3 of 3" in place.run("status").stdout
