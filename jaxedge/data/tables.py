"""Tables of numbers in text, one row a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
import warnings

import numpy as np

from jaxedge.core import checks


def read(
    source: Path | Sequence[str],
    what: str,
    *,
    columns: int,
    first: int = 0,
    delimiter: str | None = None,
    rows: int | None = None,
    dtype: Any = np.float64,
) -> np.ndarray:
    """A table with a fixed number of columns.

    Args:
        source: a file, or its lines.
        what: what it is, for messages.
        columns: of each row, and of the result.
        first: how many columns before them are left out. If there are some,
            more may follow too.
        delimiter: between columns; None is white space.
        rows: at most so many are read; None reads all.
        dtype: of the numbers.

    Returns:
        [R, columns], R at least 1, every number finite.

    Raises:
        UsageError: for a missing or empty file, a row with another number of
            columns, or what is no number.
    """
    chosen = range(first, first + columns) if first else None
    needed = first + columns
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of empty files
            table = np.loadtxt(
                source, dtype, delimiter=delimiter, ndmin=2, usecols=chosen,
                max_rows=rows,
            )  # fmt: skip
    except OSError as error:
        raise checks.UsageError(
            f"{what} cannot be read ({error.strerror or error}); check the"
            " path and its permissions."
        ) from None
    except ValueError as error:
        reason = " ".join(str(error).split(";")[0].split()).rstrip(".")
        raise _bad(what, f"is damaged ({reason})", needed) from None
    if not len(table):
        raise _bad(what, "is empty", needed)
    if table.shape[1] != columns:
        raise _bad(what, f"has {table.shape[1]} numbers a line", needed)
    if not np.isfinite(table).all():
        raise _bad(what, "holds NaN or infinity", needed)
    return table


def _bad(what: str, fault: str, columns: int) -> checks.UsageError:
    return checks.UsageError(
        f"{what} {fault}; it needs {columns} finite numbers a line. Fetch it"
        " again."
    )


def lines(path: Path) -> list[str]:
    """The lines of a text that are not blank, stripped.

    Raises:
        UsageError: for a missing file, or one without such a line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise checks.UsageError(
            f"{path} cannot be read ({reason}); check the path and its"
            " permissions."
        ) from None
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise checks.UsageError(f"{path} is empty; fetch it again.")
    return found
