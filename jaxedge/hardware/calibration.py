"""Ranges of converters from what a network sends through them.

A chip that was programmed may set its ranges itself (`fit`), or all chips share
those that were found on one (`calibrate`).
"""

from collections.abc import Callable, Mapping
import dataclasses
import re
from typing import Any
import warnings

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named, pytree, static
from jaxedge.hardware import converters, crossbar
from jaxedge.hardware.crossbar import Crossbar
from jaxedge.hardware.sram import calibration as sram_calibration
from jaxedge.hardware.sram import macro
from jaxedge.hardware.sram.macro import SramMacro, clip_rate
from jaxedge.hardware.weights import (
    Plan,
    Product,
    Spec,
    Weight,
    deploy,
    is_weight,
    multiply,
)

Run = Callable[[Any], Any]
Look = Callable[[Any, jax.Array], Any]
Chosen = Callable[[str, Any], bool]
# Leaves whose converters have ranges.
ARRAYS = Crossbar, SramMacro
# The fields of their designs that ask for one.
ASKS: dict[type, tuple[str, ...]] = {
    crossbar.Spec: ("adc_percentile", "input_percentile"),
    macro.Spec: ("clip_rate", "input_percentile"),
}


class _Seen:
    """What the leaves of one trace have seen, by path; compared by identity."""

    def __init__(self, look: Look):
        self.look = look
        self.found: dict[str, list[Any]] = {}


@pytree
class _Tap(Weight):
    """A leaf that notes what reaches it; only ever within one trace."""

    leaf: Any
    path: str = static()
    seen: Any = static()

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore
        """Of the leaf."""
        return self.leaf.shape

    @property
    def by_vector(self) -> bool:  # pyright: ignore
        """Of the leaf; an array is none."""
        return getattr(self.leaf, "by_vector", False)

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        noted = self.seen.look(self.leaf, x)
        self.seen.found.setdefault(self.path, []).append(noted)
        leaf = self.leaf
        if self.seen.look is _needed:  # Later layers see what it then emits.
            leaf = _with_ranges(leaf, [noted])
        return multiply(x, leaf, product, key)


def tap(
    chip: Any, look: Look, chosen: Chosen | None = None
) -> tuple[Any, dict[str, list[Any]]]:
    """A chip whose arrays note what they see, within one trace.

    Args:
        chip: parameters with arrays that convert (`Crossbar`, `SramMacro`),
            from `deploy`.
        look: as for `observe`, and so is the next.
        chosen: what notes.

    Returns:
        The chip, and what is found: for each path what `look` gave at each
        call, filled as a network runs on the chip.
    """
    seen = _Seen(look)

    def one(path: str, leaf: Any) -> Any:
        notes = chosen(path, leaf) if chosen else _is_array(leaf)
        return _Tap(leaf, path, seen) if notes else leaf

    return map_named(one, chip, is_leaf=is_weight), seen.found


def observe(
    run: Run, chip: Any, look: Look, chosen: Chosen | None = None
) -> dict[str, list[Any]]:
    """What the arrays of a chip see while a network runs.

    Args:
        run: the network on inputs as they will come: parameters to anything.
            Its products must not stand inside a scan, a vmap or a jit of
            their own, whose values cannot leave it; neither may they be
            convolutions in groups.
        chip: parameters with arrays that convert (`Crossbar`, `SramMacro`),
            from `deploy`.
        look: what to note of an array and its inputs [..., I]: for
            hardware that sees vectors the patches of a convolution.
        chosen: (path, leaf) -> whether it is looked at; plain matrices may be.
            None looks at arrays that convert.

    Returns:
        For each path what `look` gave at each of its calls, in order.

    Raises:
        UsageError: when no such array is met, or a value cannot leave its scan.
    """

    def traced(chip: Any) -> dict[str, list[Any]]:
        tapped, found = tap(chip, look, chosen)
        run(tapped)
        return found

    try:
        found = jax.jit(traced)(chip)
    except jax.errors.UnexpectedTracerError as error:
        raise checks.UsageError(
            "calibration cannot look inside a scan, vmap or jit of the"
            " network; give a run function that applies the layers plainly."
        ) from error
    if not found:
        raise checks.UsageError(
            "the run function met no crossbar and no macro: deploy the"
            " parameters, and use those that it is given."
        )
    return found


def fit(chip: Any, run: Run) -> Any:
    """A chip whose converters have the ranges that a network needs.

    Each array with an `adc_percentile` gets the full scale of its ADCs, one for
    each group of rows that is converted (device_physics D.8, calibrated); each
    with an `input_percentile` the range of its inputs. Where an array is used
    more than once, the widest counts. A `SramMacro` with a `clip_rate` gets the
    folding point and the LSB with the least predicted error (`sram.choose`).
    Can be compiled and mapped over chips.

    Args:
        chip: parameters with arrays that convert (`Crossbar`, `SramMacro`),
            from `deploy`.
        run: as for `observe`: the network on calibration samples.

    Returns:
        `chip` with other designs in its arrays; those that the network does
        not use, or that ask for nothing, keep theirs.

    Raises:
        UsageError: as `observe`.
    """
    found = observe(run, chip, _needed)

    def place(path: str, leaf: Any) -> Any:
        notes = found.get(path)
        if not _is_array(leaf) or not notes:
            return leaf
        return _with_ranges(leaf, notes)

    return map_named(place, chip, is_leaf=_is_array)


def calibrate(
    key: jax.Array,
    params: Any,
    plan: Spec | Mapping[str, Spec | None] | Plan,
    run: Run,
) -> Plan:
    """A plan with the ranges that `fit` finds on one chip.

    Args:
        key: the chip on which currents are looked at.
        params: as for `deploy`.
        plan: as for `deploy`; its percentiles say what is calibrated.
        run: as for `observe`: the network on calibration samples.

    Returns:
        A plan with one pattern for each array, in the order of `params`.

    Raises:
        UsageError: as `deploy` and `observe`.
    """
    chip = fit(jax.jit(deploy)(key, params, Plan.of(plan)), run)
    specs = {}

    def learn(path: str, leaf: Any) -> None:
        if _is_array(leaf):
            specs[f"^{re.escape(path)}$"] = settled(leaf.spec)

    map_named(learn, chip, is_leaf=_is_array)
    return Plan.of(specs)


def asked(spec: Any) -> list[str]:
    """Fields by which a design asks for ranges; of any hardware."""
    fields = ASKS.get(type(spec), ())
    return [name for name in fields if getattr(spec, name) is not None]


def settled(spec: Any) -> Any:
    """A design that asks for no range."""
    return dataclasses.replace(spec, **dict.fromkeys(asked(spec)))


def _with_ranges(leaf: Any, notes: list[dict[str, Any]]) -> Any:
    """An array with the union of the ranges that its calls asked for."""
    spec = leaf.spec
    fields = {
        name: _JOINED[name](spec, [note[name] for note in notes])
        for name in notes[0]
    }
    return dataclasses.replace(leaf, spec=dataclasses.replace(spec, **fields))


def _needed(leaf: Any, x: jax.Array) -> dict[str, Any]:
    """What one call of an array asks for, by the field of its design."""
    spec, found = leaf.spec, {}
    if spec.input_percentile is not None:
        found["input_range"] = converters.calibrate(
            x, spec.input_bits, spec.input_percentile
        )
        # Sums are those of inputs in this range.
        spec = dataclasses.replace(spec, **found)
        leaf = dataclasses.replace(leaf, spec=spec)
    if isinstance(leaf, SramMacro):
        if spec.clip_rate is not None:
            found["config"] = sram_calibration.needs(leaf, x)
    elif spec.adc_percentile is not None:
        found["adc_limit"] = _largest(leaf.currents(x), spec.adc_percentile)
    return found


def saturation(run: Run, chip: Any, limit: float = 0.01) -> dict[str, float]:
    """Share of the conversions of each array that its ADCs clip.

    Args:
        run: as for `observe`.
        chip: parameters with arrays.
        limit: share that is still all right, in [0, 1].

    Returns:
        For each path with ADCs a share in [0, 1].

    Raises:
        UsageError: as `observe`.

    Warns:
        UserWarning: names the arrays that clip more than `limit`.
    """
    checks.in_range("limit", limit, 0, 1)

    def look(leaf: Any, x: jax.Array) -> Any:
        if isinstance(leaf, SramMacro):
            return clip_rate(leaf, x)
        if leaf.spec.adc_bits is None:
            return None
        shares = []
        for s, current in enumerate(leaf.currents(x)):
            limit = jnp.broadcast_to(leaf.limit(s), current.shape)
            shares.append(jnp.mean(jnp.abs(current) > limit))
        return jnp.mean(jnp.stack(shares))

    found = observe(run, chip, look)
    shares = {
        path: float(np.mean(notes))
        for path, notes in found.items()
        if notes[0] is not None
    }
    loud = {path: share for path, share in shares.items() if share > limit}
    if loud:
        warnings.warn(
            "ADCs clip more than "
            f"{limit:.1%} of their conversions: "
            + ", ".join(f"{path} {share:.1%}" for path, share in loud.items())
            + "; widen adc_range or calibrate.",
            stacklevel=2,
        )
    return shares


def _largest(currents: list[jax.Array], percentile: ArrayLike) -> jax.Array:
    """Full scale of every slice that takes in a share, S, [S, U]."""
    sizes = [
        jnp.abs(jnp.moveaxis(current, -2, 0)).reshape(current.shape[-2], -1)
        for current in currents
    ]
    return jnp.stack([jnp.percentile(size, percentile, 1) for size in sizes])


def _most(limits: list[jax.Array]) -> jax.Array:
    """The largest full scales; no current at all leaves nothing to scale to."""
    limit = jnp.max(jnp.stack(limits), 0)
    return jnp.where(limit > 0, limit, jnp.finfo(limit.dtype).tiny)


# A field of a design by what all calls of its array asked for.
_JOINED: dict[str, Callable[[Any, list[Any]], Any]] = {
    "input_range": lambda spec, notes: converters.union(notes),
    "adc_limit": lambda spec, notes: _most(notes),
    "config": sram_calibration.fitted,
}


def _is_array(node: Any) -> bool:
    return isinstance(node, ARRAYS)
