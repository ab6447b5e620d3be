"""Phantoms: volumes with a region whose class depends on shape and texture.

Made by construction, and no measurement. A region is an ellipsoid with an
uneven surface, half of it in a bright chamber. Two independent numbers make a
phantom:

- its shape s, a normal number: the longest diameter is 22 exp(0.15 s) voxels,
  whatever the volume, which is drawn by itself. A number of the whole, such as
  shape's Maximum3DDiameter, tells it; what sees a few voxels at a time does
  not.
- its arrangement t, 1 or -1: whether the half of the region that lies in the
  chamber is rough and the other smooth, or the other way round. Mean and
  spread of the intensities are the same all over. No number of the region
  alone tells t, whichever it is: chambers lie on either side alike, whatever
  t, and so do rough halves. Maps of a local texture such as glcm Idn tell it,
  together with the chamber.

The class is whether s, t or s + 1.25 t is above 0, with some doubt. Position,
direction, volume, brightness and the roughness of the whole differ between
phantoms and tell nothing; nor does a mirror image.

Letters: N phantoms, Z, Y, X axes of a volume.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data.source import Source, make_source

CLASSES = ("low", "high")
CUES = ("shape", "texture", "both")
SPLITS = ("train", "valid", "test")
# How many phantoms a split has.
COUNTS = {"train": 120, "valid": 40, "test": 80}
SIZE = (24, 32, 32)
_LEAST = 12  # Voxels a side; in fewer there is no texture.

# All numbers are our choice. Lengths are voxels of a volume of `SIZE`.
_DIAMETER, _SPREAD = 22.0, 0.15
_VOLUME, _VOLUME_SPREAD = 2300.0, 0.11
_UNEVEN = 0.12  # Of the surface, a share of the radius.
_STEEP = 6.0  # Of the change from one half to the other, a region's radii.
_LIMIT = 2.0  # Of normal numbers that make a shape, so that it fits.
_WEIGHT = 1.25  # Of t where the class depends on both.
# Hounsfield units: around the region, in it, its texture, in the chamber.
_OUTSIDE, _INSIDE, _TEXTURE, _BLOOD = -80.0, 40.0, 60.0, 300.0
_BRIGHTER = 15.0  # Of regions, and of what is around them.
_CONTRAST = 0.4  # Of the shares of roughness in both halves.


class Phantom(NamedTuple):
    """One volume.

    Attributes:
        image_ZxYxX: float32, Hounsfield units.
        mask_ZxYxX: bool, the region.
        label: of `CLASSES`.
        shape: s.
        texture: t.
    """

    image_ZxYxX: np.ndarray
    mask_ZxYxX: np.ndarray
    label: int
    shape: float
    texture: float


def read(
    split: str,
    *,
    cue: str = "both",
    size: Sequence[int] = SIZE,
    n: int | None = None,
    fold: int | None = None,
    folds: int = 5,
    seed: int = 0,
    noise: float = 10.0,
    doubt: float = 0.25,
) -> Source:
    """Phantoms, x [N, Z, Y, X, 2] float32: intensities, and 1 in the region.

    Args:
        split: "train", "valid" or "test", which share no phantom.
        cue: what the class depends on, "shape", "texture" or "both".
        size: Z, Y and X, at least 12 each; the region grows with the smallest
            of 4/3 Z, Y and X.
        n: N; None takes that of `COUNTS`. More do not change the first ones.
        fold: of a cohort of n phantoms (of all `COUNTS` together), dealt into
            `folds` parts in turn: "test" is this one, "valid" the next, and
            "train" all others. None draws each split by itself.
        folds: at least 3.
        seed: another one makes other phantoms, at least 0.
        noise: standard deviation of every voxel by itself, Hounsfield units.
        doubt: standard deviation of what is added to s, t or s + 1.25 t, each
            divided by its own standard deviation, before its sign is taken.

    Returns:
        The source; its `aux` has s and t, "shape" and "texture" [N].

    Raises:
        UsageError: for an argument out of range.
    """
    checks.choice("split", split, SPLITS)
    if n is not None:
        checks.whole("n", n, 1)
    if fold is None:
        rows = list(range(COUNTS[split] if n is None else n))
        stream = split
    else:
        rows = _dealt(
            split, sum(COUNTS.values()) if n is None else n, fold, folds
        )
        stream = "train"
    found = [
        draw(
            i, split=stream, cue=cue, size=size, seed=seed, noise=noise,
            doubt=doubt,
        )
        for i in rows
    ]  # fmt: skip
    image, mask, label, shape, texture = zip(*found, strict=True)
    source = make_source(
        np.stack([np.stack(image), np.stack(mask)], -1, dtype=np.float32),
        np.array(label),
        classes=CLASSES,
        name="phantom_volumes" + ("" if cue == "both" else f"_{cue}"),
        split=split,
    )
    return source._replace(
        aux={
            "shape": np.array(shape, np.float32),
            "texture": np.array(texture, np.float32),
        }
    )


def _dealt(split: str, n: int, fold: int, folds: int) -> list[int]:
    """Phantoms of a cohort that a split of a fold has."""
    checks.whole("folds", folds, 3)
    checks.whole("fold", fold)
    checks.in_range("fold", fold, 0, folds - 1)
    if n < folds:
        raise checks.UsageError(
            f"n is {n}, but {folds} folds need as many phantoms at least."
        )
    part = {fold: "test", (fold + 1) % folds: "valid"}
    return [i for i in range(n) if part.get(i % folds, "train") == split]


def draw(
    index: int,
    *,
    split: str = "train",
    cue: str = "both",
    size: Sequence[int] = SIZE,
    seed: int = 0,
    noise: float = 10.0,
    doubt: float = 0.25,
) -> Phantom:
    """One phantom, the same for the same arguments.

    Args:
        index: of the phantom in its split, at least 0.
        split: as in `read`, and so are the others.

    Raises:
        UsageError: for an argument out of range.
    """
    checks.whole("index", index)
    checks.choice("split", split, SPLITS)
    checks.choice("cue", cue, CUES)
    checks.whole("seed", seed)
    checks.in_range("seed", seed, 0, 2**32 - 1)
    checks.in_range("noise", noise, 0)
    checks.in_range("doubt", doubt, 0)
    if len(size) != 3:
        raise checks.UsageError(
            f"size is {tuple(size)}, but must be three numbers, of Z, Y and X."
        )
    for side in size:
        checks.whole("size", side, _LEAST)
    # Its stream is frozen, unlike that of newer generators.
    rng = np.random.RandomState([seed, SPLITS.index(split), index])
    s, t = _limited(rng, 1)[0], rng.choice([-1.0, 1.0])
    both = (s + _WEIGHT * t) / np.hypot(1, _WEIGHT)
    score = {"shape": s, "texture": t, "both": both}[cue]
    label = int(score + doubt * rng.normal() > 0)
    image, mask = _volume(rng, s, t, tuple(size))
    image += noise * rng.normal(size=image.shape)
    return Phantom(image.astype(np.float32), mask, label, s, t)


def _volume(
    rng: np.random.RandomState, s: float, t: float, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Intensities without noise, and the region."""
    unit = min(size[0] * 4 / 3, *size[1:]) / SIZE[1]
    axes = _axes(rng)
    half = unit * _DIAMETER / 2 * np.exp(_SPREAD * s)
    volume = _VOLUME * np.exp(_VOLUME_SPREAD * _limited(rng, 1)[0])
    thin = np.sqrt(unit**3 * volume / (4 / 3 * np.pi * half))
    centre = (np.array(size) - 1) / 2 + unit * rng.uniform(-0.5, 0.5, 3)

    place = np.moveaxis(np.indices(size), 0, -1) - centre
    along, *across = np.moveaxis(place @ axes.T, -1, 0)
    radius = np.sqrt((along / half) ** 2 + sum((a / thin) ** 2 for a in across))
    mask = _largest(radius < 1 + _UNEVEN * _field(rng, size, 2 * unit))

    facing = _beside(axes[0]) * rng.choice([-1, 1])
    side = np.tanh(_STEEP * (place @ facing) / thin)
    rough = rng.uniform(0.3, 0.7) + _CONTRAST * t * side
    rough = np.clip(rough, 0, 1)
    # Independent fields of variance 1, whose mixture has it too.
    texture = np.sqrt(rough) * _field(rng, size, 0)
    texture += np.sqrt(1 - rough) * _field(rng, size, 1.5)
    inside = _INSIDE + _BRIGHTER * rng.normal() + _TEXTURE * texture
    outside = _OUTSIDE + _BRIGHTER * _field(rng, size, 2 * unit)
    outside = np.where(place @ facing > 0, _BLOOD, outside)
    return np.where(mask, inside, outside), mask


def _axes(rng: np.random.RandomState) -> np.ndarray:
    """Three orthonormal rows, the first in any direction rather flat in Z."""
    rows = rng.normal(size=(3, 3))
    rows[0, 0] /= 2
    # At most 45 degrees out of the plane, as volumes have fewer slices.
    flat = np.linalg.norm(rows[0, 1:])
    rows[0, 0] = np.clip(rows[0, 0], -flat, flat)
    q, r = np.linalg.qr(rows.T)
    return (q * np.sign(np.diag(r))).T


def _beside(axis: np.ndarray) -> np.ndarray:
    """The direction in a slice that is at right angles to an axis."""
    across = np.cross([1.0, 0.0, 0.0], axis)
    return across / np.linalg.norm(across)


def _field(
    rng: np.random.RandomState, size: tuple[int, ...], blur: float
) -> np.ndarray:
    """A normal field of mean 0 and variance 1, smooth over `blur` voxels."""
    from scipy import ndimage  # Slow to load, and seldom needed.

    field = rng.normal(size=size)
    if not blur:
        return field
    field = ndimage.gaussian_filter(field, blur, mode="wrap")
    return (field - field.mean()) / field.std()


def _largest(mask: np.ndarray) -> np.ndarray:
    """A region without the islands that an uneven surface may have."""
    from scipy import ndimage  # Slow to load, and seldom needed.

    parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))  # type: ignore[misc]
    return parts == np.bincount(parts[mask]).argmax()


def _limited(rng: np.random.RandomState, n: int) -> np.ndarray:
    """Normal numbers within `_LIMIT`."""
    return np.clip(rng.normal(size=n), -_LIMIT, _LIMIT)
