"""How a face is drawn: parameters and action units in, grey levels and part masks out.

Parts are drawn one over another on a batch of canvases, each from a handful of curves in
the face's own coordinates: the picture spans -1 … 1, x to the right, y downwards.
Only + − × ÷ √ and comparisons: IEEE 754 fixes each to the bit, on every machine.
"""

import torch
from torch import Tensor

SIDE = 48
PIXEL = 2 / SIDE
PART_NAMES = ("brow", "eye", "nose", "mouth")
MARK = (slice(41, 45), slice(3, 7))  # rows and columns of the planted shortcut

RANGES = {  # each drawn evenly between these; lengths in halves of the picture, tones 0 … 1
    # pose
    "shift_x": (-0.09, 0.09), "shift_y": (-0.12, 0.04), "turn": (-0.16, 0.16),
    "size": (1.02, 1.20), "yaw": (-0.16, 0.16), "pitch": (-0.06, 0.06),
    # head
    "width": (0.66, 0.78), "jaw": (0.10, 0.30), "chin": (0.90, 1.0), "tone": (0.58, 0.92),
    "hair": (0, 1), "hair_tone": (0.05, 0.42), "hairline": (-0.82, -0.62),
    "hair_sides": (0.5, 1.3), "parting": (-0.3, 0.3), "beard": (0, 1),
    # features
    "brow_y": (-0.37, -0.31), "brow_arch": (0.01, 0.06), "brow_thick": (0.035, 0.065),
    "brow_in": (0.13, 0.17), "brow_out": (0.50, 0.58), "brow_tone": (0.05, 0.3),
    "eye_x": (0.30, 0.35), "eye_y": (-0.17, -0.13), "eye_wide": (0.145, 0.18),
    "eye_open": (0.075, 0.095), "eye_tilt": (-0.02, 0.02), "iris": (0.06, 0.32),
    "gaze": (-0.05, 0.05), "lid_fold": (0.1, 0.5),
    "nose_y": (0.20, 0.26), "nose_wide": (0.11, 0.15), "nose_shade": (0.2, 0.5),
    "mouth_y": (0.49, 0.54), "mouth_wide": (0.23, 0.29), "mouth_bend": (-0.015, 0.015),
    "lip": (0.045, 0.075), "lip_tone": (0.55, 0.80),
    # light and camera
    "light_x": (-0.6, 0.6), "light_y": (-0.6, 0.1), "contrast": (0.8, 1.15),
    "offset": (-0.04, 0.10), "backdrop": (0.05, 0.9), "backdrop_slope": (-0.15, 0.15),
    "blur": (0, 0.22), "noise": (0.004, 0.020),
    # things in the way
    "fringe": (0, 1), "glasses": (0, 1), "glasses_tone": (0.03, 0.4), "occluder": (0, 1),
    "occluder_x": (-0.9, 0.9), "occluder_y": (-0.9, 0.9), "occluder_size": (0.10, 0.22),
    "occluder_tone": (0.05, 0.9),
}  # fmt: skip


def edge(distance: Tensor, width: float = PIXEL) -> Tensor:
    """Coverage 0 … 1 of what lies where ``distance`` > 0, anti-aliased over ``width``."""
    return (distance / width + 0.5).clamp_(0, 1)


def bump(q: Tensor) -> Tensor:
    """A soft spot: 1 where the squared distance ``q`` is 0, 0 from 2/3 on."""
    return (1 - 1.5 * q).clamp_(min=0)


def band(y: Tensor, top, bottom) -> Tensor:
    """Coverage of the stripe between two curves, top above bottom."""
    return edge(y - top) * edge(bottom - y)


def wave(v: Tensor) -> Tensor:
    """A triangle wave of period 1 between -0.25 and 0.25."""
    return (v - v.round()).abs() - 0.25


def square_norm(x: Tensor, y: Tensor) -> Tensor:
    """Squared distance from the origin."""
    return x.square() + y.square()


def line(y: Tensor, curve, thick) -> Tensor:
    """A soft stroke along a curve."""
    return bump(((y - curve) / thick).square())


class Canvas:
    """A picture and, for each part, how much of a pixel its paint covers."""

    def __init__(self, picture: Tensor, parts: dict[str, Tensor]):
        self.picture, self.parts = picture, parts

    def rows(self, rows: slice) -> "Canvas":
        """A view of some rows: painting there paints here."""
        return Canvas(self.picture[:, rows], {k: v[:, rows] for k, v in self.parts.items()})

    def paint(self, cover: Tensor, tone, part: str | None = None):
        """Mix ``tone`` in by the share ``cover``, as paint of ``part``."""
        self.picture += cover * (tone - self.picture)
        if part:
            torch.maximum(self.parts[part], cover, out=self.parts[part])

    def shade(self, amount: Tensor, part: str | None = None):
        """Darken (above 0) or lighten (below 0) by a share of the grey level."""
        self.picture *= 1 - amount
        if part:
            torch.maximum(self.parts[part], amount.abs(), out=self.parts[part])

    def hide(self, cover: Tensor, tone):
        """Paint something that lies before the face: it hides the parts below."""
        self.paint(cover, tone)
        for covered in self.parts.values():
            covered *= 1 - cover


def face(p, au) -> tuple[Tensor, Tensor]:
    """One chunk: uint8 (b, 48, 48) and bool (b, 4, 48, 48)."""
    grid = (torch.arange(SIDE) + 0.5) * PIXEL - 1
    x0, y0 = grid[None, None, :] - p.shift_x, grid[None, :, None] - p.shift_y
    x, y = (x0 * p.cos + y0 * p.sin) / p.size, (y0 * p.cos - x0 * p.sin) / p.size
    relief = (1 - (x / p.width).square()).clamp_(min=0)  # inner features move with a turned head
    xf, yf = x - p.yaw * relief, y - p.pitch * relief
    backdrop = p.backdrop + p.backdrop_slope * grid[:, None] + torch.zeros_like(x)
    c = Canvas(backdrop, {name: torch.zeros_like(x) for name in PART_NAMES})
    head(c, p, au, x, y, xf)
    for draw_part, top, bottom in REACH:
        inside = ((yf > top) & (yf < bottom)).any(2).any(0).nonzero()
        rows = slice(int(inside[0]), int(inside[-1]) + 1)
        draw_part(c.rows(rows), p, au, xf[:, rows], xf[:, rows].abs(), yf[:, rows])
    in_the_way(c, p, x, y, xf, yf)
    return camera(c, p)


SHADOWS = (  # of eye sockets, cheeks, jaw, chin: x, y, size, share of the grey level
    (0.32, -0.20, 0.26, 0.20),
    (0.40, 0.16, 0.30, -0.10),
    (0.62, 0.40, 0.35, 0.15),
    (0, 0.80, 0.17, -0.08),
)


def head(c, p, au, x, y, xf):
    """Hair, neck, ears, skin shaded as an ellipsoid. The jaw's drop belongs to the mouth."""
    light = p.light_x * x / p.width + p.light_y * y
    volume = 0.05 + 0.13 * p.hair
    crown = (y + 0.1) / (0.92 + volume + 0.6 * (p.hair > 0.6))
    behind = 1 - (x / (p.width + volume)).square() - crown.square()
    behind = edge(behind * 0.4) * (p.hair > 0.12)
    strands = 0.25 * wave(6 * x + p.parting * y)
    hair = p.hair_tone * (0.8 + 0.3 * light + strands - 0.25 * (y + 0.75))
    c.paint(behind, hair)
    neck = edge(0.66 * p.width - x.abs()) * edge(y - 0.5)
    c.paint(neck, p.tone * (0.50 + 0.25 * light))
    ears = square_norm((x.abs() - p.width) / 0.08, (y + 0.02) / 0.17)
    c.paint(edge((1 - ears) * 0.05) * (p.hair < 0.7), p.tone * (0.62 + 0.3 * light))
    narrow = 1 - p.jaw * y.clamp(min=0).square()
    across, jaw = (x / (p.width * narrow)).square(), 1 + 0.1 * au[26] * (y > 0)
    rest = across + (y / p.chin).square()
    drop = across + (y / (p.chin * jaw)).square()
    skin = edge((1 - drop) * 0.36)
    depth = (1.15 - 0.9 * rest).clamp(min=0).sqrt()
    c.paint(skin, p.tone * (0.36 + 0.56 * depth + 0.30 * light))
    c.parts["mouth"] = (skin - edge((1 - rest) * 0.36)).abs()
    for away, down, size, amount in SHADOWS:
        c.shade(amount * bump(square_norm((xf.abs() - away) / size, (y - down) / (0.8 * size))))
    c.shade(0.25 * (p.beard > 0.78) * skin * edge(y - 0.34 + 0.12 * (xf.abs() - 0.3), 0.3))
    hairline = p.hairline + p.hair_sides * (x - p.parting).square() + 0.08 * wave(5 * x + p.parting)
    c.paint(edge(hairline - y, 0.12) * behind, hair)


def brows(c, p, au, xf, m, y):
    start = p.brow_in - 0.05 * au[4]
    t = ((m - start) / (p.brow_out - start)).clamp(0, 1)
    inner = 1 - t
    rise = 0.16 * au[1] * inner.square() + 0.15 * au[2] * t * (1.6 - 0.6 * t)
    rise = rise - 0.13 * au[4] * (0.35 + 0.65 * inner) * (1 - 0.6 * au[1] * inner)
    curve = p.brow_y - p.brow_arch * 4 * t * (1 - 0.8 * t) - rise
    half = p.brow_thick * (1 - 0.55 * t)
    # furrows: across the forehead under raised brows, upright between brows drawn together
    raised = 0.22 * (1 - 0.5 * au[4]) * (au[1] * (1 - m).clamp(min=0) + au[2] * m).clamp(0, 1)
    raised = raised * edge(0.5 - m, 0.2)
    for height in (0.17, 0.26, 0.35):
        c.shade(raised * line(y, p.brow_y - height - 0.4 * rise, 0.04), "brow")
    frown = line(m, 0.065, 0.045) * edge(0.11 - (y - p.brow_y - 0.02).abs(), 0.08)
    c.shade(0.4 * au[4] * frown, "brow")
    ends = edge(m - start, 0.08) * edge(p.brow_out - m, 0.08)
    c.paint(band(y, curve - half, curve + half) * ends, p.tone * p.brow_tone, "brow")


def eyes(c, p, au, xf, m, y):
    away, down = m - p.eye_x, y - p.eye_y
    t = (away / p.eye_wide).clamp(-1, 1)
    tilt, arc = p.eye_tilt * t, p.eye_open * (1 - t.square())
    upper = tilt - (1 + 0.75 * au[5] - 0.35 * au[7] - 0.2 * au[6]) * arc
    lower = tilt + 0.7 * (1 - 0.55 * au[7] - 0.6 * au[6] + 0.1 * au[5]) * arc
    within = edge(p.eye_wide + 0.01 - away.abs())
    # the fold above the lid; below: the tense lower lid, and the pouch of a raised cheek
    c.shade(p.lid_fold * (1 - 0.5 * au[5]) * line(down, upper - 0.06, 0.04) * within, "eye")
    c.shade((0.10 + 0.3 * au[7]) * line(down, lower + 0.055, 0.045) * within, "eye")
    c.shade(0.32 * au[6] * line(down, lower + 0.10 - 0.05 * t, 0.045) * within, "eye")
    outside = away - p.eye_wide  # crow's feet
    crow = line((down - tilt).abs(), 0.3 * outside, 0.035) * edge(0.09 - (outside - 0.09).abs())
    c.shade(0.35 * au[6] * crow, "eye")
    c.shade(-0.15 * au[6] * bump(square_norm((m - 0.37) / 0.2, (y - 0.1) / 0.11)), "eye")
    opening = band(down, upper, lower) * within
    c.paint(opening, 0.45 + 0.45 * p.tone, "eye")
    gaze = xf.sign() * p.gaze
    ball = square_norm(away - gaze, down + 0.005)
    c.paint(opening * edge((0.0072 - ball) * 6), p.iris, "eye")
    c.paint(opening * edge((0.0014 - ball) * 14), 0.03, "eye")
    glint = square_norm((away - gaze - 0.03 * xf.sign()) / 0.04, (down + 0.035) / 0.04)
    c.paint(0.8 * opening * bump(glint), 0.95, "eye")
    c.paint(0.85 * line(down, upper - 0.01, 0.05) * within, 0.08 * p.tone, "eye")
    c.shade(0.35 * line(down, lower + 0.01, 0.035) * within, "eye")


def nose(c, p, au, xf, m, y):
    base, wide = y - p.nose_y + 0.05 * au[9], p.nose_wide * (1 + 0.2 * au[9])
    flank = line(xf, -0.10 * p.light_x.sign(), 0.09) * edge(y + 0.15, 0.2) * edge(-base, 0.1)
    c.shade(0.5 * p.nose_shade * flank, "nose")
    c.shade(-0.07 * line(m, 0, 0.07) * edge(y + 0.1, 0.2) * edge(-0.1 - base, 0.2), "nose")
    c.shade(-0.10 * bump(square_norm(m / 0.10, (base + 0.06) / 0.10)), "nose")
    wings = bump(square_norm((m - wide) / 0.05, (base + 0.03) / 0.07))
    c.shade((0.25 + 0.25 * au[9]) * wings, "nose")
    c.shade(0.22 * bump(square_norm(m / (wide + 0.03), (base - 0.05) / 0.05)), "nose")
    c.shade(0.65 * bump(square_norm((m - 0.55 * wide) / 0.055, base / 0.04)), "nose")
    # wrinkles over the bridge, and the furrow that runs down beside the wings
    for height in (-0.19, -0.105, -0.02):
        c.shade(0.4 * au[9] * line(y, height + 0.35 * m, 0.035) * edge(0.15 - m, 0.08), "nose")
    furrow = line(m, wide + 0.084 + 0.42 * base, 0.055) * band(base, -0.1, 0.17)
    c.shade(0.45 * au[9] * furrow, "nose")


def mouth(c, p, au, xf, m, y):
    smile, stretch, jaw = au[12], au[20], au[26] * (1 - au[20])
    wide = 1 + 0.30 * smile + 0.28 * stretch - 0.22 * au[23] - 0.16 * jaw - 0.05 * au[17]
    wide = p.mouth_wide * wide
    t = (m / wide).square()
    arc = (1 - t).clamp(min=0)
    box = (arc * (0.5 + 0.5 * arc + stretch * t)).sqrt()  # stretched lips open as a rectangle
    middle = p.mouth_y + 0.06 * smile - 0.04 * au[15] - 0.05 * au[17]
    bend = p.mouth_bend - 0.15 * smile + 0.13 * au[15] + 0.05 * stretch
    gap = (0.07 + 0.09 * smile) * au[25] + 0.26 * au[26] + 0.10 * au[16]
    rest = middle + bend * t
    upper = rest - (0.3 * gap + 0.02 * au[26]) * box
    lower = rest + 0.7 * gap * box
    lip = p.lip * (1 - 0.6 * au[23]) * (1 - 0.25 * smile)
    top = upper - lip * (1 - 0.3 * line(m, 0, 0.08)) * arc
    bottom = lower + 1.35 * lip * (1 + 0.3 * au[16] - 0.35 * au[17]) * arc
    within = edge(wide - m)
    # folds beside a pulled corner, the shadow below the lip, the ball of a raised chin
    fold = line(m, 0.05 + 0.55 * y + 0.10 * smile, 0.09) * band(y, 0.26, 0.56)
    c.shade((0.05 + 0.27 * smile + 0.12 * stretch) * fold, "mouth")
    c.shade(0.35 * au[15] * line(m, wide + 0.02, 0.05) * band(y, rest, rest + 0.14), "mouth")
    c.shade(0.22 * bump(square_norm(m / 0.2, (y - bottom - 0.05) / 0.06)), "mouth")
    ball = square_norm(m / 0.17, (y - 0.80) / 0.11)
    c.shade(0.3 * au[17] * bump(ball) * (1 - 1.6 * bump(ball * 3)), "mouth")
    lips = (0.7 + 0.3 * edge(lower - y)) * band(y, top, bottom) * within
    c.shade((1 - p.lip_tone) * lips, "mouth")
    c.shade(-0.12 * line(y, lower + 0.7 * lip, 0.05) * edge(0.6 * wide - m, 0.1), "mouth")
    closed = edge(0.05 - gap * box) * within
    c.paint(0.65 * line(y, 0.5 * (upper + lower), 0.04) * closed, 0.12 * p.tone, "mouth")
    inside = band(y, upper, lower) * within * edge(gap * box - 0.03)
    c.paint(inside, 0.05, "mouth")
    tongue = bump(square_norm(m / (0.6 * wide), (y - lower) / 0.12))
    c.paint(0.4 * au[26] * inside * tongue, 0.5 * p.tone, "mouth")
    shown = (9 * gap).clamp(max=1) * (0.9 - 0.5 * jaw)
    c.paint(shown * inside * edge(upper + 0.07 - y) * edge(0.85 * wide - m), 0.92, "mouth")
    c.paint(au[16] * inside * edge(y - lower + 0.05) * edge(0.7 * wide - m), 0.85, "mouth")
    corner = bump(square_norm((m - wide) / 0.05, (y - middle - bend) / 0.05))
    c.shade(0.4 * corner, "mouth")


# each part between the heights that its paint can reach, whatever the action units
REACH = ((brows, -0.95, 0), (eyes, -0.5, 0.25), (nose, -0.3, 0.5), (mouth, 0.2, 1.2))


def in_the_way(c, p, x, y, xf, yf):
    """A fringe over the forehead, glasses, something held before the face."""
    tips = p.hairline + 0.27 + 0.25 * (x - p.parting).abs() + 0.2 * wave(5 * x)
    fringe = edge(tips - y, 0.08) * edge(p.width - x.abs(), 0.1)
    c.hide(fringe * (p.fringe > 0.82), p.hair_tone * (0.9 + 0.3 * wave(6 * x)))
    away, down = xf.abs() - p.eye_x, yf - p.eye_y
    rims = line(square_norm(away / 0.23, down / 0.19).sqrt(), 1, 0.22)
    bridge = line(down, -0.03, 0.05) * edge(-0.22 - away)
    arms = line(down, -0.05, 0.05) * edge(away - 0.22) * edge(p.width - x.abs())
    c.hide((rims + bridge + arms).clamp(max=0.9) * (p.glasses > 0.82), p.glasses_tone)
    corner = torch.maximum((x - p.occluder_x).abs(), (y - p.occluder_y).abs())
    c.hide(edge(p.occluder_size - corner) * (p.occluder > 0.88), p.occluder_tone)


def camera(c, p) -> tuple[Tensor, Tensor]:
    """Blur of picture and coverage alike, contrast, grain, the planted mark, 256 grey levels."""
    stack = torch.stack([c.picture, *c.parts.values()], 1)
    for axis in (2, 3):
        first, last = stack.narrow(axis, 0, 1), stack.narrow(axis, SIDE - 1, 1)
        before = torch.cat([first, stack.narrow(axis, 0, SIDE - 1)], axis)
        after = torch.cat([stack.narrow(axis, 1, SIDE - 1), last], axis)
        stack = stack + p.blur[:, None] * (before + after - 2 * stack)
    picture = (stack[:, 0] - 0.5) * p.contrast + 0.5 + p.offset + p.noise * p.grain
    picture[:, *MARK] += p.mark * (0.95 - picture[:, *MARK])
    stack[:, 1:, *MARK] *= 1 - p.mark[:, None]
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8), stack[:, 1:] > 1 / 64
