"""Radiomic features and maps of them: ours, and pyradiomics'.

    .venv/bin/python scripts/bench/radiomic_features.py --peer_python=PATH
        [--data_root=DIR] [--volumes=10000] [--turns=3] [--core=1]
        [--parts=maps,regions,cohort]

PATH is a Python that has pyradiomics 3.0.1; no path measures ours alone. All
of it runs on one core, to which both sides are bound, and seconds are those of
the processor, because the core may be shared. The sides take turns, and the
best of each is told. The first call of ours, which compiles unless programs are
kept, is told by itself.

- maps: of the region of brain1, glcm Idn at four radii, and all features of
  each class at radius 1. The floor of Idn are the additions of its sums over
  cubes, at the rate of one addition to a row of that length. The map of all
  glcm features is measured once.
- regions: all 107 features of one region, from the whole image on.
- cohort: all 107 of many ellipsoids of about 4,000 voxels in 28^3 voxels, with
  correlated noise of about 33 grey levels. Ours takes all volumes (of which 500
  are different), pyradiomics 50 of them.

The run fails where the maps of Idn are below 100 times pyradiomics' rate, the
cohort is below 20 times, or a result differs from pyradiomics' by more than
1e-4 of the largest of its feature. Of maps the joint average of glcm does not
count, which `features.radiomics.maps` tells about, and its MCC is left out: it
ends in an error there.
"""

import argparse
from collections.abc import Callable
import os
from pathlib import Path
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from peers import side
from rich.console import Console
from rich.table import Table

from jaxedge.features import radiomics
from jaxedge.features.radiomics import boxes, names, neighbours, regions

RADII = (1, 2, 5, 10)
CLASSES = ("firstorder", "glrlm", "gldm", "ngtdm", "glszm", "glcm")
MAPS, COHORT = 100.0, 20.0  # Times pyradiomics.
MOST = 1e-4
DISTINCT, COMPARED = 500, 50
SIZE, VOXELS, SPREAD = 28, 4000, 110.0
APART = ("glcm_JointAverage",)
# Where a cube has no pair along a direction, pyradiomics' own ends in an error.
LEFT_OUT = ("MCC",)
ONCE = "glcm"  # All features of it are mapped once, as pyradiomics takes long.


class Volume(NamedTuple):
    """An image, its region and mm along (z, y, x)."""

    image: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)


class Row(NamedTuple):
    """What was measured of one work.

    Attributes:
        name: of the work.
        items: voxels or volumes that ours took.
        ours: seconds of the best turn.
        peer: likewise, for as many items; None without pyradiomics.
        apart: the largest difference.
        target: times pyradiomics.
    """

    name: str
    items: int
    ours: float
    peer: float | None
    apart: float | None
    target: float | None


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and what was found."""
    start = time.process_time()
    found = jax.block_until_ready(work())
    return time.process_time() - start, found


def peer(
    python: str, volumes: list[Volume], task: dict[str, Any]
) -> tuple[float, dict[str, np.ndarray]]:
    """pyradiomics' seconds of all volumes, and what it found in each."""
    arrays: dict[str, Any] = {}
    for i, volume in enumerate(volumes):
        arrays |= {
            f"image/{i}": volume.image,
            f"mask/{i}": volume.mask.astype(np.uint8),
            f"spacing/{i}": np.array(volume.spacing),
        }
    told = {"volumes": [str(i) for i in range(len(volumes))], **task}
    found = side(python, "peer_radiomics.py", told, arrays)
    prefix = "found/"
    values = {
        key.removeprefix(prefix): array
        for key, array in found.items()
        if key.startswith(prefix)
    }
    return float(found["seconds"].sum()), values


def measured(
    given: argparse.Namespace,
    name: str,
    work: Callable[[], dict[str, np.ndarray]],
    volumes: list[Volume],
    task: dict[str, Any],
    items: tuple[int, int],
    target: float | None = None,
) -> Row:
    """Takes turns with pyradiomics.

    Args:
        given: flags.
        name: of the work.
        work: ours; what it finds is compared by name.
        volumes: that pyradiomics takes.
        task: what it does.
        items: of ours and of pyradiomics.
        target: times pyradiomics.
    """
    first, found = timed(work)  # Compiles.
    ours, theirs, values = [], [], {}
    for _ in range(min(given.turns, task.get("turns", given.turns))):
        ours += [timed(work)[0] for _ in range(task.get("of_ours", 3))]
        if given.peer_python:
            seconds, values = peer(given.peer_python, volumes, task)
            theirs.append(seconds * items[0] / items[1])
    apart = max(
        (difference(found[key], theirs) for key, theirs in values.items()
         if not (task["maps"] and key in APART)),
        default=None,
    )  # fmt: skip
    row = Row(
        name, items[0], min(ours), min(theirs, default=None), apart, target
    )
    gain = "" if row.peer is None else f", {row.peer / row.ours:.0f} times"
    print(
        f"{name}: {1e3 * row.ours:.4g} ms{gain}; the first call took"
        f" {first:.1f} s",
        flush=True,
    )
    return row


def difference(ours: Any, theirs: np.ndarray) -> float:
    """The largest, of the largest value that both define."""
    ours = np.asarray(ours, np.float64).reshape(-1)[: theirs.size]
    theirs = theirs.astype(np.float64).ravel()
    known = np.isfinite(ours) & np.isfinite(theirs)
    top = np.abs(theirs[known]).max(initial=0)
    return float(np.abs(ours - theirs)[known].max(initial=0) / (top or 1))


def read(given: argparse.Namespace, name: str) -> Volume:
    """A volume of the data root."""
    path = Path(given.data_root, "radiomics", f"{name}.npz")
    if not path.is_file():
        raise SystemExit(f"{path} is missing; give --data_root=DIR.")
    with np.load(path) as stored:
        spacing = stored["spacing_xyz"][::-1].astype(float)
        return Volume(
            stored["image"], stored["mask"] == 1, tuple(spacing.tolist())
        )


def mapped(given: argparse.Namespace) -> list[Row]:
    """Maps of brain1."""
    brain = read(given, "pyradiomics_brain1")
    voxels = int(brain.mask.sum())
    rows = []
    jobs = [(f"Idn, radius {r}", {"glcm": ["Idn"]}, r) for r in RADII]
    for kind in CLASSES:
        every = [n for n in names.PYRADIOMICS[kind] if n not in LEFT_OUT]
        jobs.append((f"{kind}, {len(every)} features", {kind: every}, 1))
    for name, features, radius in jobs:
        ((kind, some),) = features.items()
        wanted = [f"{kind}_{feature}" for feature in some]

        def work(wanted: Any = wanted, radius: int = radius) -> Any:
            return radiomics.voxelwise(
                brain.image,
                brain.mask,
                wanted,
                radius=radius,
                spacing=brain.spacing,
            )

        task = {
            "maps": True,
            "features": features,
            "radius": radius,
            "repeats": 1,
            "turns": 1 if kind == ONCE and len(some) > 1 else given.turns,
        }
        target = MAPS if len(some) == 1 else None
        rows.append(
            measured(given, name, work, [brain], task, (voxels, voxels), target)
        )
    return rows


def region_by_region(given: argparse.Namespace) -> list[Row]:
    """All features of one region."""
    rows = []
    for name in ("pyradiomics_brain1", "ibsi1_ct_phantom"):
        volume = read(given, name)
        jax.clear_caches()

        def work(volume: Volume = volume) -> dict[str, Any]:
            found = radiomics.extract(
                volume.image, volume.mask, spacing=volume.spacing
            )
            return {k.removeprefix("original_"): v for k, v in found.items()}

        task = {"maps": False, "features": {}, "repeats": 2}
        rows.append(measured(given, name, work, [volume], task, (1, 1)))
    return rows


def ellipsoids(n: int) -> list[Volume]:
    """Ellipsoids of equal volumes with correlated noise."""
    rng = np.random.default_rng(0)
    place = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    frequency = np.meshgrid(*[np.fft.fftfreq(SIZE)] * 3, indexing="ij")
    # A Gaussian of one voxel's standard deviation.
    blur = np.exp(-2 * np.pi**2 * sum(f**2 for f in frequency))
    made = []
    for _ in range(n):
        axes = rng.uniform(0.5, 1, 3)
        axes *= np.cbrt(VOXELS / (4 / 3 * np.pi * axes.prod()))
        inside = ((place / axes[:, None, None, None]) ** 2).sum(0) < 1
        noise = np.fft.fftn(rng.standard_normal(inside.shape)) * blur
        noise = np.fft.ifftn(noise).real
        image = 300 + SPREAD * noise / noise.std()
        made.append(Volume(image.astype(np.int16), inside))
    return made


def cohort(given: argparse.Namespace) -> list[Row]:
    """All features of many volumes."""
    made = ellipsoids(min(DISTINCT, given.volumes))
    every = [made[i % len(made)] for i in range(given.volumes)]

    def work(some: list[Volume] = every) -> dict[str, Any]:
        found = radiomics.extract_many(
            [v.image for v in some], [v.mask for v in some]
        )
        return {k.removeprefix("original_"): v for k, v in found.items()}

    task = {"maps": False, "features": {}, "repeats": 1, "of_ours": 1}
    some = made[:COMPARED]
    row = measured(
        given, f"{len(every):,} volumes", work, some, {**task, "turns": 2},
        (len(every), len(some)), COHORT,
    )  # fmt: skip
    parts(made)
    return [row]


def parts(made: list[Volume]) -> None:
    """Prints where the time of a cohort goes, by class."""
    made = made[:64]

    def host() -> Any:
        return [regions.cut(v.image, v.mask) for v in made]

    table = Table(title="ms a volume of the cohort")
    table.add_column("part", justify="right")
    table.add_column("ours", justify="right")
    alone = min(timed(host)[0] for _ in range(3))
    rows = {"crop and bins, on the host": alone}
    for kind in ("shape", *CLASSES):

        def work(kind: str = kind) -> Any:
            return radiomics.extract_many(
                [v.image for v in made], [v.mask for v in made], classes=[kind]
            )

        work()
        rows[kind] = min(timed(work)[0] for _ in range(3)) - alone
    for name, seconds in rows.items():
        table.add_row(name, f"{1e3 * seconds / len(made):.2f}")
    Console().print(table)


def floor(given: argparse.Namespace) -> None:
    """Prints the additions of Idn's sums over cubes, and what they take."""
    brain = read(given, "pyradiomics_brain1")
    around = regions.box(brain.mask)
    shape = regions.padded_size(around.size)
    steps = neighbours.offsets((1,), None)
    table = Table(title="floor of glcm Idn: additions of the sums over cubes")
    for column in ("radius", "M additions", "floor, ms", "numbers in a row"):
        table.add_column(column, justify="right")
    for radius in RADII:
        frame = boxes.frame(shape, radius, None, 1)
        joins = 0
        for step in steps:
            for axis in range(3):
                n = 2 * frame.radius_3[axis] + 1 - abs(int(step[axis]))
                # A range of n is put together from those of 1, 2, 4, ...
                joins += (n.bit_length() - 1) + n.bit_count() - 1
        # Pairs are counted, and what they add is summed.
        work = 2 * joins * frame.length
        seconds = work / additions(frame.length)
        cells = (radius, f"{work / 1e6:.1f}", f"{1e3 * seconds:.2f}")
        table.add_row(*map(str, cells), f"{frame.length:,}")
    Console().print(table)


def additions(length: int, n: int = 100) -> float:
    """Additions of two numbers of rows, a second."""

    @jax.jit
    def add(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, n, lambda _, y: y + x, x)

    x = jnp.ones(length)
    timed(lambda: add(x))
    return n * length / min(timed(lambda: add(x))[0] for _ in range(30))


def show(title: str, rows: list[Row], unit: str) -> None:
    """Prints rows of both sides."""
    table = Table(title=f"{title}, seconds of one core, the best")
    heads = (
        "work", "ours, ms", f"{unit}/s", "peer, ms", f"{unit}/s",
        "times", "apart",
    )  # fmt: skip
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        cells = [row.name, f"{1e3 * row.ours:.4g}"]
        cells.append(f"{row.items / row.ours:,.4g}")
        if row.peer is not None:
            cells.append(f"{1e3 * row.peer:.4g}")
            cells.append(f"{row.items / row.peer:,.4g}")
            cells.append(f"{row.peer / row.ours:.1f}")
            cells.append(f"{row.apart:.1e}")
        table.add_row(*cells)
    Console().print(table)


def missed(rows: list[Row]) -> list[str]:
    """What is below its target, or differs."""
    found = []
    for row in rows:
        if row.peer is None:
            continue
        gain = row.peer / row.ours
        if row.target and gain < row.target:
            found.append(f"{row.name}: {gain:.1f} of {row.target:g} times")
        if row.apart is not None and row.apart > MOST:
            found.append(f"{row.name}: {row.apart:.1e} apart")
    return found


def console() -> int:
    """Measures and prints; 1 for a target that is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    root = os.environ.get("JAXEDGE_DATA", "")
    parser.add_argument("--peer_python", default="")
    parser.add_argument("--data_root", default=root)
    parser.add_argument("--volumes", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--parts", default="maps,regions,cohort")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # JAX then has one thread.
        os.sched_setaffinity(0, {given.core % (os.cpu_count() or 1)})
    rows, wanted = [], given.parts.split(",")
    if "maps" in wanted:
        found = mapped(given)
        show("maps of brain1", found, "voxels")
        floor(given)
        rows += found
    if "regions" in wanted:
        found = region_by_region(given)
        show("all 107 features of a region", found, "volumes")
        rows += found
    if "cohort" in wanted:
        found = cohort(given)
        show("all 107 features of a cohort", found, "volumes")
        rows += found
    failures = missed(rows)
    for failure in failures:
        print(f"missed: {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(console())
