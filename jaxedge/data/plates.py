"""Photos of plates after a meal, made by construction; none is a real one.

A plate lies on a tray, with cutlery, a napkin and stains, under a light that
falls off to one side. What is left over covers a known share of the plate, in
heaps of rice, greens, meat or sauce, and this share is the class: below 3 %,
below 25 %, or more. A stain lets the plate shine through and is no left-over.

Canteens differ in light, tray, tableware and camera: canteen 0 is the standard
one, each other has looks of its own. No public set of plate left-overs was
available, so all numbers here are our choice, and nothing that was learned here
tells how it does on real photos.

Letters: N plates, H rows, W columns, S side, A features.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxedge.core import checks
from jaxedge.data import plate_scenes as scenes
from jaxedge.data import sites
from jaxedge.data.plate_scenes import Canteen as Canteen
from jaxedge.data.source import Source, make_source
from jaxedge.features import plates as features_of

CLASSES = ("clean", "some", "lots")
SPLITS = ("train", "valid", "test")
# How many plates a split has, and how many of each canteen.
COUNTS = {"train": 3000, "valid": 500, "test": 1000}
EACH = {"train": 400, "valid": 60, "test": 150}
SIDE, LIMITS, KINDS = scenes.SIDE, scenes.LIMITS, scenes.KINDS
CANTEENS = 9
SITES = tuple(f"canteen {i}" for i in range(CANTEENS))

_BLOCK = 64  # Plates that are drawn at once: their fields fill a cache.
_MOST_MEANT = 8  # Pixels a side of which a smaller photo has one.


class Plates(NamedTuple):
    """Photos.

    Attributes:
        image_NxSxSx3: uint8, red, green and blue.
        area_N: share of the plate that left-overs cover, in [0, 1].
        label_N: of `CLASSES`.
    """

    image_NxSxSx3: np.ndarray
    area_N: np.ndarray
    label_N: np.ndarray


def read(
    split: str,
    *,
    n: int | None = None,
    seed: int = 0,
    canteen: int = 0,
    features: bool = True,
    turned: bool = False,
) -> Source:
    """Plates of one canteen, as features or as photos.

    Args:
        split: "train", "valid" or "test", which share no plate.
        n: N; None takes that of `COUNTS`. More do not change the first ones.
        seed: another one makes other plates, in [0, 2^32).
        canteen: whose, 0 the standard one; see `looks`.
        features: whether x is [N, 128] of `features.plates`, or else
            [N, 96, 96, 3], pixel / 255.
        turned: whether plates of the training split come in all 8 turns and
            mirror images, one after the other, so that there are 8 N rows.

    Returns:
        The source, x float32 in [0, 1]; its `aux` has "area", the share that
        left-overs cover, and "canteen", [N].

    Raises:
        UsageError: for an argument out of range.
    """
    _check(split, n, seed, canteen)
    count = COUNTS[split] if n is None else n
    source = _source("plates", split, count, seed, [canteen], features)
    return every_turn(source) if turned and split == "train" else source


def read_canteens(
    split: str,
    *,
    n: int | None = None,
    seed: int = 0,
    features: bool = True,
) -> Source:
    """Plates of all of `SITES`, one canteen after the other; `aux["site"]`.

    Args:
        split: as in `read`.
        n: of each canteen; None takes that of `EACH`.
        seed: as in `read`.
        features: likewise.

    Returns:
        As `read`.

    Raises:
        UsageError: for an argument out of range.
    """
    _check(split, n, seed, 0)
    count = EACH[split] if n is None else n
    every = range(CANTEENS)
    source = _source("plates_canteens", split, count, seed, every, features)
    assert source.aux is not None
    return sites.tagged(source, source.aux["canteen"], SITES)


def every_turn(source: Source) -> Source:
    """A source with 8 rows for each, its plate turned and mirrored.

    Args:
        source: of features [N, 128] or photos [N, S, S, 3].
    """
    if source.x.ndim == 2:
        x = np.asarray(features_of.turned(source.x))
    else:
        both = source.x, source.x[:, :, ::-1]
        seen = [np.rot90(x, k, (1, 2)) for x in both for k in range(4)]
        x = np.stack(seen, 1)
    rows = np.repeat(np.arange(len(source.y)), 8)
    return source.rows(rows)._replace(x=x.reshape(-1, *x.shape[2:]))


def looks(canteen: int) -> Canteen:
    """How the photos of a canteen look; the same whatever the seed.

    Args:
        canteen: 0 is the standard one; any other draws its own.

    Raises:
        UsageError: for a number below 0.
    """
    checks.whole("canteen", canteen)
    if not canteen:
        return Canteen()
    # Its stream is frozen, unlike that of newer generators.
    rng = np.random.RandomState([4242, canteen])
    warm = rng.uniform(-0.14, 0.14)
    tray, plate = rng.uniform(0.15, 0.75, 3), rng.uniform(0.7, 0.95)
    return Canteen(
        light=(1 + warm, 1.0, 1 - warm),
        brightness=rng.uniform(0.65, 1.05),
        fall=rng.uniform(0.1, 0.5),
        tray=tuple(map(float, tray)),
        plate=tuple(map(float, plate + rng.uniform(-0.08, 0.05, 3))),
        shape=float(rng.choice([2.0, 2.0, 3.0, 6.0])),
        rim=rng.uniform(0.0, 0.25),
        blur=rng.uniform(0.3, 1.6),
        noise=rng.uniform(0.01, 0.05),
    )


def draw(
    indices: Sequence[int],
    *,
    split: str = "train",
    seed: int = 0,
    canteen: int = 0,
) -> Plates:
    """Some plates, the same for the same arguments.

    Args:
        indices: places in the split, at least 0, [N].
        split: as in `read`, and so are the others.

    Raises:
        UsageError: for an argument out of range.
    """
    _check(split, None, seed, canteen)
    rows = [int(i) for i in indices]
    if not rows or min(rows) < 0:
        raise checks.UsageError(
            f"indices are {rows}, but must be one at least, from 0 on."
        )
    parts = list(_blocks(rows, split, seed, canteen))
    return Plates(*map(np.concatenate, zip(*parts, strict=True)))


def classes_of(area: Any) -> np.ndarray:
    """The class of a covered share of a plate, any shape, int32."""
    return np.digitize(area, LIMITS).astype(np.int32)


def _check(split: str, n: int | None, seed: int, canteen: int) -> None:
    checks.choice("split", split, SPLITS)
    if n is not None:
        checks.whole("n", n, 1)
    checks.whole("seed", seed)
    checks.in_range("seed", seed, 0, 2**32 - 1)
    checks.whole("canteen", canteen)


def _source(
    name: str,
    split: str,
    n: int,
    seed: int,
    canteens: Sequence[int],
    features: bool,
) -> Source:
    x, area, label = [], [], []
    for canteen in canteens:
        for part in _blocks(range(n), split, seed, canteen):
            # Of a size that is compiled once.
            image = part.image_NxSxSx3
            x.append(of_photos(image) if features else _shares(image))
            area.append(part.area_N)
            label.append(part.label_N)
    source = make_source(
        np.concatenate(x),
        np.concatenate(label),
        classes=CLASSES,
        name=name,
        split=split,
    )
    canteen_N = np.repeat(np.asarray(canteens, np.int32), n)
    aux = {"area": np.concatenate(area), "canteen": canteen_N}
    return source._replace(aux=aux)


def _shares(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255


def of_photos(image_NxSxSx3: np.ndarray) -> np.ndarray:
    """Features [N, A] float32 of photos uint8, block by block."""
    found = []
    for start in range(0, len(image_NxSxSx3), _BLOCK):
        part = image_NxSxSx3[start : start + _BLOCK]
        fill = [(0, _BLOCK - len(part)), *[(0, 0)] * 3]
        x = features_of.of_pixels(np.pad(part, fill))
        found.append(np.asarray(x)[: len(part)])
    return np.concatenate(found)


def _blocks(
    rows: Sequence[int], split: str, seed: int, canteen: int
) -> Iterator[Plates]:
    look, place = looks(canteen), SPLITS.index(split)
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        streams = [(seed, place, canteen, i) for i in part]
        image, area = scenes.photos(scenes.numbers(streams), look)
        yield Plates(image, area, classes_of(area))


def square(image_HxWx3: np.ndarray) -> np.ndarray:
    """The middle square of a photo as [96, 96, 3] uint8.

    A pixel is the mean of k x k, k the times that 96 goes into the side and at
    most 8, of rows and columns that lie evenly.

    Args:
        image_HxWx3: uint8.
    """
    height, width = image_HxWx3.shape[:2]
    side = min(height, width)
    each = min(max(side // SIDE, 1), _MOST_MEANT)
    count = SIDE * each
    place = (2 * np.arange(count) + 1) * side // (2 * count)
    rows = place + (height - side) // 2
    columns = place + (width - side) // 2
    pixels = image_HxWx3[rows[:, None], columns]
    if each == 1:
        return pixels
    # Whole numbers: exact, and no product of matrices.
    total = pixels.reshape(SIDE, each, SIDE, each, 3).sum(
        (1, 3), dtype=np.int32
    )
    return ((2 * total + each**2) // (2 * each**2)).astype(np.uint8)
