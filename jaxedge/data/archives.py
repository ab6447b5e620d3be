"""Archives of numpy arrays (.npz), and recordings of unequal length in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxedge.core import checks, npz


def read(path: Path, names: Sequence[str], of: str) -> tuple[np.ndarray, ...]:
    """The named arrays of an archive, without pickled objects.

    Args:
        path: of the archive.
        names: of the arrays.
        of: what the archive holds, for messages.

    Returns:
        One array a name.

    Raises:
        UsageError: if the file is missing, damaged or lacks an array.
    """
    if not path.is_file():
        raise checks.UsageError(f"{path} is missing; put the {of} there.")
    try:
        return tuple(npz.load(path, names).values())
    except npz.DAMAGED as error:
        raise checks.UsageError(
            f"{path} is no archive of {of} ({npz.reason(error)}); it needs"
            f" {', '.join(names)}."
        ) from None


def cut(
    path: Path, offsets: np.ndarray, rows: int, clips: int, unit: str
) -> list[slice]:
    """Where each clip lies in the rows of all clips.

    Args:
        path: of the archive, for messages.
        offsets: [clips + 1] from 0 to `rows`, ascending.
        rows: of all clips together.
        clips: how many there are.
        unit: what the rows are, for messages.

    Raises:
        UsageError: if the offsets do not cut the rows into that many clips.
    """
    whole = offsets.shape == (clips + 1,) and offsets[0] == 0
    if not whole or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise checks.UsageError(
            f"{path} is damaged: its {len(offsets)} offsets do not cut"
            f" {rows} {unit} into {clips} clips."
        )
    ends = [int(i) for i in offsets]
    return [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
