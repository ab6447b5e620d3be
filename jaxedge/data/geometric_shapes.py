"""GeometricShapes: points of 40 simple meshes, such as cubes and tori.

It is read from `geometric_shapes/geometric_shapes_off.zip` (PyTorch Geometric's
`raw.zip`): `raw/CLASS/train/CLASS.off` and `raw/CLASS/test/CLASS.off`.
"""

import functools
from pathlib import Path
import zipfile

import jax
import numpy as np

from jaxedge.core import checks, npz
from jaxedge.data import clouds, off
from jaxedge.data.source import Source, make_source
from jaxedge.features import points

FILE = "geometric_shapes/geometric_shapes_off.zip"
CLOUDS = {"train": 20, "valid": 5, "test": 10}
TURN = np.pi / 18


def read(split: str, root: Path) -> Source:
    """Points of the meshes, x [N, 1024, 3] float32, radius at most 1.

    Several clouds a mesh: turned about the third axis by an angle uniform in
    +-10 degrees, so that a cube stays another class than a cube turned by 45;
    points uniform over the faces; centred on their mean and divided by their
    largest radius. All of it is always the same. In the archive at hand the
    train and the test mesh of every class are equal, so a test cloud differs by
    its points and its turn alone: this set is a toy.

    Args:
        split: "train" (20 clouds of each train mesh, 800), "valid" (5 others,
            200) or "test" (10 of each test mesh, 400). Classes take turns.
        root: the folder that holds `geometric_shapes/`.

    Returns:
        The source.

    Raises:
        UsageError: for a missing or damaged archive or mesh.
    """
    meshes = read_meshes(root, "test" if split == "test" else "train")
    n = CLOUDS[split]
    y = np.tile(np.arange(len(meshes)), n)
    drawn = clouds.draw_keys(f"geometric_shapes/{split}", len(y))
    angle = _angles(len(y), split)
    surfaces = [*meshes.values()]
    turned = [
        surfaces[label] @ _turn(a) for label, a in zip(y, angle, strict=True)
    ]
    return make_source(
        np.asarray(points.normalise(clouds.of_surfaces(drawn, turned))),
        y,
        classes=tuple(meshes),
        name="geometric_shapes",
        split=split,
    )


def read_meshes(root: Path, part: str) -> dict[str, np.ndarray]:
    """Triangles [F, 3, 3] of one mesh a class, by its name, sorted.

    Args:
        root: the folder that holds `geometric_shapes/`.
        part: "train" or "test".

    Raises:
        UsageError: for a missing or damaged archive or mesh.
    """
    path = root / FILE
    if not path.is_file():
        raise checks.UsageError(
            f"{path} is missing; put the archive of GeometricShapes there."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            found = {
                Path(name).stem: archive.read(name)
                for name in sorted(archive.namelist())
                if Path(name).match(f"{part}/*.off")
            }
    except npz.DAMAGED as error:
        raise checks.UsageError(
            f"{path} is no archive of meshes ({npz.reason(error)}); fetch it"
            " again."
        ) from None
    if not found:
        raise checks.UsageError(
            f"{path} holds no {part} mesh; it needs raw/CLASS/{part}/CLASS.off."
        )
    return {
        name: off.triangles(content, f"{part}/{name}.off of {path}")
        for name, content in found.items()
    }


def _angles(n: int, split: str) -> np.ndarray:
    draw = functools.partial(jax.random.uniform, minval=-TURN, maxval=TURN)
    drawn = clouds.draw_keys(f"geometric_shapes/{split}/turn", n)
    return np.asarray(jax.vmap(draw)(drawn))


def _turn(angle: float) -> np.ndarray:
    """A rotation about the third axis, for rows of coordinates."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
