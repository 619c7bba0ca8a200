"""Eight small pictures for `demo`, drawn from nothing, the same pixels on every run.

Rules: everything is drawn at twice its size and reduced, as a lens would; chance comes from a seed
of its own; each picture has something that upscaling brings out (lettering, foliage, fine lines),
and together they cover the formats, a photograph lying on its side, and transparency.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from venice_watch.cli.brushes import (
    OPAQUE,
    Colour,
    below,
    clouds,
    dice,
    finish,
    glow,
    gradient,
    levels,
    mix,
    noise,
    ridge,
    ripple,
)
from venice_watch.cli.contact_sheet import ContactRow, make_contact_sheet
from venice_watch.cli.prints import banknote, compass, fractal, poster

__all__ = ["ContactRow", "draw_pictures", "make_contact_sheet"]

ON_ITS_SIDE = 6  # EXIF: turn clockwise to see it upright
BLOOM_FROM = 150  # brightness above which light spills over
WITH_MAST, UNLIT = 0.35, 0.4  # shares of the towers
WIDEST = 0.42  # where a balloon is widest, from its top
JPEG_QUALITY = 88  # a camera's everyday setting


def draw_pictures(folder: Path) -> list[Path]:
    """Draw all pictures into `folder`; return their paths, in the order to show them."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = ON_ITS_SIDE
    camera: dict[str, Any] = {"quality": JPEG_QUALITY, "subsampling": 0}
    lying = _balloons().transpose(Image.Transpose.ROTATE_90)
    pictures: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("lake-at-dusk.jpg", _lake(), camera),
        ("city-at-night.png", _city(), {}),
        ("still-life.tif", _still_life(), {"compression": "tiff_lzw"}),
        ("travel-poster.png", poster(), {}),
        ("balloons.jpg", lying, {**camera, "exif": exif}),
        ("seahorse-valley.webp", fractal(), {"quality": 92, "method": 2}),
        ("banknote.bmp", banknote(), {}),
        ("compass-rose.webp", compass(), {"lossless": True}),
    ]
    for name, picture, options in pictures:
        picture.save(folder / name, **options)
    return [folder / name for name, _, _ in pictures]


def _lake() -> Image.Image:
    """Draw mountains at dusk above the water that mirrors them."""
    width, height, shore = 1280, 840, 500
    sky = gradient(
        (width, shore),
        [
            (0.0, (22, 30, 72)),
            (0.28, (84, 70, 132)),
            (0.46, (208, 112, 118)),
            (0.6, (255, 176, 112)),
            (0.75, (255, 226, 168)),
        ],
    )
    veil = levels(clouds(sky.size, (5, 12), 11), 128, 210, 190)
    lit = gradient(sky.size, [(0.0, (120, 84, 140)), (0.6, (250, 142, 124)), (1, (255, 214, 160))])
    sky.paste(lit, (0, 0), veil)
    sky = glow(sky, (820, 330), 460, (255, 168, 84))
    _lake_mountains(sky)
    picture = Image.new("RGB", (width, height))
    mirror = ImageOps.flip(sky).resize((width, height - shore))
    tint = gradient(mirror.size, [(0.0, (196, 178, 190)), (1.0, (70, 84, 126))])
    water = ripple(ImageChops.multiply(mirror, tint), 5, 9)
    picture.paste(water, (0, shore))
    picture.paste(sky, (0, 0))
    chance, pen = dice(9), ImageDraw.Draw(picture)
    for _ in range(420):  # the sun's path on the water
        depth = chance.random() ** 1.4
        x = 820 + chance.gauss(0, 26 + 90 * depth)
        y = shore + 6 + depth * (height - shore)
        reach = 3 + 22 * depth * chance.random()
        shade = mix((255, 226, 170), (206, 120, 120), depth)
        pen.line((x - reach, y, x + reach, y), fill=shade, width=1 + round(depth * 1.4))
    return finish(picture, 1)


def _lake_mountains(sky: Image.Image) -> None:
    """Stack ranges from the haze to the near shore with its firs."""
    width, shore = sky.size
    ranges: list[tuple[float, float, Colour, Colour, int]] = [
        (330, 150, (146, 108, 150), (240, 170, 146), 21),
        (390, 210, (84, 72, 124), (200, 130, 134), 37),
        (446, 80, (52, 50, 92), (120, 84, 112), 48),
    ]
    for middle, swing, top, foot, seed in ranges:
        line = ridge(width, middle, swing, seed)
        peak = min(line) / shore
        rock = gradient(sky.size, [(0, top), (peak, top), (1.0, foot)])
        mask = below(sky.size, line)
        sky.paste(rock, (0, 0), mask)
        shifted = ImageChops.offset(mask, -14, 18)  # faces turned to the sun catch its light
        faces = ImageChops.multiply(
            clouds(sky.size, (40, 16), seed), ImageChops.subtract(mask, shifted)
        )
        sky.paste(mix(foot, (255, 196, 150), 0.6), (0, 0), levels(faces, 80, 220, 210))
    chance, pen = dice(3), ImageDraw.Draw(sky)
    bank = ridge(width, 486, 10, 77)
    pen.polygon([(0, shore), *enumerate(bank), (width, shore)], fill=(14, 17, 32))
    for _ in range(330):
        x = chance.triangular(0, width, chance.choice((0, width)))
        tall = chance.uniform(16, 66) * (0.45 + abs(x / width - 0.55))
        _fir(pen, x, bank[min(width - 1, round(x))] + 6, tall, chance)


def _fir(
    pen: ImageDraw.ImageDraw, x: float, foot: float, tall: float, chance: random.Random
) -> None:
    shade = mix((10, 13, 26), (30, 32, 52), chance.random())
    tiers = max(4, round(tall / 7))
    for tier in range(tiers):
        top = foot - tall + tier * tall / tiers * 0.92
        spread = tall * (0.05 + 0.21 * (tier + 1) / tiers) * chance.uniform(0.8, 1.2)
        edge = top + tall / tiers * 1.7
        pen.polygon([(x, top), (x - spread, edge), (x + spread, edge)], fill=shade)


def _city() -> Image.Image:
    """Draw lit towers at night, their glow, and the river."""
    width, height, quay = 1280, 800, 560
    sky = gradient(
        (width, quay),
        [(0, (5, 8, 24)), (0.55, (22, 26, 64)), (0.85, (72, 48, 92)), (1, (140, 78, 84))],
    )
    chance = dice(8)
    pen = ImageDraw.Draw(sky)
    for _ in range(260):
        x, y = chance.uniform(0, width), chance.uniform(0, 300)
        pen.point((x, y), fill=mix((60, 66, 110), (235, 235, 255), chance.random() ** 3))
    sky = glow(sky, (250, 130), 190, (120, 120, 150))
    pen = ImageDraw.Draw(sky)
    pen.ellipse((212, 92, 288, 168), fill=(250, 244, 226))
    for x, y, r in ((238, 118, 13), (260, 138, 9), (264, 114, 6), (240, 146, 6)):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(222, 216, 204))
    for depth, (low, high, wall) in enumerate(
        [(150, 330, (38, 38, 82)), (110, 400, (22, 24, 56)), (60, 250, (10, 12, 30))]
    ):
        x = -20.0
        while x < width:
            broad = chance.uniform(34, 92)
            tall = chance.triangular(low, high, low + 40)
            _tower(pen, (x, quay - tall, x + broad, quay), wall, depth, chance)
            x += broad + chance.uniform(0, 14)
    bloom = sky.point(([0] * BLOOM_FROM + [*range(BLOOM_FROM, 256)]) * 3)
    for radius in (4, 16):
        sky = ImageChops.screen(sky, bloom.filter(ImageFilter.GaussianBlur(radius)))
    picture = Image.new("RGB", (width, height))
    mirror = ImageOps.flip(sky).crop((0, 0, width, height - quay))
    streaks = mirror.resize((width, 24)).resize(mirror.size, Image.Resampling.BICUBIC)
    dark = gradient(mirror.size, [(0, (190, 186, 200)), (1.0, (60, 66, 100))])
    river = ripple(ImageChops.multiply(Image.blend(mirror, streaks, 0.6), dark), 4, 8)
    picture.paste(river, (0, quay))
    picture.paste(sky, (0, 0))
    ImageDraw.Draw(picture).rectangle((0, quay - 5, width, quay + 3), fill=(12, 12, 24))
    return finish(picture, 2)


def _tower(
    pen: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    wall: Colour,
    depth: int,
    chance: random.Random,
) -> None:
    left, top, right, foot = box
    pen.rectangle(box, fill=wall)
    if chance.random() < WITH_MAST:
        middle = (left + right) / 2
        pen.rectangle((left + 8, top - 14, right - 8, top), fill=wall)
        pen.line((middle, top - 58, middle, top), fill=wall, width=3)
        pen.ellipse((middle - 3, top - 62, middle + 3, top - 56), fill=(255, 70, 60))
    if depth == 0 and chance.random() < UNLIT:
        return
    lit_share, pitch = chance.uniform(0.2, 0.7), (9 + depth * 2, 12 + depth * 3)
    warm = chance.choice([(255, 214, 140), (255, 190, 104), (206, 224, 255), (255, 234, 190)])
    y = top + 10
    while y < foot - 10:
        x = left + 6
        while x < right - 8:
            if chance.random() < lit_share:
                shade = mix(wall, warm, chance.uniform(0.35, 1.0) * (0.55 + 0.22 * depth))
                pen.rectangle((x, y, x + pitch[0] - 5, y + pitch[1] - 6), fill=shade)
            x += pitch[0]
        y += pitch[1]


def _still_life() -> Image.Image:
    """Draw fruit in window light on a wooden table."""
    width, height, edge = 1200, 900, 560
    picture = gradient((width, height), [(0, (40, 36, 40)), (0.6, (86, 74, 66)), (1, (60, 50, 46))])
    picture = glow(picture, (250, 180), 620, (120, 104, 80))
    grain = levels(clouds((width, height - edge), (3, 60), 61), 40, 220)
    wood = ImageOps.colorize(grain, (58, 32, 18), (168, 108, 62), (112, 66, 36))
    picture.paste(wood, (0, edge))
    picture = ImageChops.multiply(
        picture, gradient(picture.size, [(0, (255,) * 3), (0.63, (255,) * 3), (1, (150, 140, 140))])
    )
    chance = dice(14)
    bowl: list[tuple[float, float, float, Colour, Colour]] = [
        (395, 452, 118, (206, 38, 34), (64, 6, 18)),
        (610, 440, 124, (244, 140, 24), (122, 46, 6)),
        (800, 470, 108, (150, 176, 48), (44, 62, 12)),
    ]
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse((330, 690, 1130, 810), fill=210)
    picture.paste((16, 9, 8), (0, 0), shadow.filter(ImageFilter.GaussianBlur(34)))
    ImageDraw.Draw(picture).ellipse((300, 426, 900, 540), fill=(150, 160, 172))
    for x, y, radius, colour, dark in bowl:
        _ball(picture, (x, y), radius, colour, dark)
    _stem(picture, 400, 356)
    _bowl(picture, (300, 482, 900, 770))
    grapes = [(x, y) for y in range(5) for x in range(6 - y)]
    for x, y in grapes:
        centre = (
            860 + x * 50 + y * 25 + chance.uniform(-11, 11),
            760 - y * 34 + chance.uniform(-10, 10),
        )
        _ball(picture, centre, chance.uniform(28, 36), (112, 44, 110), (28, 8, 40))
    _ball(picture, (214, 742), 76, (250, 206, 48), (140, 84, 8))
    return finish(picture, 3, grain=0.07)


def _ball(
    picture: Image.Image,
    centre: tuple[float, float],
    radius: float,
    colour: Colour,
    dark: Colour,
) -> None:
    """Shade a sphere lit from the upper left, with its shine, skin and contact shadow."""
    side = round(radius * 2)
    reach = Image.radial_gradient("L").resize((side * 2, side * 2))
    shade = reach.crop(
        (round(side * 0.64), round(side * 0.66), round(side * 1.64), round(side * 1.66))
    )
    shade = levels(shade.resize((side, side)), 4, 196)
    skin = ImageOps.colorize(shade, mix(colour, (255, 236, 200), 0.42), dark, colour, midpoint=96)
    pores = levels(noise((side, side), (side // 3, side // 3), side), 0, 255)
    skin = Image.blend(skin, ImageChops.overlay(skin, Image.merge("RGB", [pores] * 3)), 0.13)
    shine = Image.new("L", (side, side))
    spot = (side * 0.26, side * 0.2, side * 0.4, side * 0.36)
    ImageDraw.Draw(shine).ellipse(spot, fill=230)
    skin.paste((255, 250, 238), (0, 0), shine.filter(ImageFilter.GaussianBlur(side * 0.035)))
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((1, 1, side - 2, side - 2), fill=OPAQUE)
    corner = (round(centre[0] - radius), round(centre[1] - radius))
    contact = Image.new("L", (side * 2, side))
    ImageDraw.Draw(contact).ellipse((side * 0.5, side * 0.35, side * 1.7, side * 0.75), fill=150)
    foot = (corner[0] - side // 3, round(centre[1] + radius - side * 0.56))
    picture.paste((14, 8, 8), foot, contact.filter(ImageFilter.GaussianBlur(side * 0.07)))
    picture.paste(skin, corner, mask.filter(ImageFilter.GaussianBlur(0.8)))


def _stem(picture: Image.Image, x: int, y: int) -> None:
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x - 26, y - 2, x + 26, y + 14), fill=(104, 14, 20))
    pen.line([(x, y + 6), (x + 4, y - 22), (x + 16, y - 46)], fill=(72, 48, 26), width=8)
    leaf = [(x + 8, y - 28), (x + 44, y - 62), (x + 104, y - 54), (x + 62, y - 22)]
    pen.polygon(leaf, fill=(70, 104, 40))
    pen.line([leaf[0], leaf[2]], fill=(120, 150, 74), width=3)


def _bowl(picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Draw a glazed bowl with a painted band in front of the fruit."""
    left, top, right, foot = box
    size = (right - left, foot - top)
    tone = Image.linear_gradient("L").rotate(90).resize(size)
    glaze = ImageOps.colorize(
        levels(tone, 10, 250), (236, 236, 228), (54, 70, 96), (176, 190, 200), midpoint=90
    )
    pen = ImageDraw.Draw(glaze)
    middle = size[0] / 2
    for n in range(1, 40):
        angle = math.pi * n / 40
        x, y = middle - middle * 0.94 * math.cos(angle), 52 + 56 * math.sin(angle)
        pen.ellipse(
            (x - 9 * math.sin(angle), y - 12, x + 9 * math.sin(angle), y + 12), fill=(34, 66, 132)
        )
    for drop, thick in ((18, 5), (86, 3)):
        pen.arc((10, drop - 50, size[0] - 10, drop + 62), 0, 180, fill=(34, 66, 132), width=thick)
    mask = Image.new("L", size)
    shape = ImageDraw.Draw(mask)
    shape.chord((0, -size[1] + 60, size[0], size[1] - 16), 0, 180, fill=OPAQUE)
    shape.rectangle((middle - 110, size[1] - 34, middle + 110, size[1] - 1), fill=OPAQUE)
    shape.rectangle((0, 0, size[0], 8), fill=0)
    shape.ellipse((0, -56, size[0], 56), fill=0)
    pen.arc((0, -54, size[0], 60), 0, 180, fill=(250, 250, 246), width=8)
    picture.paste(glaze, (left, top), mask.filter(ImageFilter.GaussianBlur(1)))


def _balloons() -> Image.Image:
    """Draw hot-air balloons over misty hills, an upright picture."""
    width, height = 840, 1120
    picture = gradient(
        (width, height),
        [
            (0, (70, 128, 190)),
            (0.45, (160, 200, 222)),
            (0.68, (250, 222, 188)),
            (1, (246, 206, 170)),
        ],
    )
    veil = levels(clouds(picture.size, (4, 12), 90), 132, 226, 200)
    picture.paste((255, 250, 242), (0, 0), veil)
    picture = glow(picture, (640, 700), 420, (255, 190, 120))
    for n, seed in enumerate((71, 72, 79, 74)):
        line = ridge(width, 760 + n * 88, 60, seed, rough=0.5)
        top = mix((160, 174, 190), (34, 70, 52), n / 3)
        hills = gradient(
            picture.size, [(0, top), (0.64 + n * 0.08, top), (0.9 + n * 0.04, (236, 212, 186))]
        )
        woods = levels(clouds(picture.size, (70, 120), seed), 60, 210)
        rough = ImageChops.overlay(hills, Image.merge("RGB", [woods] * 3))
        picture.paste(Image.blend(hills, rough, 0.1 + n * 0.12), (0, 0), below(picture.size, line))
    red, gold, navy, cream = (206, 44, 40), (246, 178, 50), (30, 52, 104), (250, 240, 220)
    _balloon(picture, (176, 520), 62, [navy, cream])
    _balloon(picture, (716, 232), 46, [gold, (220, 96, 36)])
    _balloon(picture, (640, 640), 30, [(60, 120, 110), cream])
    _balloon(picture, (440, 330), 232, [red, gold, red, cream, navy, cream])
    return finish(picture, 4, grain=0.07)


def _balloon(
    picture: Image.Image, centre: tuple[int, int], radius: int, colours: Sequence[Colour]
) -> None:
    """Sew gores into an envelope, light it from the right, and hang a basket below."""
    side, tall = radius * 2, round(radius * 2.45)
    cloth = Image.new("RGB", (side, tall), colours[0])
    pen = ImageDraw.Draw(cloth)
    gores = 24
    for n in range(gores):
        edges = [-math.cos(math.pi * k / gores) for k in (n, n + 1)]
        outline = [
            (radius + edge * _envelope(y / tall) * radius, y)
            for edge, rows in zip(edges, (range(tall), range(tall - 1, -1, -1)), strict=True)
            for y in rows
        ]
        pen.polygon(outline, fill=colours[n % len(colours)])
    for y in (0.58, 0.62):
        pen.line((0, tall * y, side, tall * y), fill=colours[-1], width=max(1, radius // 26))
    shade = Image.radial_gradient("L").resize((side * 2, tall * 2))
    shade = shade.crop(
        (round(side * 0.34), round(tall * 0.6), round(side * 1.34), round(tall * 1.6))
    )
    light = ImageOps.colorize(levels(shade, 10, 200), (255, 255, 250), (70, 56, 84))
    cloth = ImageChops.multiply(cloth, light)
    mask = Image.new("L", (side, tall))
    half = [(radius * _envelope(y / tall), y) for y in range(tall)]
    outline = [(radius - x, y) for x, y in half] + [(radius + x, y) for x, y in reversed(half)]
    ImageDraw.Draw(mask).polygon(outline, fill=OPAQUE)
    picture.paste(cloth, (centre[0] - radius, centre[1] - radius), mask)
    _basket(picture, (centre[0], centre[1] - radius + tall), radius)


def _basket(picture: Image.Image, mouth: tuple[int, int], radius: int) -> None:
    """Hang the basket, in proportion to the envelope, below its mouth."""
    (x0, foot), half = mouth, radius * 0.13
    rig = ImageDraw.Draw(picture)
    top = foot + radius * 0.26
    for x in (-1.0, -0.4, 0.4, 1.0):
        start = (x0 + x * radius * 0.2, foot - 2)
        rig.line([start, (x0 + x * half, top)], fill=(60, 48, 44), width=max(1, radius // 70))
    rig.rectangle((x0 - half, top, x0 + half, top + half * 1.7), fill=(112, 70, 38))
    for n in range(1, 5):
        y = top + half * 1.7 * n / 5
        rig.line(
            (x0 - half, y, x0 + half, y),
            fill=(72, 44, 24),
            width=max(1, radius // 90),
        )


def _envelope(at: float) -> float:
    """Return a balloon's half width (0..1) at height `at` (0 top, 1 mouth)."""
    if at < WIDEST:
        return math.sqrt(max(0.0, 1 - ((WIDEST - at) / WIDEST) ** 2))
    taper = 0.5 + 0.5 * math.cos(math.pi * (at - WIDEST) / (1 - WIDEST))
    return 0.2 + 0.8 * math.pow(taper, 0.8)
