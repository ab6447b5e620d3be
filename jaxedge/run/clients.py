"""What is kept of clients: what they had annotated, and what a report shows.

Letters: N examples, C clients, K classes, E examples shown, H height, W width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import SPLITS, Source
from jaxedge.run import results

# More classes than this are not counted: a report is read.
CLASSES = 64
# Clients that have a contact sheet, and examples on it.
SHEETS, SHOWN = 6, 12
# Pixels of the longer side of an image on a sheet, at most.
SIDE = 160
# What queries remember of each example beside "rows".
_TOLD = ("score", "query")


def keep(folder: Path, epoch: int, memory: Mapping[str, Any]) -> None:
    """Writes which examples an epoch began to see, and why.

    Args:
        folder: of the records; made if need be.
        epoch: that begins.
        memory: of a `Subset`. Its "rows" become `epoch_XXXXX.npy`; what clients
            remember of their queries, "score" and "query", `epoch_XXXXX.npz`.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"epoch_{epoch:05d}.npy"
    np.save(path, np.asarray(memory["rows"]))
    told = {k: np.asarray(memory[k]) for k in _TOLD if k in memory}
    if told:
        results.write(path.with_suffix(".npz"), told)


def collect(
    names: Sequence[str], splits: Mapping[str, Source], folder: Path | None
) -> dict[str, np.ndarray]:
    """The arrays of what a report shows of clients.

    Args:
        names: of the clients, [C].
        splits: "train", "valid" and "test", with the client of each example in
            `aux["site"]`.
        folder: of the records of `keep`; None where all of the training split
            is labelled from the start.

    Returns:
        "clients/names" [C]; "clients/examples" [C, 3], of the splits;
        "clients/labelled" [C], examples; "clients/query" [C], the last query in
        which a client chose something, 0 for the draw at the start and -1 for
        none; "clients/chosen" [C], how many examples it chose in it. For few
        classes "clients/classes" [K], and "clients/labels" and "clients/picked"
        [C, K]: labels of each class among the labelled examples and among those
        of that query, where "clients/positions" says whether a label is one a
        position. For images "clients/shown" [E, H, W, 1 or 3] uint8, examples
        of those queries, the most uncertain first, with "clients/shown_client",
        "clients/shown_label" (-1 where it is one a position) and
        "clients/shown_score", NaN where none was computed, [E] each.

    Raises:
        UsageError: for records of another number of examples.
    """
    source = splits["train"]
    site_N = _site(source)
    query_N, score_N = _record(folder, len(site_N))
    labelled_N = (query_N >= 0) | (folder is None)
    last_C = np.full(len(names), -1)
    np.maximum.at(last_C, site_N, query_N)
    asked_N = (query_N >= 0) & (query_N == last_C[site_N])
    arrays = {
        "names": np.array(names, dtype=str),
        "examples": np.stack(
            [_count(_site(splits[split]), len(names)) for split in SPLITS], 1
        ),
        "labelled": _count(site_N[labelled_N], len(names)),
        "query": last_C,
        "chosen": _count(site_N[asked_N], len(names)),
    }
    if len(source.classes) <= CLASSES:
        arrays |= {
            "classes": np.array(source.classes, dtype=str),
            "positions": np.array(source.y.ndim > 1),
            "labels": _classes(source, site_N, labelled_N, len(names)),
            "picked": _classes(source, site_N, asked_N, len(names)),
        }
    if _images(source):
        arrays |= _sheets(source, site_N, score_N, asked_N)
    return {f"clients/{name}": array for name, array in arrays.items()}


def _record(folder: Path | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The query that chose each example, and its score then, [N] each."""
    paths = sorted(folder.glob("epoch_*.npz")) if folder is not None else []
    if not paths:
        return np.full(size, -1), np.full(size, np.nan)
    found = results.Archive(paths[-1])
    query_N, score_N = found["query"], found["score"]
    if query_N.shape != (size,) or score_N.shape != (size,):
        raise checks.UsageError(
            f"{str(paths[-1])!r} holds queries of shape {query_N.shape}, but"
            f" the training split has {size} examples; train anew in another"
            " workdir."
        )
    return query_N, score_N


def _site(source: Source) -> np.ndarray:
    return np.asarray((source.aux or {})["site"])


def _count(site: np.ndarray, clients: int) -> np.ndarray:
    return np.bincount(site, minlength=clients)


def _classes(
    source: Source, site_N: np.ndarray, wanted_N: np.ndarray, clients: int
) -> np.ndarray:
    """Labels of each class among some examples of each client, [C, K]."""
    counts = np.zeros((clients, len(source.classes)), np.int64)
    for client in range(clients):
        y = source.y[wanted_N & (site_N == client)]
        counts[client] = np.bincount(y[y >= 0], minlength=counts.shape[1])
    return counts


def _images(source: Source) -> bool:
    """Whether the inputs are images, grey or in colour."""
    shape = tuple(source.x.shape)
    labels = source.y.ndim == 1 or source.y.shape == shape[:-1]
    return len(shape) == 4 and shape[-1] in (1, 3) and labels


def _sheets(
    source: Source, site_N: np.ndarray, score_N: np.ndarray, asked_N: np.ndarray
) -> dict[str, np.ndarray]:
    """A few examples of the first clients that chose some."""
    shown = []
    for client in np.unique(site_N[asked_N])[:SHEETS]:
        rows = np.flatnonzero(asked_N & (site_N == client))
        order = np.argsort(-score_N[rows], kind="stable")  # NaN come last.
        shown.append(rows[order][:SHOWN])
    if not shown:
        return {}
    rows = np.concatenate(shown)
    label = np.full(len(rows), -1)
    return {
        "shown": thumbnails(np.asarray(source.x[rows])),
        "shown_client": site_N[rows],
        "shown_label": source.y[rows] if source.y.ndim == 1 else label,
        "shown_score": score_N[rows].astype(np.float32),
    }


def thumbnails(x_ExHxWxC: np.ndarray) -> np.ndarray:
    """Small images, each from its least to its largest value.

    Args:
        x_ExHxWxC: any range.

    Returns:
        [E, H', W', C] uint8: means of squares of pixels, so that no side is
        longer than `SIDE`; what is left over at the right and below is lost.
    """
    count, height, width, channels = x_ExHxWxC.shape
    step = -(-max(height, width) // SIDE)
    down, right = min(step, height), min(step, width)
    rows, columns = height // down, width // right
    x = x_ExHxWxC[:, : rows * down, : columns * right].astype(float)
    x = x.reshape(count, rows, down, columns, right, channels).mean((2, 4))
    low, high = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    share = (x - low) / np.where(high > low, high - low, 1)
    return np.rint(255 * share).astype(np.uint8)
