"""ShapeNetPart: 16 categories of shapes with 50 parts (Yi et al. 2016).

It is read from the folder that its owners ship,
`shapenetcore_partanno_segmentation_benchmark_v0_normal/`:
`synsetoffset2category.txt` with a line "CATEGORY SYNSET" a category,
`train_test_split/shuffled_{train,val,test}_file_list.json` with entries
"shape_data/SYNSET/ID", and `SYNSET/ID.txt` with a line "x y z nx ny nz part" a
point.

Letters: N clouds, P points, R points of a file.
"""

import json
from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import clouds, tables
from jaxedge.data.source import Source, make_source

FOLDER = "shapenetcore_partanno_segmentation_benchmark_v0_normal"
POINTS = 2048
LISTS = {"train": "train", "valid": "val", "test": "test"}
_COUNTS = {
    "Airplane": 4, "Bag": 2, "Cap": 2, "Car": 4, "Chair": 4, "Earphone": 3,
    "Guitar": 3, "Knife": 2, "Lamp": 4, "Laptop": 2, "Motorbike": 6, "Mug": 2,
    "Pistol": 3, "Rocket": 3, "Skateboard": 3, "Table": 3,
}  # fmt: skip
# The labels of each category's parts: 0 to 49 in the order of the categories.
PARTS: dict[str, tuple[int, ...]] = {
    name: tuple(range(end - count, end))
    for (name, count), end in zip(
        _COUNTS.items(), np.cumsum([*_COUNTS.values()]).tolist(), strict=True
    )
}
# The owners number the parts and do not name them.
CLASSES = tuple(
    f"{name} {i}" for name, count in _COUNTS.items() for i in range(count)
)


def read(split: str, root: Path) -> Source:
    """Clouds with a part a point, x [N, 2048, 3 + 16], y [N, 2048].

    As arXiv:2312.09262 (deplm 2): a cloud is centred on the mean of all points
    of its file and divided by their largest radius, then 2,048 points are drawn
    with replacement; normals are left out. Here a cloud's drawn points are
    always the same; the paper draws anew in every epoch. It trains on "train"
    and "valid" together and tests on "test". The whole split is held in memory,
    156 kB a cloud.

    Args:
        split: "train", "valid" or "test", as the owners list them, in their
            shuffled order.
        root: the folder that holds the owners' folder, or `shapenet_part/` with
            it or its content.

    Returns:
        The source: columns 0 to 2 of x are the place, the others the one-hot
        category in the order of `PARTS`, equal for all points of a cloud.

    Raises:
        UsageError: for missing or damaged files, an unknown category, or a part
            that is not one of the file's category.
    """
    folder = _folder(root)
    synsets = _synsets(folder / "synsetoffset2category.txt")
    shapes = _shapes(folder, LISTS[split], synsets)
    places, parts = [], []
    for path, category in shapes:
        rows = tables.read(path, str(path), columns=7)
        places.append(normalised(rows[:, :3]))
        parts.append(_labels(path, category, rows[:, 6]))
    drawn = clouds.draw_keys(f"shapenet_part/{split}", len(shapes))
    idx_NxP = clouds.of_rows(drawn, [len(part) for part in parts], POINTS)
    x_NxPx3 = np.stack(
        [rows[idx] for rows, idx in zip(places, idx_NxP, strict=True)]
    )
    y_NxP = np.stack(
        [part[idx] for part, idx in zip(parts, idx_NxP, strict=True)]
    )
    order = [*PARTS]
    category_N = np.array([order.index(category) for _, category in shapes])
    return make_source(
        clouds.with_category(x_NxPx3, category_N, len(order)),
        y_NxP,
        classes=CLASSES,
        name="shapenet_part",
        split=split,
    )


def normalised(rows_RxD: np.ndarray) -> np.ndarray:
    """`features.points.normalise` of one cloud on the host, float32.

    Every file has another number of points, for each of which JAX would compile
    a program.
    """
    centred = rows_RxD - rows_RxD.mean(0)
    largest = np.sqrt((centred**2).sum(1).max())
    return (centred / (largest if largest > 0 else 1)).astype(np.float32)


def _folder(root: Path) -> Path:
    mine = root / "shapenet_part"
    for folder in (mine / FOLDER, mine, root / FOLDER):
        if (folder / "synsetoffset2category.txt").is_file():
            return folder
    raise checks.UsageError(
        f"{mine} holds no ShapeNetPart; put the owners' folder {FOLDER}/ there,"
        " with synsetoffset2category.txt in it."
    )


def _synsets(path: Path) -> dict[str, str]:
    """The category of each synset."""
    found = {}
    for line in tables.lines(path):
        category, _, synset = line.partition("\t" if "\t" in line else " ")
        if category not in PARTS:
            raise checks.unknown(f"category of {path}", category, PARTS)
        found[synset.strip()] = category
    return found


def _shapes(
    folder: Path, name: str, synsets: dict[str, str]
) -> list[tuple[Path, str]]:
    """The file and the category of every shape of a list."""
    path = folder / "train_test_split" / f"shuffled_{name}_file_list.json"
    try:
        listed = json.loads(path.read_text())
        pairs = [entry.split("/")[-2:] for entry in listed]
        shapes = [
            (folder / synset / f"{shape}.txt", synsets[synset])
            for synset, shape in pairs
        ]
    except OSError as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error.strerror}); put the owners' lists"
            " there."
        ) from None
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise checks.UsageError(
            f"{path} is damaged ({type(error).__name__}: {error}); it needs a"
            " list of 'shape_data/SYNSET/ID' with known synsets."
        ) from None
    if not shapes:
        raise checks.UsageError(f"{path} lists no shape; fetch it again.")
    return shapes


def _labels(path: Path, category: str, column_R: np.ndarray) -> np.ndarray:
    """The parts of a file's points, [R]."""
    bad = np.flatnonzero(~np.isin(column_R, PARTS[category]))
    if bad.size:
        raise checks.UsageError(
            f"{path} has part {column_R[bad[0]]:g} in line {bad[0] + 1}, but"
            f" {category} has the parts {PARTS[category][0]} to"
            f" {PARTS[category][-1]}; fetch it again."
        )
    return column_R.astype(np.int32)
