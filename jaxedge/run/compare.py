"""`jaxedge compare`: a table and a page of any set of workdirs."""

from collections.abc import Sequence
from pathlib import Path

from jaxedge.core import checks
from jaxedge.run import (
    compare_page,
    compare_runs,
    compare_table,
    metrics,
    workdir,
)

PAGE = "report.html"


def write(folders: Sequence[Path], out: Path) -> Path:
    """Writes `results.csv`, `results.parquet` and `report.html`.

    The parquet file needs the extra jaxedge[sweeps].

    Args:
        folders: workdirs, folders of sweeps, or folders of workdirs.
        out: a folder, which is made if need be.

    Returns:
        The path of the page.

    Raises:
        UsageError: for a folder without runs, or an `out` that cannot be made
            or holds a run.
    """
    if any((out / name).exists() for name in ("config.json", "summary.json")):
        raise checks.UsageError(
            f"--out is {out}, which holds a run whose report would be lost;"
            " choose another folder."
        )
    entries = compare_runs.find(folders)
    document = compare_page.document(out.resolve().name, entries)
    workdir.make(out, "--out")
    if not compare_table.write(out, compare_table.rows(entries)):
        print(
            f"jaxedge: {compare_table.PARQUET} needs pyarrow; pip install"
            f" 'jaxedge[sweeps]'. {compare_table.CSV} has the same."
        )
    metrics.replace(out / PAGE, document)
    return out / PAGE
