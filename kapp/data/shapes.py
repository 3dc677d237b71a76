"""Ten-class image sets drawn by the project itself, for machines without a network.

`shapes` has coloured shapes among stray bars, `near` ten other shapes of the same visual world,
`far` textures that fill the image. Colour, contrast, position, rotation and size are drawn alike
for every class, so that only form tells the classes apart.
"""

import numpy as np

from kapp.errors import WrongValue, unknown

VERSION = 1  # of the drawings: a cache of others is left alone
SIDE = 32
BLOCK = 100  # images drawn at once from one generator: a multiple of ten that fits the cache

# Each picture is a function of the plane (u, v), painted where it is negative and about the
# distance to the edge elsewhere. Shapes fill the unit disc; textures repeat about once a unit.


def _box(u, v, a, b):
    return np.maximum(np.abs(u) - a, np.abs(v) - b)


def _sides(u, v, n, apothem):
    """Distances beyond each side of a regular polygon, ascending: [-1] bounds the polygon."""
    turns = 2 * np.pi * np.arange(n, dtype=np.float32) / n
    return np.sort([u * np.cos(t) + v * np.sin(t) - apothem for t in turns], axis=0)


def _wave(u):
    return np.sin(np.float32(2 * np.pi) * u)


def _cell(u, period=1):
    """Signed distance to the middle of the nearest cell."""
    return u - period * np.round(u / period)


def _seam(u):
    """Distance to the nearest border between unit cells."""
    return 0.5 - np.abs(_cell(u))


def _drop(u, v):
    tip = np.maximum(0.41 * (u - 1) + 0.91 * np.abs(v), -0.13 - u)  # its sides touch the ball
    return np.minimum(np.hypot(u + 0.35, v) - 0.55, tip)


def _bricks(u, v):
    odd = np.round(1.5 * v) % 2
    return np.minimum(_seam(1.5 * v) / 1.5, _seam(0.8 * u + 0.5 * odd) / 0.8) - 0.09


def _clouds(u, v):
    bend = 0.35 * _wave(0.43 * v) - 0.25 * _wave(0.27 * u)
    return 0.4 * (_wave(0.31 * u + bend) + _wave(0.23 * v - 0.17 * u + bend))


def _mosaic(u, v):
    i, j = np.round(2 * u), np.round(2 * v)
    return (0.618 * i * i + 0.755 * j * j + 0.57 * i * j) % 1 - 0.5  # looks random, cell by cell


PICTURES = {
    "shapes": {
        "disc": lambda u, v: np.hypot(u, v) - 0.8,
        "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.72) - 0.2,
        "square": lambda u, v: _box(u, v, 0.72, 0.72),
        "triangle": lambda u, v: _sides(u, v, 3, 0.52)[-1],
        "cross": lambda u, v: np.minimum(_box(u, v, 0.95, 0.27), _box(u, v, 0.27, 0.95)),
        "star": lambda u, v: _sides(u, v, 5, 0.34)[-2],
        "heart": lambda u, v: np.hypot(u, 1.1 * v - 0.75 * np.sqrt(np.abs(u)) + 0.3) - 0.8,
        "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.92, 0.75 - np.hypot(u - 0.5, v)),
        "arrow": lambda u, v: np.minimum(
            _box(u + 0.45, v, 0.55, 0.2), np.maximum(-u, 0.7 * (u + np.abs(v) - 1))
        ),
        "hourglass": lambda u, v: np.maximum(np.abs(u) - 0.85, np.abs(v) - 0.9 * np.abs(u) - 0.05),
    },
    "near": {
        "pentagon": lambda u, v: _sides(u, v, 5, 0.75)[-1],
        "ellipse": lambda u, v: 0.5 * (np.hypot(u, 2.2 * v) - 1),
        "semicircle": lambda u, v: np.maximum(np.hypot(u + 0.4, v) - 0.95, -0.4 - u),
        "frame": lambda u, v: np.abs(_box(u, v, 0.62, 0.62)) - 0.16,
        "drop": _drop,
        "flower": lambda u, v: np.hypot(u, v) - 0.65 - 0.3 * np.cos(5 * np.arctan2(v, u)),
        "tee": lambda u, v: np.minimum(_box(u - 0.6, v, 0.25, 0.9), _box(u + 0.25, v, 0.65, 0.22)),
        "pacman": lambda u, v: np.maximum(np.hypot(u, v) - 0.9, 0.7 * (u - np.abs(v))),
        "dumbbell": lambda u, v: np.minimum(np.hypot(np.abs(u) - 0.6, v) - 0.4, _box(u, v, 0.6, 0.13)),
        "chevron": lambda u, v: np.maximum(0.7 * np.abs(u + np.abs(v) - 0.4) - 0.25, np.abs(v) - 0.9),
    },
    "far": {
        "stripes": lambda u, v: 0.2 * _wave(u),
        "checks": lambda u, v: 0.25 * _wave(u / 1.5) * _wave(v / 1.5),
        "dots": lambda u, v: 0.3 - np.hypot(_cell(u), _cell(v)),
        "waves": lambda u, v: 0.2 * _wave(u + 0.3 * _wave(v / 1.5)),
        "rings": lambda u, v: 0.2 * _wave(np.hypot(_cell(u, 4), _cell(v, 4))),
        "rays": lambda u, v: 0.3 * np.sin(7 * np.arctan2(_cell(v, 4), _cell(u, 4))),
        "grid": lambda u, v: np.minimum(_seam(u), _seam(v)) - 0.12,
        "bricks": _bricks,
        "clouds": _clouds,
        "mosaic": _mosaic,
    },
}

CLASSES = {kind: tuple(pictures) for kind, pictures in PICTURES.items()}

SHAPE_SIZE = 9, 13  # pixels a unit: a shape's radius
SHAPE_SHIFT = 4  # pixels, at most, from the middle of the image
SHAPE_NOISE = 0.08  # of the full range, added to every value
TEXTURE_SIZE = 5, 9  # pixels a unit: a texture's period
TEXTURE_SHIFT = 200  # pixels: some other part of an endless pattern
TEXTURE_NOISE = 0.25  # textures are easier


def draw(kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw labelled images, the same ones every time.

    Fewer images of the same kind and seed are the first of more, and every ten labels from the
    start hold each class once.

    Args:
        kind: `shapes`, `near` or `far`.
        count: number of images, 0 or more.
        seed: 0 or more; another seed gives other images of the same distribution.

    Returns:
        images, uint8 of shape (count, 32, 32, 3), RGB from 0 to 255; labels, int32 of shape
        (count,), each the index of its name in `CLASSES[kind]`.

    Raises:
        WrongValue: (a ValueError) for an unknown kind, or a negative count or seed.
    """
    if kind not in CLASSES:
        raise unknown("kind of picture", kind, CLASSES)
    if count < 0 or seed < 0:
        raise WrongValue(f"count and seed must be 0 or more, received {count} and {seed}.")
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    labels = np.empty(count, np.int32)
    for start in range(0, count, BLOCK):
        rng = np.random.default_rng([seed, list(CLASSES).index(kind), start])
        part = slice(start, min(start + BLOCK, count))
        images[part], labels[part] = (drawn[: count - start] for drawn in _block(kind, rng))
    return images, labels


def _block(kind, rng):
    labels = rng.permuted(np.tile(np.arange(10), (BLOCK // 10, 1)), axis=1).ravel()
    texture = kind == "far"
    size = _uniform(rng, *(TEXTURE_SIZE if texture else SHAPE_SIZE))
    u, v = (axis / size for axis in _axes(rng, TEXTURE_SHIFT if texture else SHAPE_SHIFT))
    field = np.empty_like(u)
    for label, picture in enumerate(PICTURES[kind].values()):
        mine = labels == label
        field[mine] = picture(u[mine], v[mine])

    paper, ink = _colours(rng)
    canvas = np.repeat(paper, SIDE * SIDE, axis=1).reshape(BLOCK, 3, SIDE, SIDE)
    if not texture:
        _paint(canvas, *_bar(rng))
    _paint(canvas, field * size, ink)
    if not texture:
        _paint(canvas, *_bar(rng))
    canvas += (TEXTURE_NOISE if texture else SHAPE_NOISE) * (rng.random(canvas.shape, np.float32) - 0.5)
    return 255 * np.clip(canvas, 0, 1).transpose(0, 2, 3, 1), labels


def _uniform(rng, low, high):
    return rng.uniform(low, high, (BLOCK, 1, 1)).astype(np.float32)


def _axes(rng, shift):
    """Pixel coordinates, shifted from the middle and turned by any angle: two (BLOCK, 32, 32)."""
    middle = (SIDE - 1) / 2
    x = np.arange(SIDE, dtype=np.float32) - middle - _uniform(rng, -shift, shift)
    y = np.arange(SIDE, dtype=np.float32) - middle - _uniform(rng, -shift, shift)
    y = y.transpose(0, 2, 1)
    turn = _uniform(rng, 0, 2 * np.pi)
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _bar(rng):
    """A stray bar anywhere, from a speck to a line: its field and its colour."""
    u, v = _axes(rng, SIDE / 2)
    return _box(u, v, _uniform(rng, 1, 12), _uniform(rng, 0.5, 1.5)), _colours(rng)[0]


def _colours(rng):
    """Two colours (BLOCK, 3, 1), far from each other in every channel, lighter or darker."""
    first = rng.random((BLOCK, 3, 1), np.float32)
    return first, (first + rng.uniform(0.3, 0.7, first.shape).astype(np.float32)) % 1


def _paint(canvas, field, colour):
    """Lay a colour on the canvas where the field, in pixels, is negative; its edge is soft."""
    cover = np.clip(0.5 - field, 0, 1)[:, None]
    canvas += cover * (colour[..., None] - canvas)
