"""What the processes of one computation share, under `jax.distributed`.

With one process, which is the usual case, nothing here communicates.
"""

from collections.abc import Mapping
import math
import re
from typing import Any

import jax
import numpy as np

from jaxedge.core import checks

# Seconds for which the others wait at their end for the first process, which
# prices, draws and writes alone.
_REPORTING = 3600


def connect(how: str) -> None:
    """Joins the processes that share a computation; call it before JAX begins.

    Args:
        how: "auto" where JAX knows its surroundings (SLURM, Open MPI,
            Kubernetes, TPU), else "host:port,process,processes": where the
            first process listens, which one this is, and how many there are.

    Raises:
        UsageError: for any other text, or where "auto" finds no cluster.
    """
    if how == "auto":
        try:
            jax.distributed.initialize(shutdown_timeout_seconds=_REPORTING)
        except ValueError as error:
            raise checks.UsageError(
                f"--distributed=auto finds no cluster here ({error}); write"
                " --distributed=host:port,process,processes."
            ) from None
        return
    match = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", how)
    if match is None or int(match[2]) >= int(match[3]):
        raise checks.UsageError(
            f"--distributed is {how!r}, but must be 'auto' or"
            " host:port,process,processes with process from 0, such as"
            " localhost:1234,0,2."
        )
    jax.distributed.initialize(
        match[1],
        int(match[3]),
        int(match[2]),
        shutdown_timeout_seconds=_REPORTING,
    )


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


def agree_numbers(row: Mapping[str, float]) -> dict[str, float]:
    """The first process's numbers of these names, in float32."""
    if jax.process_count() == 1:
        return dict(row)
    values = agree(np.array([*row.values()], np.float32))
    return dict(zip(row, map(float, values), strict=True))


def any_of(flag: bool) -> bool:
    """Whether a process says so: a signal may reach any of them."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def check_same(what: str, value: int) -> None:
    """Raises unless all processes have the same number.

    Raises:
        UsageError: naming `what`, and the workdir that they have to share.
    """
    if any_of(int(agree(np.array(value))) != value):
        raise checks.UsageError(
            f"the processes differ in {what} ({value} in process"
            f" {jax.process_index()}); all of them must see the same --workdir."
        )


def local(tree: Any) -> Any:
    """Arrays that are on every device, as this process has them."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        return leaf.addressable_data(0)

    return jax.tree.map(one, tree)


def wait() -> None:
    """Until every process is here: what one has written, others may read."""
    agree(np.zeros(()))


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
