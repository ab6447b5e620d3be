"""Cells of a chip as CSV and as HDF5, and read back.

CSV: a folder a layer with `design.json`, a file a tile with a row a cell, and
`programme.csv`. The names of the columns end in their units (S, siemens). HDF5:
a group a layer with the design as an attribute, and below it a group a tile
with its maps, and the columns of the programme.
"""

from collections.abc import Mapping, Sequence
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.run import workdir
from jaxedge.run.exports import folder, pulses
from jaxedge.run.exports.cells import UNITS, WHOLE, Layer, typed

DESIGN, PROGRAMME = "design.json", "programme.csv"
_PLACE = ("row", "column")
_FLOAT = "%.9g"  # Enough digits for a float32 to come back.


def available() -> bool:
    """Whether HDF5 can be written here."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        return False
    return True


def write_csv(
    out: Path, layers: Mapping[str, Layer]
) -> dict[str, dict[str, Any]]:
    """Writes layers into a folder.

    Returns:
        What is to be known of each file, by its path below the parent of
        `out`.
    """
    files: dict[str, dict[str, Any]] = {}

    def noted(path: Path, rows: int | None = None) -> None:
        name = path.relative_to(out.parent).as_posix()
        files[name] = {"format": "csv" if rows is not None else "design"}
        if rows is not None:
            files[name]["rows"] = rows

    for name, layer in layers.items():
        place = out / name.replace("/", ".")
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("*.csv"):  # Of another design.
            old.unlink()
        sizes = {t: list(_size(maps)) for t, maps in layer.tiles.items()}
        workdir.write_json(
            place / DESIGN,
            {"layer": name, "tiles": sizes, "design": layer.design},
        )
        noted(place / DESIGN)
        for tile, maps in layer.tiles.items():
            columns = _listed(maps)
            _write(place / f"{tile}.csv", columns)
            noted(place / f"{tile}.csv", len(columns["row"]))
        if layer.programme is not None:
            _write(place / PROGRAMME, layer.programme)
            noted(place / PROGRAMME, len(layer.programme["row"]))
    return files


def read_csv(path: str | Path) -> dict[str, Layer]:
    """The layers of a folder that `write_csv` wrote, equal to the last bit.

    Raises:
        UsageError: for a file that is missing or damaged; names it.
    """
    path = Path(path).expanduser().absolute()
    out = folder.above(path / DESIGN)
    place = path.relative_to(out).as_posix()
    found = [
        name
        for name, facts in folder.read(out)["files"].items()
        if facts["format"] == "design" and name.startswith(f"{place}/")
    ]
    if not found:
        raise checks.UsageError(
            f"{path} holds no layer with a {DESIGN}; name the folder of a chip"
            " in an export."
        )
    return dict(_read_layer(out / name) for name in found)


def write_hdf5(
    path: Path, layers: Mapping[str, Layer]
) -> dict[str, dict[str, Any]]:
    """Writes layers into a file.

    Returns:
        What is to be known of the file, by its name.

    Raises:
        UsageError: without h5py.
    """
    h5py = _h5py()
    with h5py.File(path, "w") as file:
        for name, layer in layers.items():
            group = file.create_group(name.replace("/", "."))
            group.attrs["layer"] = name
            group.attrs["design"] = json.dumps(workdir.jsonable(layer.design))
            for tile, maps in layer.tiles.items():
                _store(group.create_group(f"tiles/{tile}"), maps)
            if layer.programme is not None:
                _store(group.create_group("programme"), layer.programme)
    return {path.name: {"format": "hdf5", "layers": len(layers)}}


def read_hdf5(path: str | Path) -> dict[str, Layer]:
    """The layers of a file that `write_hdf5` wrote, equal to the last bit.

    Raises:
        UsageError: for a file that is missing or damaged, or without h5py.
    """
    path, h5py = Path(path), _h5py()
    folder.checked(path)
    found = {}
    with h5py.File(path, "r") as file:
        for group in file.values():
            tiles = {
                tile: {name: data[()] for name, data in maps.items()}
                for tile, maps in group["tiles"].items()
            }
            programme = None
            if "programme" in group:
                programme = {
                    name: _loaded(group["programme"][name])
                    for name in pulses.COLUMNS
                }
            design = json.loads(group.attrs["design"])
            found[group.attrs["layer"]] = Layer(design, tiles, programme)
    return found


def read(path: str | Path) -> dict[str, Layer]:
    """The layers of a folder of CSV files, or of an HDF5 file."""
    path = Path(path)
    return read_csv(path) if path.is_dir() else read_hdf5(path)


def _read_layer(path: Path) -> tuple[str, Layer]:
    folder.checked(path)
    noted = json.loads(path.read_text(encoding="utf-8"))
    tiles = {
        tile: _mapped(_read(path.with_name(f"{tile}.csv")), size)
        for tile, size in noted["tiles"].items()
    }
    out = folder.above(path)
    name = path.with_name(PROGRAMME).relative_to(out).as_posix()
    programme = None
    if name in folder.read(out)["files"]:
        programme = _read(path.with_name(PROGRAMME))
    return noted["layer"], Layer(noted["design"], tiles, programme)


def _size(maps: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    return next(iter(maps.values())).shape


def _listed(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps as a row for each cell that there is."""
    row, column = np.nonzero(maps["input"] >= 0)
    there = {name: values[row, column] for name, values in maps.items()}
    return {"row": row, "column": column, **there}


def _mapped(
    columns: Mapping[str, np.ndarray], size: Sequence[int]
) -> dict[str, np.ndarray]:
    """The inverse of `_listed`."""
    maps = {}
    for name, values in columns.items():
        if name in _PLACE:
            continue
        none = 0 if name in WHOLE else np.nan
        empty = np.full(size, -1 if name in ("input", "output") else none)
        empty = typed(name, empty)
        empty[columns["row"], columns["column"]] = values
        maps[name] = empty
    return maps


def _write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """A CSV file: a head, and a line for each entry."""
    texts = [_text(name, values) for name, values in columns.items()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*texts, strict=True))


def _text(name: str, values: np.ndarray) -> list[str]:
    if values.dtype.kind == "f":
        return [_FLOAT % value for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def _read(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV file of an export."""
    folder.checked(path)
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    columns = zip(*rows, strict=True) if rows else [()] * len(head)
    return {
        name: _column(name, np.array(values, dtype=str))
        for name, values in zip(head, columns, strict=True)
    }


def _column(name: str, texts: np.ndarray) -> np.ndarray:
    if name in pulses.NAMES:
        return texts
    if name in (*_PLACE, *WHOLE):
        return texts.astype(np.int32)
    return texts.astype(np.float64).astype(np.float32)


def _store(group: Any, arrays: Mapping[str, np.ndarray]) -> None:
    for name, values in arrays.items():
        text = values.dtype.kind == "U"
        data = group.create_dataset(
            name,
            data=values.astype("S") if text else values,
            compression="gzip" if values.size else None,
        )
        if name in UNITS:
            data.attrs["units"] = UNITS[name]


def _loaded(data: Any) -> np.ndarray:
    values = data[()]
    return values.astype(str) if values.dtype.kind == "S" else values


def _h5py() -> Any:
    if not available():
        raise checks.UsageError("HDF5 needs h5py; pip install 'jaxedge[lab]'.")
    import h5py

    return h5py
