"""Part segmentation of things put together from simple meshes.

Made by construction, and no measurement: 8 categories of two or three parts,
which are meshes of GeometricShapes (see `geometric_shapes`) of random sizes put
on or beside each other. As in ShapeNet's part set every category has parts of
its own, and a point's label is the part whose mesh it was drawn from.

Letters: N clouds, P points, M meshes of a cloud, F triangles, K categories.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.data import clouds, geometric_shapes
from jaxedge.data.source import Source, make_source
from jaxedge.features import points

CLOUDS = {"train": 60, "valid": 10, "test": 20}
LOW, HIGH = 0.7, 1.3


class Piece(NamedTuple):
    """A mesh of a category.

    Attributes:
        part: the name of its part.
        mesh: its class in GeometricShapes.
        size: its extent along the three axes, before the random factors.
    """

    part: str
    mesh: str
    size: tuple[float, float, float]


# Each category: the axis along which its pieces follow each other, each where
# the one before it ends and on one line of centres, and the pieces from below.
CATEGORIES: dict[str, tuple[int, tuple[Piece, ...]]] = {
    "barbell": (
        0,
        (
            Piece("weight", "3d_sphere", (1.0, 1.0, 1.0)),
            Piece("bar", "3d_cube", (2.0, 0.3, 0.3)),
            Piece("weight", "3d_sphere", (1.0, 1.0, 1.0)),
        ),
    ),
    "hut": (
        2,
        (
            Piece("wall", "3d_cube", (1.5, 1.5, 1.0)),
            Piece("roof", "3d_cone", (2.0, 2.0, 1.0)),
        ),
    ),
    "lamp": (
        2,
        (
            Piece("foot", "3d_cylinder", (1.0, 1.0, 0.2)),
            Piece("pole", "3d_cylinder", (0.2, 0.2, 1.6)),
            Piece("shade", "3d_dome", (1.2, 1.2, 0.7)),
        ),
    ),
    "rocket": (
        2,
        (
            Piece("engine", "3d_cone", (1.0, 1.0, 0.5)),
            Piece("hull", "3d_cylinder", (0.8, 0.8, 2.0)),
            Piece("nose", "3d_cone", (0.8, 0.8, 0.8)),
        ),
    ),
    "snowman": (
        2,
        (
            Piece("body", "3d_sphere", (1.4, 1.4, 1.2)),
            Piece("chest", "3d_sphere", (1.0, 1.0, 0.9)),
            Piece("head", "3d_sphere", (0.7, 0.7, 0.7)),
        ),
    ),
    "table": (
        2,
        (
            Piece("leg", "3d_cylinder", (0.4, 0.4, 1.2)),
            Piece("top", "3d_cube", (2.0, 2.0, 0.15)),
        ),
    ),
    "tower": (
        2,
        (
            Piece("base", "3d_cube", (1.4, 1.4, 0.5)),
            Piece("shaft", "3d_cylinder", (0.8, 0.8, 2.0)),
            Piece("roof", "3d_cone", (1.2, 1.2, 0.8)),
        ),
    ),
    "tree": (
        2,
        (
            Piece("trunk", "3d_cylinder", (0.3, 0.3, 0.8)),
            Piece("crown", "3d_cone", (1.4, 1.4, 1.8)),
        ),
    ),
}


def _parts() -> dict[str, tuple[str, ...]]:
    """The names of each category's parts, in the order of its pieces."""
    return {
        name: tuple(dict.fromkeys(piece.part for piece in pieces))
        for name, (_, pieces) in CATEGORIES.items()
    }


CLASSES = tuple(f"{c} {p}" for c, names in _parts().items() for p in names)
# The labels of each category's parts.
PARTS: dict[str, tuple[int, ...]] = {
    category: tuple(CLASSES.index(f"{category} {part}") for part in names)
    for category, names in _parts().items()
}


def read(split: str, root: Path) -> Source:
    """Clouds with a part a point, x [N, 1024, 3 + 8], y [N, 1024].

    Every extent of a piece is multiplied by a factor uniform in [0.7, 1.3).
    Points are uniform over all faces of a cloud, those inside of another piece
    included; places are centred on their mean and divided by the largest
    radius (deplm 2). All of it is always the same. Meshes of the train and the
    test part of GeometricShapes are equal in the archive at hand, so a test
    cloud differs by its sizes and points.

    Args:
        split: "train" (60 clouds a category, 480), "valid" (10, 80) or "test"
            (20, 160). Categories take turns.
        root: the folder that holds `geometric_shapes/`.

    Returns:
        The source: columns 0 to 2 of x are the place, the others the one-hot
        category in the order of `PARTS`, equal for all points of a cloud.

    Raises:
        UsageError: for a missing or damaged archive or mesh.
    """
    part = "test" if split == "test" else "train"
    meshes = geometric_shapes.read_meshes(root, part)
    missing = {
        p.mesh for _, pieces in CATEGORIES.values() for p in pieces
    } - meshes.keys()
    if missing:
        raise checks.UsageError(
            f"{root / geometric_shapes.FILE} lacks the {part} meshes"
            f" {', '.join(sorted(missing))}; fetch it again."
        )
    names = [*CATEGORIES] * CLOUDS[split]
    sizes = _factors(len(names), split)
    things = [
        _pieces(name, factors, meshes)
        for name, factors in zip(names, sizes, strict=True)
    ]
    x_NxPx3, chosen_NxP = _drawn(split, things)
    labels = {
        name: np.array([CLASSES.index(f"{name} {p.part}") for p in pieces])
        for name, (_, pieces) in CATEGORIES.items()
    }
    y_NxP = np.stack(
        [labels[n][row] for n, row in zip(names, chosen_NxP, strict=True)]
    )
    category_N = np.arange(len(names)) % len(CATEGORIES)
    return make_source(
        clouds.with_category(
            np.asarray(points.normalise(x_NxPx3)), category_N, len(CATEGORIES)
        ),
        y_NxP,
        classes=CLASSES,
        name="shape_parts",
        split=split,
    )


def _factors(n: int, split: str) -> np.ndarray:
    """Random factors of the pieces' extents, [N, M, 3]."""
    most = max(len(pieces) for _, pieces in CATEGORIES.values())
    drawn = clouds.draw_keys(f"shape_parts/{split}/sizes", n)
    return np.asarray(
        jax.vmap(lambda k: jax.random.uniform(k, (most, 3), None, LOW, HIGH))(
            drawn
        )
    )


def _pieces(
    name: str, factors: np.ndarray, meshes: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """The triangles [F, 3, 3] of each piece of one thing, in their places."""
    axis, pieces = CATEGORIES[name]
    found, end = [], 0.0
    for piece, factor in zip(pieces, factors, strict=False):
        corners = meshes[piece.mesh]
        low, high = corners.min((0, 1)), corners.max((0, 1))
        extent = np.array(piece.size, np.float32) * factor
        placed = ((corners - low) / (high - low) - 0.5) * extent
        placed[..., axis] += end + extent[axis] / 2
        end += extent[axis]
        found.append(placed)
    return found


def _drawn(
    split: str, things: list[list[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, P, 3] and the number of the piece that each is on, [N, P].

    Each point's piece is drawn by its share of the area, then the point on it.
    """
    flat = [piece for pieces in things for piece in pieces]
    drawn = clouds.draw_keys(f"shape_parts/{split}", len(flat))
    on_piece = clouds.of_surfaces(drawn, flat)
    drawn = clouds.draw_keys(f"shape_parts/{split}/pieces", len(things))
    u_NxP = np.asarray(
        jax.vmap(lambda k: jax.random.uniform(k, (clouds.POINTS,)))(drawn)
    )
    x, chosen, start = [], [], 0
    for pieces, u_P in zip(things, u_NxP, strict=True):
        upto = np.cumsum([_area(piece) for piece in pieces])
        # u is below 1, so the last piece is the largest number.
        mine = np.searchsorted(upto / upto[-1], u_P, side="right")
        x.append(on_piece[start + mine, np.arange(clouds.POINTS)])
        chosen.append(mine)
        start += len(pieces)
    return np.stack(x), np.stack(chosen)


def _area(corners: np.ndarray) -> float:
    """Twice the area of triangles [F, 3, 3]."""
    sides = corners[:, 1:] - corners[:, :1]
    crossed = np.cross(sides[:, 0], sides[:, 1])
    return float(np.linalg.norm(crossed, axis=-1).sum())
