"""The results of runs as a table: a row a run, in CSV and in parquet."""

from collections.abc import Mapping, Sequence
import csv
import importlib.util
import io
import json
import os
from pathlib import Path
from typing import Any

from jaxedge.run import compare_runs, metrics
from jaxedge.run.compare_runs import Entry

CSV, PARQUET = "results.csv", "results.parquet"

Row = Mapping[str, Any]


def rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """A row a run: its name and state, fields that differ, seed, numbers."""
    fields = dict.fromkeys([*compare_runs.differing(entries), "seed"])
    return [
        {
            "run": entry.name,
            "state": entry.state,
            **{field: entry.fields.get(field) for field in fields},
            **compare_runs.numbers(entry),
        }
        for entry in entries
    ]


def write(folder: Path, table: Sequence[Row]) -> bool:
    """Writes `results.csv`, and `results.parquet` where pyarrow is installed.

    Args:
        folder: exists.
        table: at least one row; all have the same columns.

    Returns:
        Whether the parquet file was written; an older one goes if not.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table[0])
    writer.writerows([_cell(value) for value in row.values()] for row in table)
    metrics.replace(folder / CSV, file.getvalue())
    if importlib.util.find_spec("pyarrow") is None:
        (folder / PARQUET).unlink(missing_ok=True)
        return False
    _write_parquet(folder / PARQUET, table)
    return True


def _write_parquet(path: Path, table: Sequence[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {name: _column([row[name] for row in table]) for name in table[0]}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        parquet.write_table(pyarrow.table(columns), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _column(values: Sequence[Any]) -> list[Any]:
    """Values of one type: numbers stay numbers, a mixture becomes text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 and kinds <= {bool, int, float, str}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(_cell(value)) for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, Mapping)):
        return json.dumps(value)
    return value
