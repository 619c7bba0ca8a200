"""What the demo's pictures are painted with: gradients, noise, light, water, grain, lettering.

Rules: a brush returns a new picture or mask and leaves its arguments alone; chance is a seed. Sizes
are (width, height) in pixels, positions count from the upper left.
"""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

Colour = tuple[int, int, int]
Stops = Sequence[tuple[float, Colour]]

SUPERSAMPLE = 2  # everything is drawn at this many times its final size
OPAQUE = 255


def dice(seed: int) -> random.Random:
    """Return a source of chance that always falls the same way."""
    return random.Random(seed)  # noqa: S311 - it paints clouds


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Return the colour at `share` (0..1) of the way from `one` to `other`."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(one, other, strict=True))
    return r, g, b


def gradient(size: tuple[int, int], stops: Stops) -> Image.Image:
    """Fill from top to bottom through `stops`, which are (height 0..1, colour)."""
    column = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        at = y / size[1]
        low, high = next(
            (pair for pair in pairwise(stops) if at <= pair[1][0]),
            (stops[-1], stops[-1]),
        )
        span = high[0] - low[0]
        column.putpixel((0, y), mix(low[1], high[1], (at - low[0]) / span if span else 0.0))
    return column.resize(size)


def noise(size: tuple[int, int], cells: tuple[int, int], seed: int) -> Image.Image:
    """Return smooth grey noise with `cells` bumps across and down."""
    cloud = Image.frombytes("L", cells, dice(seed).randbytes(cells[0] * cells[1]))
    return cloud.resize(size, Image.Resampling.BICUBIC)


def clouds(size: tuple[int, int], cells: tuple[int, int], seed: int) -> Image.Image:
    """Return noise with detail at four scales."""
    cloud = noise(size, cells, seed)
    for octave in range(1, 4):
        finer = (cells[0] << octave, cells[1] << octave)
        cloud = Image.blend(cloud, noise(size, finer, seed + octave), 0.5 / (octave + 0.4))
    return cloud


def levels(grey: Image.Image, black: float, white: float, peak: int = OPAQUE) -> Image.Image:
    """Stretch `black`..`white` to 0..`peak`."""
    table = [
        round(max(0.0, min(1.0, (value - black) / (white - black))) * peak) for value in range(256)
    ]
    return grey.point(table)


def glow(
    picture: Image.Image, centre: tuple[float, float], radius: float, colour: Colour
) -> Image.Image:
    """Add light around `centre`."""
    side = round(radius * 2)
    light = ImageOps.invert(Image.radial_gradient("L")).resize((side, side))
    light = levels(light, 72, 255).point([round((v / 255) ** 2 * 255) for v in range(256)])
    lamp = Image.new("RGB", picture.size)
    lamp.paste(
        Image.new("RGB", (side, side), colour),
        (round(centre[0] - radius), round(centre[1] - radius)),
        light,
    )
    return ImageChops.screen(picture, lamp)


def finish(picture: Image.Image, seed: int, grain: float = 0.1) -> Image.Image:
    """Reduce to the final size and add a film's grain."""
    small = picture.reduce(SUPERSAMPLE)
    width, height = small.size
    dust = Image.frombytes("L", small.size, dice(seed).randbytes(width * height))
    soft = dust.filter(ImageFilter.GaussianBlur(0.6))
    return Image.blend(small, ImageChops.overlay(small, Image.merge("RGB", [soft] * 3)), grain)


def ridge(width: int, middle: float, height: float, seed: int, rough: float = 0.55) -> list[float]:
    """Return one y per x, by midpoint displacement."""
    chance, points, swing = dice(seed), [middle, middle], height
    while len(points) < width:
        between = [(a + b) / 2 + chance.uniform(-swing, swing) for a, b in pairwise(points)]
        points = [p for pair in zip(points, between, strict=False) for p in pair] + points[-1:]
        swing *= rough
    return points[:width]


def below(size: tuple[int, int], line: Sequence[float]) -> Image.Image:
    """Return a mask of everything below `line`."""
    mask = Image.new("L", size)
    outline = [(0, size[1]), *enumerate(line), (size[0], size[1])]
    ImageDraw.Draw(mask).polygon(outline, fill=OPAQUE)
    return mask


def ripple(water: Image.Image, seed: int, swing: float) -> Image.Image:
    """Shift rows sideways, more and in longer waves towards the viewer."""
    chance = dice(seed)
    width, height = water.size
    phases = [chance.uniform(0, math.tau) for _ in range(3)]
    rippled = water.copy()
    for y in range(height):
        depth = 0.15 + y / height
        wave = sum(
            math.sin(phase + (tempo * math.sqrt(depth)) * 40) / (n + 1)
            for n, (phase, tempo) in enumerate(zip(phases, (1.0, 2.3, 5.1), strict=True))
        )
        row = water.crop((0, y, width, y + 1))
        rippled.paste(row, (round(wave * swing * depth), y))
    return rippled


def lettering(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the one typeface that is always there, at `size` pixels."""
    return ImageFont.load_default(size=size)


def polar(centre: tuple[float, float], radius: float, angle: float) -> tuple[float, float]:
    """Return the point at `radius` and `angle` (radians, clockwise) from `centre`."""
    return centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)
