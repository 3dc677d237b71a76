"""shapes, shapes:near and shapes:far: ten-class image sets that kapp draws itself, for use without a network.

`shapes` has colored shapes and random bars, `near` ten other shapes in the same style, `far` textures that
fill the image. Color, contrast, position, rotation and size have the same distribution in every class, so
that only the form identifies the class.
"""

import numpy as np

from kapp.data.array_cache import Arrays
from kapp.errors import ConfigError, unknown

VERSION = 1  # of the drawings, part of the cache's name
TRAIN_IMAGES, TEST_IMAGES = 12_500, 2_500
SIDE = 32  # pixels
BLOCK = 100  # images per random generator: a multiple of ten

# Each pattern is a function of the plane (u, v). It is negative inside the pattern, and about the distance
# to the edge outside. Shapes fill the unit disc, textures have a period of about 1.


def _box(u, v, a, b):
    return np.maximum(np.abs(u) - a, np.abs(v) - b)


def _sides(u, v, n, apothem):
    """Distances beyond each side of a regular polygon, ascending: [-1] bounds the polygon."""
    turns = 2 * np.pi * np.arange(n, dtype=np.float32) / n
    return np.sort([u * np.cos(t) + v * np.sin(t) - apothem for t in turns], axis=0)


def _wave(u):
    return np.sin(np.float32(2 * np.pi) * u)


def _cell(u, period=1):
    """Signed distance to the center of the nearest cell."""
    return u - period * np.round(u / period)


def _seam(u):
    """Distance to the nearest border between unit cells."""
    return 0.5 - np.abs(_cell(u))


def _drop(u, v):
    tip = np.maximum(0.41 * (u - 1) + 0.91 * np.abs(v), -0.13 - u)  # its sides are tangents of the disc
    return np.minimum(np.hypot(u + 0.35, v) - 0.55, tip)


def _bricks(u, v):
    odd = np.round(1.5 * v) % 2
    return np.minimum(_seam(1.5 * v) / 1.5, _seam(0.8 * u + 0.5 * odd) / 0.8) - 0.09


def _clouds(u, v):
    bend = 0.35 * _wave(0.43 * v) - 0.25 * _wave(0.27 * u)
    return 0.4 * (_wave(0.31 * u + bend) + _wave(0.23 * v - 0.17 * u + bend))


def _mosaic(u, v):
    i, j = np.round(2 * u), np.round(2 * v)
    return (0.618 * i * i + 0.755 * j * j + 0.57 * i * j) % 1 - 0.5  # looks like one random value per cell


PATTERNS = {
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

CLASSES = {kind: tuple(patterns) for kind, patterns in PATTERNS.items()}

SHAPE_SIZE = 9, 13  # pixels per unit: the radius of a shape
SHAPE_SHIFT = 4  # pixels: maximum distance from the center of the image, per axis
SHAPE_NOISE = 0.08  # fraction of the full range, added to every value
TEXTURE_SIZE = 5, 9  # pixels per unit: the period of a texture
TEXTURE_SHIFT = 200  # pixels
TEXTURE_NOISE = 0.25  # more than for shapes, since textures are easier


def load(kind: str) -> Arrays:
    """Returns the training images and test images of a kind: `shapes`, `near` or `far`."""
    images, labels = zip(draw(kind, TRAIN_IMAGES, seed=0), draw(kind, TEST_IMAGES, seed=1))
    return Arrays(np.concatenate(images), np.concatenate(labels), TRAIN_IMAGES, CLASSES[kind])


def draw(kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws labeled images, which depend only on the arguments.

    A smaller `count` returns the first images of a larger one. Every ten consecutive labels from the start
    contain each class once.

    Args:
        kind: `shapes`, `near` or `far`.
        count: integer, number of images.
        seed: integer from 0.

    Returns:
        images: uint8 (count, 32, 32, 3), RGB, 0 to 255; labels: int32 (count,), indices into
        `CLASSES[kind]`.

    Raises:
        ConfigError: the kind is unknown, or `count` or `seed` is negative.

    Example:

    >>> images, labels = draw("shapes", count=20, seed=0)
    >>> images.shape
    (20, 32, 32, 3)
    >>> sorted(labels[:10].tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if kind not in CLASSES:
        raise unknown("kind of image", kind, CLASSES)
    if count < 0 or seed < 0:
        raise ConfigError(f"count and seed must be 0 or more, received {count} and {seed}.")
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
    for label, pattern in enumerate(PATTERNS[kind].values()):
        selected = labels == label
        field[selected] = pattern(u[selected], v[selected])

    background, foreground = _colors(rng)
    canvas = np.repeat(background, SIDE * SIDE, axis=1).reshape(BLOCK, 3, SIDE, SIDE)
    if not texture:
        _paint(canvas, *_bar(rng))
    _paint(canvas, field * size, foreground)
    if not texture:
        _paint(canvas, *_bar(rng))
    canvas += (TEXTURE_NOISE if texture else SHAPE_NOISE) * (rng.random(canvas.shape, np.float32) - 0.5)
    return 255 * np.clip(canvas, 0, 1).transpose(0, 2, 3, 1), labels


def _uniform(rng, low, high):
    return rng.uniform(low, high, (BLOCK, 1, 1)).astype(np.float32)


def _axes(rng, shift):
    """Pixel coordinates, randomly shifted from the center and rotated: two arrays (BLOCK, 32, 32)."""
    center = (SIDE - 1) / 2
    x = np.arange(SIDE, dtype=np.float32) - center - _uniform(rng, -shift, shift)
    y = np.arange(SIDE, dtype=np.float32) - center - _uniform(rng, -shift, shift)
    y = y.transpose(0, 2, 1)
    angle = _uniform(rng, 0, 2 * np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _bar(rng):
    """A bar of random size anywhere in the image: its distances in pixels and its color."""
    u, v = _axes(rng, SIDE / 2)
    return _box(u, v, _uniform(rng, 1, 12), _uniform(rng, 0.5, 1.5)), _colors(rng)[0]


def _colors(rng):
    """Two colors (BLOCK, 3, 1) that differ by 0.3 to 0.7 in every channel, modulo 1."""
    first = rng.random((BLOCK, 3, 1), np.float32)
    return first, (first + rng.uniform(0.3, 0.7, first.shape).astype(np.float32)) % 1


def _paint(canvas, field, color):
    """Paints where the field, distances in pixels, is negative, with a smooth edge."""
    alpha = np.clip(0.5 - field, 0, 1)[:, None]
    canvas += alpha * (color[..., None] - canvas)
