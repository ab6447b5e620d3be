"""ModelNet40: 12,311 shapes of 40 classes (Wu et al. 2015).

It is read in either form in which it is shipped:

* `modelnet40_normal_resampled/`: `modelnet40_shape_names.txt`,
  `modelnet40_train.txt` and `modelnet40_test.txt` with names such as
  night_stand_0001, and `CLASS/NAME.txt` with a line "x,y,z,nx,ny,nz" a point;
* `ModelNet40/`: meshes `CLASS/train/*.off` and `CLASS/test/*.off`.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.data import clouds, off, tables
from jaxedge.data.source import Source, make_source
from jaxedge.features import points

RESAMPLED, MESHES = "modelnet40_normal_resampled", "ModelNet40"
# Every tenth training shape of a class is "valid"; the owners have none.
VALID_EVERY = 10
_AT_ONCE = 256  # meshes in memory


def read(split: str, root: Path) -> Source:
    """Clouds of the shapes, x [N, 1024, 3] float32, radius at most 1.

    From text the first 1,024 points of a file, normals left out; from meshes as
    many points uniform over the faces, always the same. Centred on their mean
    and divided by their largest radius. arXiv:2312.09262 has ModelNet in its
    supplement with settings that are unknown; these are common ones.

    Args:
        split: "train", "valid" (every tenth training shape of a class) or
            "test". Classes take turns.
        root: the folder that holds one of the two folders, or `modelnet40/`
            with it; the text is taken if both are there.

    Returns:
        The source.

    Raises:
        UsageError: for missing or damaged files, a file of fewer than 1,024
            points, or a mesh without faces.
    """
    part = "test" if split == "test" else "train"
    classes, paths, y = _listed(root, part)
    rows = clouds.in_turn(y)
    if part == "train":
        last = clouds.turns(y)[rows] % VALID_EVERY == VALID_EVERY - 1
        rows = rows[last == (split == "valid")]
    if not len(rows):
        raise checks.UsageError(
            f"no class of ModelNet40 under {root} has the {VALID_EVERY}"
            f" training shapes of which one is {split!r}."
        )
    chosen = [paths[i] for i in rows]
    if chosen[0].suffix == ".txt":
        x = np.stack([_of_text(path) for path in chosen])
    else:
        drawn = clouds.draw_keys(f"modelnet40/{part}", len(y))[rows]
        x = np.concatenate(
            [
                _of_meshes(chosen[i : i + _AT_ONCE], drawn[i : i + _AT_ONCE])
                for i in range(0, len(chosen), _AT_ONCE)
            ]
        )
    return make_source(
        np.asarray(points.normalise(x)),
        y[rows],
        classes=classes,
        name="modelnet40",
        split=split,
    )


def _listed(
    root: Path, part: str
) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Names of classes, and the files of a part with their labels."""
    for parent in (root / "modelnet40", root):
        if (parent / RESAMPLED).is_dir():
            return _listed_text(parent / RESAMPLED, part)
        if (parent / MESHES).is_dir():
            return _listed_meshes(parent / MESHES, part)
    raise checks.UsageError(
        f"{root / 'modelnet40'} holds no ModelNet40; put {RESAMPLED}/ (text) or"
        f" {MESHES}/ (meshes) there."
    )


def _listed_text(
    folder: Path, part: str
) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    classes = tuple(tables.lines(folder / "modelnet40_shape_names.txt"))
    path = folder / f"modelnet40_{part}.txt"
    names = tables.lines(path)
    of_class = [name.rpartition("_")[0] for name in names]
    for name, label in zip(names, of_class, strict=True):
        if label not in classes:
            raise checks.unknown(f"class of {name!r} in {path}", label, classes)
    paths = [
        folder / label / f"{name}.txt"
        for name, label in zip(names, of_class, strict=True)
    ]
    return classes, paths, np.array([classes.index(c) for c in of_class])


def _listed_meshes(
    folder: Path, part: str
) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    paths = sorted(folder.glob(f"*/{part}/*.off"))
    if not paths:
        raise checks.UsageError(
            f"{folder} holds no mesh CLASS/{part}/*.off; fetch it again."
        )
    # A class without a mesh of this part keeps its number.
    classes = tuple(
        sorted(path.name for path in folder.iterdir() if path.is_dir())
    )
    y = np.array([classes.index(path.parts[-3]) for path in paths])
    return classes, paths, y


def _of_text(path: Path) -> np.ndarray:
    rows = tables.read(
        path, str(path), columns=6, delimiter=",", rows=clouds.POINTS,
        dtype=np.float32,
    )  # fmt: skip
    if len(rows) < clouds.POINTS:
        raise checks.UsageError(
            f"{path} has {len(rows)} points, but {clouds.POINTS} are taken;"
            " fetch it again."
        )
    return rows[:, :3]


def _of_meshes(paths: Sequence[Path], drawn: jax.Array) -> np.ndarray:
    surfaces = []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise checks.UsageError(
                f"{path} cannot be read ({error.strerror}); check its"
                " permissions."
            ) from None
        surfaces.append(off.triangles(content, str(path)))
    return clouds.of_surfaces(drawn, surfaces)
