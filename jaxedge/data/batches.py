"""Batches of a data set in memory: shuffled to train, in order to evaluate.

Letters: N examples, B batch.
"""

from collections.abc import Iterator
import operator

import jax
import numpy as np

from jaxedge.core import checks, keys
from jaxedge.data.source import Batch, Source

# What is known of a row that its evaluation needs too. Other things, such as a
# teacher's outputs, may lie on disk and would be read for nothing.
EVALUATED = ("site", "row")


def epoch(
    source: Source,
    batch_size: int,
    key: jax.Array,
    epoch: int,
    chosen: np.ndarray | None = None,
) -> Iterator[Batch]:
    """One shuffled pass; the last N mod B rows of the order are dropped.

    The order is a function of (key, epoch) alone, so a run that resumes at any
    epoch sees the batches that it would have seen. It comes from JAX's
    threefry and not from numpy, whose generators may change their streams.

    Args:
        source: the examples.
        batch_size: rows a batch, in [1, N].
        key: a typed key; only its "epoch" stream is used.
        epoch: which pass, from 0.
        chosen: indices of the examples that take part, [N']; None is all.

    Returns:
        An iterator over N // B batches, all weights 1, with what else is
        known of their rows.

    Raises:
        UsageError: at the call, for a bad key, batch size or epoch.
    """
    count = len(source.x) if chosen is None else len(chosen)
    size = _size("batch_size", batch_size, 1, count)
    step = _size("epoch", epoch, 0, 2**31 - 1)
    keys.check_key(key)
    order_N = np.asarray(
        jax.random.permutation(keys.stream(key, "epoch", step), count)
    )
    if chosen is not None:
        order_N = np.asarray(chosen)[order_N]
    ones_B = np.ones(size, np.float32)
    return (
        _rows(source, rows_B, ones_B)
        for rows_B in order_N[: len(order_N) // size * size].reshape(-1, size)
    )


def in_order(source: Source, batch_size: int) -> Iterator[Batch]:
    """Every row once, in the source's order, in batches of one shape.

    The last batch is filled up with copies of row 0 of weight 0, so that one
    compiled program serves all batches and weighted means stay exact.

    Args:
        source: the examples.
        batch_size: rows a batch, at least 1; it may exceed N.

    Returns:
        An iterator over ceil(N / B) batches, with their rows' sites where the
        source knows them, and nothing else of its `aux`.

    Raises:
        UsageError: at the call, for a bad batch size.
    """
    size = _size("batch_size", batch_size, 1, 2**31 - 1)
    starts = range(0, len(source.x), size)
    return (_padded(source, start, size) for start in starts)


def _rows(source: Source, rows_B: np.ndarray, weight_B: np.ndarray) -> Batch:
    aux = source.aux and {k: v[rows_B] for k, v in source.aux.items()}
    return Batch(source.x[rows_B], source.y[rows_B], weight_B, aux)


def _padded(source: Source, start: int, size: int) -> Batch:
    rows_B = np.arange(start, start + size)
    real_B = rows_B < len(source.x)
    rows_B[~real_B] = 0
    known = {k: v for k, v in (source.aux or {}).items() if k in EVALUATED}
    kept = source._replace(aux=known or None)
    return _rows(kept, rows_B, real_B.astype(np.float32))


def _size(name: str, value: int, low: int, high: int) -> int:
    """`value` as a Python integer within [low, high]."""
    try:
        number = operator.index(value)
    except TypeError:
        raise checks.UsageError(
            f"{name} must be a whole number, got {value!r}."
        ) from None
    checks.in_range(name, number, low, high)
    return number
