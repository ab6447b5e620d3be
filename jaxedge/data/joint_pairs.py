"""Pairs of images whose joint law is known, made by construction.

Two normal numbers u and v of correlation rho make a pair, and with them a
place, an elongation and a direction that the two images share:

- first: one smooth blob on black, -1 + (1 + 0.2 u) exp(-q^2 / 2), where q is
  the elliptic distance from its centre, in standard deviations; five numbers
  make it. Its area is the same whatever its elongation, so u is its brightness
  and no more.
- second: a plateau of the level 0.25 + 0.16 v where q is below about 1.5, and
  around it a texture of three gratings of any direction, wavelength and phase,
  between -0.9 and -0.4, which is independent of all else.

u and v are limited to 4 standard deviations, beyond which are 1 of 16,000.
Each has the same law whatever rho, and so has each image: unpaired images do
not tell how strong the relation is, nor its sign. Given u the variance of v is
1 - rho^2, so the mutual information of the two is -log(1 - rho^2) / 2 nats, the
difference of two entropies of normal numbers; at 0.8 the limits take less than
0.001 from it.
`summary_first` and `summary_second` read u and v off images, and so off
generated ones. The class is whether v is above u, which no image tells alone.

Letters: N pairs, S side.
"""

from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import paired
from jaxedge.data.source import Source

CLASSES = ("first stronger", "second stronger")
MODALITIES = ("blob", "plateau")
SPLITS = ("train", "valid", "test")
# How many pairs a split has.
COUNTS = {"train": 2000, "valid": 500, "test": 1000}
SIDE, RHO = 16, 0.8
_LEAST = 12  # Pixels a side; fewer do not show a plateau.

# All numbers are our choice. Lengths are pixels of images of `SIDE`.
_LIMIT = 4.0
_PEAK, _PEAK_STEP = 1.0, 0.2  # Of the blob above black, and of it a unit of u.
_LEVEL, _LEVEL_STEP = 0.25, 0.16  # Of the plateau, and of it a unit of v.
_WIDTH = 2.1  # Standard deviation of a round blob.
_LONGER = 0.25  # Logarithm of what the longest one has more, along its axis.
_OFF = 2.0  # How far from the middle a centre is at most, along each side.
_RADIUS, _STEEP = 1.5, 8  # Of the plateau, in q, and how sharply it ends.
_GREY, _CONTRAST = -0.65, 0.25  # Of the texture.
_GRATINGS, _SHORT, _WAVE = 3, 3.0, 6.0  # Wavelengths from and to.
_TOP = 12  # Of the pixels, in the brightest so many a level is read.


def read(
    split: str,
    *,
    rho: float = RHO,
    side: int = SIDE,
    n: int | None = None,
    pairs: float = 1.0,
    seed: int = 0,
) -> Source:
    """Pairs, x [N, S, S, 2] float32 in [-1, 1]: blob and plateau.

    Args:
        split: "train", "valid" or "test", which share no pair.
        rho: correlation of u and v, in [-0.999, 0.999].
        side: S, at least 12; everything grows with it.
        n: N; None takes that of `COUNTS`. More do not change the first ones.
        pairs: share of the training pairs that are kept, in (0, 1], see
            `paired.drawn`; other splits keep all.
        seed: another one makes other pairs and keeps others, in [0, 2^32).

    Returns:
        The source; its `aux` has, beside those of `paired`, "id", the index of
        the pair, and "first" and "second", which are u and v, [N] each.

    Raises:
        UsageError: for an argument out of range.
    """
    checks.choice("split", split, SPLITS)
    if n is not None:
        checks.whole("n", n, 1)
    checks.whole("side", side, _LEAST)
    checks.in_range("rho", rho, -0.999, 0.999)
    paired.check_draw(pairs, seed)
    count = COUNTS[split] if n is None else n
    shared, u, v, textures = _latents(split, count, rho, seed)
    first, second = _images(shared, u, v, textures, side)
    id_N = np.arange(count, dtype=np.int32)
    return paired.make(
        first,
        second,
        (v > u).astype(np.int32),
        paired.drawn(id_N, pairs, seed)
        if split == "train"
        else paired.complete(count),
        aux={
            "id": id_N,
            "first": u.astype(np.float32),
            "second": v.astype(np.float32),
        },
        classes=CLASSES,
        name="joint_pairs",
        split=split,
    )


def mutual_information(rho: Any = RHO) -> Any:
    """Of two normal numbers of correlation rho, nats; any shape."""
    checks.in_range("rho", rho, -1, 1)
    rho = np.asarray(rho, float)
    with np.errstate(divide="ignore"):
        return -0.5 * np.log1p(-(rho**2))


def summary_first(images: Any) -> np.ndarray:
    """u of each first image, [..., S, S] -> [...] float64.

    From the mean of the brightest pixels, 12 of 16 x 16, which is as bright for
    every blob of the same u.
    """
    # Of a disc of area a in the middle of a blob of area 2 pi w^2, the mean is
    # that of exp(-t) for t from 0 to a / (2 pi w^2).
    part = _TOP / (2 * np.pi * _WIDTH**2)
    mean = -np.expm1(-part) / part
    return ((_brightest(images) + 1) / mean - _PEAK) / _PEAK_STEP


def summary_second(images: Any) -> np.ndarray:
    """v of each second image, [..., S, S] -> [...] float64.

    Likewise, all within the plateau.
    """
    return (_brightest(images) - _LEVEL) / _LEVEL_STEP


def _brightest(images: Any) -> np.ndarray:
    """Mean of the brightest pixels, [...]."""
    x = np.asarray(images, np.float64)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < _LEAST:
        raise checks.UsageError(
            f"images have the shape {x.shape}, but must be [..., S, S] with S"
            f" at least {_LEAST}; give one modality, without its channel."
        )
    side = x.shape[-1]
    top = round(_TOP * (side / SIDE) ** 2)
    flat = x.reshape(*x.shape[:-2], side**2)
    return np.partition(flat, -top, axis=-1)[..., -top:].mean(-1)


def _latents(
    split: str, n: int, rho: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair: [N, 4] what both share, u, v, and [N, 3, 3] textures.

    All but u and v are uniform in [0, 1).
    """
    shared = np.empty((n, 4))
    normal = np.empty((n, 2))
    textures = np.empty((n, _GRATINGS, 3))
    for i in range(n):
        # Its stream is frozen, unlike that of newer generators.
        rng = np.random.RandomState([seed, SPLITS.index(split), i])
        normal[i] = rng.normal(size=2)
        shared[i] = rng.uniform(size=4)
        textures[i] = rng.uniform(size=(_GRATINGS, 3))
    u = normal[:, 0]
    v = rho * u + np.sqrt(1 - rho**2) * normal[:, 1]
    return (
        shared,
        np.clip(u, -_LIMIT, _LIMIT),
        np.clip(v, -_LIMIT, _LIMIT),
        textures,
    )


def _images(
    shared: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    textures: np.ndarray,
    side: int,
) -> tuple[np.ndarray, np.ndarray]:
    """First and second images, [N, S, S] float32 each."""
    # In pixels of `SIDE`, the middle of the image at 0.
    place = (np.arange(side) + 0.5) * (SIDE / side) - SIDE / 2
    q = _distance(shared, place)
    peak = (_PEAK + _PEAK_STEP * u)[:, None, None]
    first = peak * np.exp(-(q**2) / 2) - 1
    plateau = np.exp(-((q / _RADIUS) ** _STEEP))
    level = (_LEVEL + _LEVEL_STEP * v)[:, None, None]
    around = _GREY + _CONTRAST * _texture(textures, place)
    second = plateau * level + (1 - plateau) * around
    return first.astype(np.float32), second.astype(np.float32)


def _distance(shared: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Elliptic distance of every pixel from the centre, [N, S, S]."""
    across, down, longer, turn = shared.T[:, :, None, None]
    x = place - _OFF * (2 * across - 1)
    y = place[:, None] - _OFF * (2 * down - 1)
    angle = np.pi * turn
    along = np.cos(angle) * x + np.sin(angle) * y
    aside = np.cos(angle) * y - np.sin(angle) * x
    ratio = np.exp(_LONGER * longer)
    return np.hypot(along / ratio, aside * ratio) / _WIDTH


def _texture(textures: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Mean of gratings of any direction, [N, S, S] in [-1, 1]."""
    turn, wave, phase = np.moveaxis(textures, -1, 0)[..., None, None]
    angle = np.pi * turn
    length = _SHORT + (_WAVE - _SHORT) * wave
    way = np.cos(angle) * place + np.sin(angle) * place[:, None]
    return np.sin(2 * np.pi * (way / length + phase)).mean(1)
