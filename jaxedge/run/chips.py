"""A study is a map over chips: one compiled program, bounded memory."""

from collections.abc import Callable, Sequence
import contextlib
import functools
import math
import os
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key, chip_keys, stream
from jaxedge.run import hosts

MODES = ("auto", "map", "vmap")
# Share of a device's memory that the chips of one block may take.
_MEMORY_SHARE = 0.25
_HOST_BYTES = 2**30


def spread_over_cores() -> None:
    """Makes each CPU core a device of JAX, so that chips run side by side.

    Two chips on two cores beat one chip whose every operation is cut in two (by
    1.5: `scripts/bench/chips.py` with and without JAX_NUM_CPU_DEVICES=1); each
    core then holds the arguments of a study once. Call it before JAX computes
    anything; later, or where the user has set a number of devices
    (JAX_NUM_CPU_DEVICES, XLA_FLAGS), it does nothing.
    """
    asked = jax.config.jax_num_cpu_devices > 0  # type: ignore[attr-defined]
    flag = "xla_force_host_platform_device_count"
    if asked or flag in os.environ.get("XLA_FLAGS", ""):
        return
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every system.
        cores = os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # JAX has begun.
        jax.config.update("jax_num_cpu_devices", cores)


def chip_map(
    f: Callable[..., Any],
    keys: jax.Array,
    *,
    args: Sequence[Any] = (),
    mode: str = "auto",
    block: int | None = None,
) -> Any:
    """Runs `f(key, *args)` for every key, over all devices that JAX sees.

    Chips are spread over the devices. Each device takes them one after the
    other ("map") or in vectorised blocks ("vmap"). "auto" maps on CPU, where
    batched products of many chips overflow the caches, and vectorises on
    accelerators, with a block as large as a quarter of the memory allows. No
    memory grows with the number of chips but the results.

    A second call with the same `f` and new numbers compiles nothing: pass
    what varies through `args` rather than a closure.

    Under `jax.distributed` every process calls this with equal arguments; each
    computes its share, and the results are gathered on all of them.

    Args:
        f: pure function of a key and `args` to a pytree of arrays.
        keys: [n] typed keys; a key is a chip, whatever n, mode and block.
        args: further arguments of `f`, the same for every chip.
        mode: "auto", "map" or "vmap".
        block: chips a device computes at once in "vmap" mode; None chooses.

    Returns:
        The pytree of `f` with a leading axis [n], on the host's devices; under
        `jax.distributed` numpy arrays.

    Raises:
        UsageError: for keys that are no [n] keys, a bad mode or block.
    """
    check_key(keys)
    if keys.ndim != 1 or not keys.size:
        raise checks.UsageError(
            f"chip_map needs keys of shape [n] with n >= 1, got {keys.shape};"
            " make them with core.chip_keys(key, n)."
        )
    checks.choice("mode", mode, MODES)
    if block is not None:
        checks.whole("block", block, 1)
    if mode == "auto":
        mode = "map" if jax.default_backend() == "cpu" else "vmap"
    count = keys.size
    keys = hosts.share(keys)
    mesh = _mesh()
    share = math.ceil(keys.size / mesh.size)
    if mode == "map":
        block = None
    else:
        block = min(block or _block(f, keys[0], tuple(args)), share)
    padded = _pad(keys, share * mesh.size)
    padded = jax.device_put(padded, NamedSharding(mesh, PartitionSpec("chip")))
    out = _map(padded, tuple(args), f=f, block=block, mesh=mesh)
    whole = hosts.gather(jax.tree.map(lambda y: y[: keys.size], out))
    return jax.tree.map(lambda y: y[:count], whole)


def wafer(key: jax.Array, n: int) -> jax.Array:
    """The chips of a study with this key, [n]; more chips change none."""
    return chip_keys(stream(key, "chips"), n)


def programming(key: jax.Array) -> jax.Array:
    """What programs a chip of a study; its reads draw from other streams."""
    return stream(key, "chip")


def first_chip(key: jax.Array) -> jax.Array:
    """What programs the first chip of a study with this key."""
    return programming(wafer(key, 1)[0])


def replicate(args: Any) -> Any:
    """Arguments on every device, so that `chip_map` does not copy them anew."""
    return jax.device_put(args, NamedSharding(_mesh(), PartitionSpec()))


def _mesh() -> Mesh:
    """The devices of this process; processes share the keys out first."""
    local = jax.local_devices()
    kinds = (AxisType.Auto,)
    return jax.make_mesh((len(local),), ("chip",), kinds, devices=local)


@functools.partial(jax.jit, static_argnames=("f", "block", "mesh"))
def _map(keys, args, *, f, block, mesh: Mesh):
    def local(keys, args):
        return jax.lax.map(lambda key: f(key, *args), keys, batch_size=block)

    chip, every = PartitionSpec("chip"), PartitionSpec()
    sharded = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(chip, every),
        out_specs=chip,
        check_vma=False,
    )
    return sharded(keys, args)


def _pad(keys: jax.Array, size: int) -> jax.Array:
    """Repeats the last key up to `size`, for equal shares."""
    return keys[np.minimum(np.arange(size), keys.size - 1)]


@functools.cache
def _bytes_per_chip(f, shapes) -> int:
    key, args = jax.tree.unflatten(*shapes)
    memory = jax.jit(f).lower(key, *args).compile().memory_analysis()
    if memory is None:  # The backend does not tell: one chip at a time.
        return _HOST_BYTES
    return max(memory.temp_size_in_bytes + memory.output_size_in_bytes, 1)


def _block(f, key, args) -> int:
    """The largest block that fits the share of memory."""
    leaves, tree = jax.tree.flatten((key, args))
    shapes = tuple(
        jax.ShapeDtypeStruct(np.shape(a), jax.numpy.result_type(a))
        for a in leaves
    )
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    # The devices of a host share its memory.
    budget = limit or _HOST_BYTES / jax.local_device_count()
    budget *= _MEMORY_SHARE
    return max(int(budget // _bytes_per_chip(f, (tree, shapes))), 1)
