"""What the processes of one computation share, under `jax.distributed`.

With one process, which is the usual case, nothing here communicates.
"""

import math
from typing import Any

import jax
import numpy as np


def leads() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def agree(value: Any) -> Any:
    """The first process's pytree of arrays, on every process.

    Decisions that steer a computation (is it done, shall it stop) go through
    here: processes that disagree wait for each other for ever.
    """
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(value)


def share(rows: jax.Array) -> jax.Array:
    """The rows [ceil(n / processes), ...] of [n, ...] that this process takes.

    Shares are equal, in order; the last row stands in for what is missing.
    """
    if jax.process_count() == 1:
        return rows
    size = math.ceil(len(rows) / jax.process_count())
    mine = jax.process_index() * size + np.arange(size)
    return rows[np.minimum(mine, len(rows) - 1)]


def gather(tree: Any) -> Any:
    """The shares of all processes one after the other, on each of them."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(jax.device_get(tree), tiled=True)
