"""A plate after a meal, drawn layer by layer; see `data.plates`.

Letters: N plates, S side, K stains or heaps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SIDE = 96
KINDS = ("rice", "greens", "meat", "sauce")
# Shares of the plate at which the class changes.
LIMITS = (0.03, 0.25)

_MOST = 0.7  # Of a plate that is covered.
_EMPTY = 0.6  # Of the clean plates, how many have nothing left at all.
_HEAPS, _STAINS, _CUTLERY = 5, 4, 3
# Red, green and blue of each kind, how much a heap of it differs from that,
# and how rough it is.
_COLOURS = np.array(
    [[0.92, 0.86, 0.7], [0.3, 0.55, 0.2], [0.5, 0.32, 0.2], [0.75, 0.4, 0.15]],
    np.float32,
)
_VARIED = np.array([0.03, 0.1, 0.1, 0.12], np.float32)
_ROUGH = np.array([0.13, 0.2, 0.13, 0.06], np.float32)
_GRID = 12  # Places a side of the coarser noise.


class Canteen(NamedTuple):
    """How all photos of a canteen look.

    Attributes:
        light: gains of red, green and blue.
        brightness: of the light.
        fall: what the light loses from one side to the other, at most.
        tray: its colour.
        plate: its colour.
        shape: exponent of the plate's outline: 2 is round, more is squarer.
        rim: how much darker the rim is.
        blur: standard deviation, pixels.
        noise: of every number by itself, of 1.
    """

    light: tuple[float, ...] = (1.0, 1.0, 1.0)
    brightness: float = 0.95
    fall: float = 0.25
    tray: tuple[float, ...] = (0.5, 0.42, 0.36)
    plate: tuple[float, ...] = (0.92, 0.92, 0.9)
    shape: float = 2.0
    rim: float = 0.08
    blur: float = 0.6
    noise: float = 0.015


class Numbers(NamedTuple):
    """Random numbers of a block, uniform in [0, 1) unless told otherwise.

    Attributes:
        plate: [N, 8], place, size, light, and how much is left over.
        heaps: [N, K, 6].
        stains: [N, K, 8].
        cutlery: [N, K, 5].
        napkin: [N, 8].
        coarse: [N, 2, 12, 12].
        fine: [N, S, S], normal.
    """

    plate: np.ndarray
    heaps: np.ndarray
    stains: np.ndarray
    cutlery: np.ndarray
    napkin: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray


def numbers(streams: Sequence[Sequence[int]]) -> Numbers:
    """Of a block, from the stream of each plate."""
    drawn = [_of_one(stream) for stream in streams]
    return Numbers(*map(np.stack, zip(*drawn, strict=True)))


def _of_one(stream: Sequence[int]) -> tuple[np.ndarray, ...]:
    # Its stream is frozen, unlike that of newer generators.
    rng = np.random.RandomState(stream)
    sizes = (8,), (_HEAPS, 6), (_STAINS, 8), (_CUTLERY, 5), (8,)
    uniform = [rng.random_sample(size) for size in (*sizes, (2, _GRID, _GRID))]
    fine = rng.standard_normal((SIDE, SIDE))
    return tuple(u.astype(np.float32) for u in (*uniform, fine))


def photos(given: Numbers, look: Canteen) -> tuple[np.ndarray, np.ndarray]:
    """Photos of a block, from the tray up.

    Returns:
        [N, S, S, 3] uint8, and the share of each plate that left-overs cover,
        [N] float32.
    """
    # Colours come first, [3, N, S, S]: so they are broadcast fast.
    x, y = _places(given.plate)
    radius = np.hypot(x, y)
    if look.shape != 2:
        both = np.abs(x) ** look.shape + np.abs(y) ** look.shape
        radius = both ** np.float32(1 / look.shape)
    plate = _edge(1 - radius, 0.03)
    grain = 1 + 0.25 * (_smooth(given.coarse[:, 0]) - 0.5)
    # A shadow around the plate, so that it stands out of a tray like it.
    grain *= 1 - 0.35 * _edge(1.08 - radius, 0.06)
    image = _colour(look.tray) * grain
    ring = 1 - look.rim * _edge(radius - 0.74, 0.02) * (radius < 0.95)
    _lay(image, plate, _colour(look.plate) * ring)
    _lay_napkin(image, given.napkin, x, y)
    _stain(image, given.stains, x, y, plate)
    area = _heap(image, given, x, y, radius)
    _lay_cutlery(image, given.cutlery, x, y)
    return _camera(image, given, look), area


def _places(plate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every pixel, from the plate's middle, over its radius, [N, S, S]."""
    grid = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE * 2 - 1
    across, down, size = plate.T[:3, :, None, None]
    radius = 0.8 + 0.08 * size
    x = (grid - 0.08 * (across - 0.5)) / radius
    y = (grid[:, None] - 0.08 * (down - 0.5)) / radius
    shape = (len(plate), SIDE, SIDE)
    return np.broadcast_to(x, shape), np.broadcast_to(y, shape)


def _edge(inside: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 within a width around 0."""
    return np.clip(inside / np.float32(width) + np.float32(0.5), 0, 1)


def _colour(numbers: Any) -> np.ndarray:
    """Colours [3] or [N, 3] against fields, [3, 1 or N, 1, 1]."""
    return np.asarray(numbers, np.float32).T.reshape(3, -1, 1, 1)


def _each(numbers_N: np.ndarray) -> np.ndarray:
    """A number of each plate against fields, [N, 1, 1]."""
    return numbers_N[:, None, None]


def _lay(image: np.ndarray, share: np.ndarray, colour: np.ndarray) -> None:
    """A layer on an image, written into it; only where there is some."""
    there = share.any((1, 2))
    if colour.shape[1] > 1:
        colour = colour[:, there]
    below = image[:, there]
    image[:, there] = below + share[there] * (colour - below)


def _smooth(coarse: np.ndarray) -> np.ndarray:
    """A coarse grid [N, 12, 12] between its places, [N, S, S]."""
    return _BETWEEN @ coarse @ _BETWEEN.T


def _between() -> np.ndarray:
    """What each place of the grid gives to a pixel, [S, 12]."""
    place = np.linspace(0, _GRID - 1, SIDE)[:, None]
    share = np.maximum(1 - np.abs(place - np.arange(_GRID)), 0)
    return share.astype(np.float32)


_BETWEEN = _between()


def _turned(
    x: np.ndarray, y: np.ndarray, centre: np.ndarray, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places along and across a thing, of its centre [N, 2]."""
    along, across = _each(np.cos(angle)), _each(np.sin(angle))
    x, y = x - _each(centre[:, 0]), y - _each(centre[:, 1])
    return along * x + across * y, along * y - across * x


def _around(numbers: np.ndarray, far: float, near: float = 0.0) -> np.ndarray:
    """Centres [N, 2] that lie evenly in a ring, from two numbers [N, 2]."""
    share, angle = numbers[:, 0], 2 * np.pi * numbers[:, 1]
    radius = np.sqrt(near**2 + share * (far**2 - near**2))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _lay_napkin(
    image: np.ndarray, numbers: np.ndarray, x: np.ndarray, y: np.ndarray
) -> None:
    """On every second tray, in a corner; it may lie over the rim."""
    there = numbers[:, 4] < 0.5
    one = numbers[there]
    centre = _around(one[:, :2], 1.35, 0.95)
    along, across = _turned(x[there], y[there], centre, np.pi * one[:, 2])
    half = _each(0.2 + 0.25 * one[:, 3])
    share = np.zeros_like(x)
    share[there] = _edge(half - np.abs(along), 0.04)
    share[there] *= _edge(half - np.abs(across), 0.04)
    _lay(image, share, _colour(0.8 + 0.2 * numbers[:, 5:8]))


def _stain(
    image: np.ndarray,
    numbers: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    plate: np.ndarray,
) -> None:
    """Thin smears through which the plate is seen."""
    for all_of in np.moveaxis(numbers, 1, 0):
        there = all_of[:, 6] < 0.7
        one = all_of[there]
        centre = _around(one[:, :2], 0.8)
        along, across = _turned(x[there], y[there], centre, np.pi * one[:, 2])
        size = _each(0.05 + 0.2 * one[:, 3] ** 2)
        longer = _each(1 + 2 * one[:, 4])
        q = (along / (size * longer)) ** 2 + (across / size) ** 2
        share = np.zeros_like(plate)
        strength = 0.25 * _each(one[:, 5])
        share[there] = strength * _edge(1 - q, 0.8) * plate[there]
        brown = _COLOURS[3] + 0.3 * (all_of[:, 7, None] - 0.5)
        _lay(image, share, _colour(brown))


def _heap(
    image: np.ndarray,
    given: Numbers,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
) -> np.ndarray:
    """Lays left-overs on the plate: the share that they cover, [N]."""
    target = _targets(given.plate[:, 3], given.plate[:, 4])
    score, which = _scores(given, x, y)
    # Only on the plate; there the pixels of the highest scores are covered.
    on = radius < 0.97
    count = on.sum((1, 2))
    covered = np.round(target * count).astype(int)
    flat = np.where(on, score, -np.inf).reshape(len(target), -1)
    ranked = np.sort(flat, 1)
    place = ranked.shape[1] - np.maximum(covered, 1)
    least = _each(ranked[np.arange(len(flat)), place])
    mask = on & (score >= least) & _each(covered > 0)
    area = (mask.sum((1, 2)) / count).astype(np.float32)

    plate, *_ = found = np.nonzero(mask)
    heap = which[found]
    kind = (len(KINDS) * given.heaps[plate, heap, 4]).astype(int)
    # Three numbers that hardly depend on each other.
    turn = 40 * given.heaps[plate, heap, 5] + np.array([[0], [2], [4]])
    height = np.clip((score - least)[found] * 3, 0, 1)
    rough = 1 + _ROUGH[kind] * given.fine[found] - 0.2 * (1 - height)
    tint = _VARIED[kind] * np.sin(turn)
    image[:, *found] = _COLOURS[kind].T * rough + tint
    return area


def _targets(which: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Shares of the plate to be covered; a third of each class.

    The density goes to 0 at the limits, where nobody could tell classes apart.
    """
    low, high = LIMITS
    little = np.maximum(share - _EMPTY, 0) / (1 - _EMPTY)
    clean = low * (1 - np.sqrt(1 - little))
    near = np.sqrt(np.minimum(share, 1 - share) / 2)
    some = low * (high / low) ** np.where(share < 0.5, near, 1 - near)
    lots = high + (_MOST - high) * np.sqrt(share)
    return np.choose((3 * which).astype(int), [clean, some, lots])


def _scores(
    given: Numbers, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How near a heap every pixel is, and which heap that is, [N, S, S]."""
    best = np.full(x.shape, -np.inf, np.float32)
    which = np.zeros(x.shape, np.int8)
    for k in range(_HEAPS):
        one = given.heaps[:, k]
        centre = _around(one[:, :2], 0.7)
        size = _each(0.35 + 0.5 * one[:, 2])
        # Nearly half of them are not there; the first always is.
        gone = 10 * _each((one[:, 3] < 0.45) & (k > 0)).astype(np.float32)
        far = (x - _each(centre[:, 0])) ** 2 + (y - _each(centre[:, 1])) ** 2
        score = -far / size**2 - gone
        which[score > best] = k
        best = np.maximum(best, score)
    return best + np.float32(0.9) * _smooth(given.coarse[:, 1]), which


def _lay_cutlery(
    image: np.ndarray, numbers: np.ndarray, x: np.ndarray, y: np.ndarray
) -> None:
    """Bars of metal, on the plate or beside it, with a bright line along."""
    for all_of in np.moveaxis(numbers, 1, 0):
        there = all_of[:, 4] < 0.5
        one = all_of[there]
        centre = _around(one[:, :2], 1.25, 0.6)
        along, across = _turned(x[there], y[there], centre, np.pi * one[:, 2])
        share, grey = np.zeros_like(x), np.zeros_like(x)
        half = _each(0.4 + 0.3 * one[:, 3])
        share[there] = _edge(half - np.abs(along), 0.04)
        share[there] *= _edge(0.04 - np.abs(across), 0.03)
        grey[there] = 0.55 + 0.35 * _edge(across, 0.04)
        _lay(image, share, grey[None])


def _camera(image: np.ndarray, given: Numbers, look: Canteen) -> np.ndarray:
    """Light, blur and noise, [N, S, S, 3] uint8."""
    grid = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    angle = 2 * np.pi * given.plate[:, 5]
    across = _each(np.cos(angle)) * grid
    down = _each(np.sin(angle)) * grid[:, None]
    fall = look.fall * _each(given.plate[:, 6])
    strength = look.brightness * (0.9 + 0.2 * given.plate[:, 7])
    image *= (1 - fall * (0.5 + across + down)) * _each(strength)
    image *= _colour(look.light)
    image = _blurred(_blurred(image, look.blur, 2), look.blur, 3)
    # Grain of red and blue is that of green elsewhere: as if independent.
    for channel in range(3):
        grain = np.roll(given.fine, 31 * channel, (1, 2))
        image[channel] += np.float32(look.noise) * grain
    levels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(levels, 0, -1))


def _blurred(image: np.ndarray, width: float, axis: int) -> np.ndarray:
    """An image under a Gaussian along an axis, its ends repeated."""
    reach = int(np.ceil(2.5 * width))
    weight = np.exp(-(np.arange(reach + 1) ** 2) / (2 * width**2))
    weight = (weight / (2 * weight.sum() - 1)).astype(np.float32)
    pad = [(reach, reach) if a == axis else (0, 0) for a in range(image.ndim)]
    wide = np.moveaxis(np.pad(image, pad, "edge"), axis, 0)
    out = weight[0] * wide[reach : reach + SIDE]
    for step in range(1, reach + 1):
        both = wide[reach - step :][:SIDE] + wide[reach + step :][:SIDE]
        out += weight[step] * both
    return np.moveaxis(out, 0, axis)
