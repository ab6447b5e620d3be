"""Training on every device of every host: each takes its part of a batch.

The state is on all of them. A step is the same program as on one device, with
sums over the whole batch, so that normalisation sees the whole batch too.
Processes of `jax.distributed` have the same batches and put their own rows of
them on their devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from jaxedge.core import checks

DEVICES = ("one", "all")


class Sharing:
    """Where batches and states go.

    Args:
        devices: "one" of each process, or "all" that JAX sees.
        batch: examples a step, which the devices divide.

    Raises:
        UsageError: for a batch that the devices do not divide.
    """

    def __init__(self, devices: str, batch: int):
        checks.choice("train.devices", devices, DEVICES)
        self._mesh = None
        if devices == "one" or jax.device_count() == 1:
            return
        if batch % jax.device_count():
            raise checks.UsageError(
                f"train.batch is {batch}, which {jax.device_count()} devices do"
                " not divide (train.devices is 'all'); choose a multiple, or"
                " train.devices='one'."
            )
        self._mesh = Mesh(
            np.array(jax.devices()), ("batch",), axis_types=(AxisType.Auto,)
        )

    def batch(self, batch: Any, rows: int | None = None) -> Any:
        """Rows spread over the devices; those that cannot be are on each.

        Args:
            batch: a pytree of arrays.
            rows: only arrays of so many are spread; None spreads any.
        """
        return self._put(batch, "batch", rows)

    def state(self, state: Any) -> Any:
        """A pytree of arrays and keys, on each device."""
        return state if self._mesh is None else self._put(state, None)

    @property
    def everywhere(self) -> NamedSharding | None:
        """Where a step leaves what it returns; None is where it was."""
        if self._mesh is None:
            return None
        return NamedSharding(self._mesh, PartitionSpec())

    def _put(self, tree: Any, axis: str | None, rows: int | None = None) -> Any:
        mesh = self._mesh
        if mesh is None:
            return jax.device_put(tree)

        def one(leaf: Any) -> jax.Array:
            spec = PartitionSpec()  # On each of them.
            many = leaf.shape[0] if np.ndim(leaf) else 0
            fits = rows is None or many == rows
            if axis and many and fits and many % mesh.size == 0:
                spec = PartitionSpec(axis)
            return _placed(leaf, NamedSharding(mesh, spec))

        return jax.tree.map(one, tree)


def _placed(leaf: Any, place: NamedSharding) -> jax.Array:
    """An array on the devices of all processes, each of which has it."""
    if place.is_fully_addressable:
        return jax.device_put(leaf, place)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        numbers = _placed(jax.random.key_data(leaf), place)
        return jax.random.wrap_key_data(numbers)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, place)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(
        whole.shape, place, lambda index: whole[index]
    )
