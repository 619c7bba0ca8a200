"""The demo's four prints: a poster, a banknote, a compass rose and a fractal, in lines.

Rules: as in `pictures`, at twice the size and reduced; hard edges and fine lines, no grain.
"""

import math

from PIL import Image, ImageDraw, ImageFilter

from venice_watch.cli.brushes import SUPERSAMPLE, Colour, lettering, mix, polar

CARDINAL = 4  # points of a compass that stand upright


def poster() -> Image.Image:
    """Print a travel poster: flat colours, hard edges, lettering down to the small print."""
    width, height = 960, 1280
    paper, ink, red, gold, sea = (
        (244, 230, 204), (24, 38, 66), (198, 62, 44), (238, 172, 62), (44, 122, 134),
    )  # fmt: skip
    picture = Image.new("RGB", (width, height), paper)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((44, 44, width - 44, 860), fill=gold)
    sun = (width / 2, 600)
    for n in range(0, 48, 2):
        rays = [polar(sun, 1200, math.tau * (n + k) / 48) for k in (0, 1)]
        pen.polygon([sun, *rays], fill=(246, 192, 92))
    pen.ellipse((sun[0] - 210, sun[1] - 210, sun[0] + 210, sun[1] + 210), fill=red)
    _skyline(pen, ink)
    pen.rectangle((44, 690, width - 44, 860), fill=sea)
    for row in range(7):
        for n in range(-1, 24):
            x, y = 30 + n * 42 + (row % 2) * 21, 704 + row * 22
            pen.arc((x, y, x + 40, y + 18), 200, 340, fill=mix(sea, paper, 0.55), width=3)
    _gondola(pen, ink, red)
    pen.rectangle((0, 860, width, height), fill=paper)
    for edge, line in ((0, 44), (24, 4)):
        box = (edge, edge, width - 1 - edge, height - 1 - edge)
        pen.rectangle(box, outline=paper if edge == 0 else ink, width=line)
    lines = [
        (884, 168, red, "VENEZIA"),
        (1066, 46, ink, "THE NIGHT TRAIN TO THE SEA"),
        (1134, 30, ink, "Milano 21.05   Verona 22.48   Padova 23.51   Venezia S.L. 0.20"),
        (1186, 21, sea, "Lido · Murano · Burano · Torcello · San Giorgio · Giudecca · Chioggia"),
    ]
    for y, size, colour, text in lines:
        pen.text((width / 2, y), text, font=lettering(size), fill=colour, anchor="ma")
    return picture.reduce(SUPERSAMPLE)


def _skyline(pen: ImageDraw.ImageDraw, ink: Colour) -> None:
    """Cut out a bell tower and domes."""
    pen.rectangle((44, 640, 916, 692), fill=ink)
    pen.rectangle((196, 330, 268, 692), fill=ink)
    pen.rectangle((186, 392, 278, 408), fill=ink)
    pen.polygon([(196, 332), (232, 196), (268, 332)], fill=ink)
    pen.line((232, 160, 232, 204), fill=ink, width=4)
    for x in (208, 228, 248):
        pen.rounded_rectangle((x, 346, x + 10, 386), 5, fill=(246, 192, 92))
    for x, y, r in ((600, 600, 78), (730, 622, 52), (500, 628, 40)):
        pen.pieslice((x - r, y - r, x + r, y + r), 180, 360, fill=ink)
        pen.rectangle((x - r, y - 2, x + r, 692), fill=ink)
        pen.rectangle((x - r * 0.16, y - r * 1.34, x + r * 0.16, y - r * 0.9), fill=ink)
        pen.line((x, y - r * 1.7, x, y - r), fill=ink, width=4)
    for x in range(312, 908, 30):
        pen.rounded_rectangle((x, 662, x + 12, 686), 6, fill=(246, 192, 92))


def _gondola(pen: ImageDraw.ImageDraw, ink: Colour, red: Colour) -> None:
    hull = [(250, 770), (282, 792), (420, 806), (600, 804), (690, 780), (726, 734)]
    keel = [(742, 736), (716, 800), (640, 832), (470, 840), (330, 826), (262, 796)]
    pen.polygon([*hull, *keel], fill=ink)
    pen.line([(372, 806), (366, 716), (384, 690)], fill=ink, width=17)
    pen.ellipse((370, 656, 404, 690), fill=ink)
    pen.rectangle((360, 660, 412, 667), fill=red)
    pen.line([(378, 716), (426, 742)], fill=ink, width=11)
    pen.line([(396, 690), (510, 850)], fill=ink, width=6)


def fractal() -> Image.Image:
    """Colour the Mandelbrot set's seahorse valley."""
    steps = Image.effect_mandelbrot((1280, 960), (-0.74905, 0.10950, -0.74175, 0.114975), 420)
    palette: list[int] = []
    for n in range(256):
        turn = math.tau * (n / 255) ** 0.72 * 2.1
        wave = [0.5 - 0.5 * math.cos(turn + phase) for phase in (0.0, -0.55, -1.2)]
        palette += [round(255 * w**1.15) for w in wave]
    palette[:3] = [4, 4, 12]
    steps.putpalette(palette)
    return steps.convert("RGB").reduce(SUPERSAMPLE)


def banknote() -> Image.Image:
    """Engrave rosettes and borders in lines as fine as a banknote's."""
    width, height = 1280, 760
    green, brown, paper = (22, 74, 58), (128, 62, 34), (238, 234, 214)
    picture = Image.new("RGB", (width, height), paper)
    pen = ImageDraw.Draw(picture)
    for n in range(64):
        wave = [
            (x, 60 + n * 10 + 22 * math.sin(x / 92 + n * 0.21) * math.sin(x / 411 + n * 0.05))
            for x in range(0, width + 1, 8)
        ]
        pen.line(wave, fill=mix(paper, green, 0.34), width=1)
    _rosette(pen, (330, 380), (112, 232), 6, green, paper)
    _rosette(pen, (990, 380), (60, 176), 5, brown, paper)
    for inset, thick in ((26, 6), (40, 2), (84, 2), (92, 4)):
        pen.rectangle((inset, inset, width - inset, height - inset), outline=green, width=thick)
    _braid(pen, (44, 62), (width - 44, height - 62), green)
    pen.ellipse((210, 260, 450, 500), fill=paper, outline=green, width=5)
    pen.text((330, 372), "100", font=lettering(124), fill=green, anchor="mm")
    pen.text((330, 452), "CENTO", font=lettering(34), fill=brown, anchor="mm")
    pen.text((990, 380), "100", font=lettering(70), fill=brown, anchor="mm")
    pen.text((700, 140), "BANCO DEL GIRO", font=lettering(52), fill=green, anchor="mm")
    pen.text((700, 636), "VENEZIA · N. 0417 2216", font=lettering(30), fill=brown, anchor="mm")
    return picture.reduce(SUPERSAMPLE)


def _braid(
    pen: ImageDraw.ImageDraw, start: tuple[int, int], end: tuple[int, int], ink: Colour
) -> None:
    """Plait six threads along the four sides of the frame."""
    for phase in (math.tau * n / 6 for n in range(6)):
        for y in (start[1], end[1]):
            run = range(start[0], end[0] + 1, 3)
            pen.line([(float(x), y + 17 * math.sin(x / 11.6 + phase)) for x in run], fill=ink)
        for x in (start[1], end[0] + start[0] - start[1]):
            run = range(start[0], end[1] + start[1] - start[0] + 1, 3)
            pen.line([(x + 17 * math.sin(y / 11.6 + phase), float(y)) for y in run], fill=ink)


def _rosette(
    pen: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    radii: tuple[float, float],
    petals: int,
    ink: Colour,
    paper: Colour,
) -> None:
    """Weave closed curves between two radii."""
    inner, outer = radii
    pen.ellipse(
        (*polar(centre, outer * 1.41, -2.356), *polar(centre, outer * 1.41, 0.785)), fill=paper
    )
    threads, middle, swing = 30, (inner + outer) / 2, (outer - inner) / 2
    for thread in range(threads):
        phase = math.tau * thread / threads
        curve = []
        for step in range(721):
            angle = math.tau * step / 720
            beat = 0.72 + 0.28 * math.cos(petals * 2 * angle)
            reach = middle + swing * beat * math.sin(petals * angle + phase)
            curve.append(polar(centre, reach, angle))
        pen.line(curve, fill=ink, width=1)


def compass() -> Image.Image:
    """Inlay a compass rose that throws its shadow on nothing: the ground is transparent."""
    side = 880
    centre, navy, gold = (side / 2, side / 2 - 6), (22, 44, 88), (206, 158, 66)
    shape = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(shape)

    def disc(radius: float, fill: Colour, line: Colour, thick: int) -> None:
        box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        pen.ellipse(box, fill=fill, outline=line, width=thick)

    disc(404, navy, gold, 10)
    disc(322, (240, 230, 208), gold, 6)
    disc(232, (226, 212, 182), navy, 2)
    for n in range(360):
        long = 26 if n % 45 == 0 else 18 if n % 15 == 0 else 12 if n % 5 == 0 else 6
        ends = [polar(centre, r, math.radians(n)) for r in (320, 320 - long)]
        pen.line([*ends], fill=navy, width=3 if n % 15 == 0 else 1)
    points = [
        (16, 168, 30, (150, 112, 62)),
        (8, 236, 44, (70, 96, 132)),
        (4, 304, 62, (176, 44, 40)),
    ]
    for count, reach, waist, colour in points:
        for n in range(count):
            angle = (
                math.tau * n / count + (math.pi / count if count > CARDINAL else 0) - math.pi / 2
            )
            tip = polar(centre, reach, angle)
            for half, shade in ((-1, colour), (1, (250, 244, 230))):
                hip = polar(centre, waist, angle + half * math.pi / 4)
                pen.polygon([centre, tip, hip], fill=shade, outline=(40, 34, 40))
    for n, letter in enumerate("NESW"):
        spot = polar(centre, 362, math.tau * n / 4 - math.pi / 2)
        pen.text(spot, letter, font=lettering(64), fill=gold, anchor="mm")
    disc(20, gold, navy, 5)
    shadow = Image.new("RGBA", shape.size)
    ImageDraw.Draw(shadow).ellipse((40, 56, side - 36, side - 14), fill=(0, 0, 0, 150))
    shadow = shadow.filter(ImageFilter.GaussianBlur(12))
    return Image.alpha_composite(shadow, shape).reduce(SUPERSAMPLE)
