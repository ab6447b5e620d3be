"""All chips of a design at once: each vector meets a chip of its own.

The mean over chips of anything that is a mean over examples, such as the
accuracy, does not depend on which examples share a chip. Where an example meets
each array once, every example may have a chip of its own, and the spread of the
cells is output-referred like read noise (device_physics D.3): no cell is drawn.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import lattice, stream
from jaxedge.core.trees import pytree
from jaxedge.hardware.crossbar import Crossbar, Spec
from jaxedge.hardware.devices import Device
from jaxedge.hardware.devices.wrapper import Wrapper
from jaxedge.hardware.weights import Weight

_TARGETS = 257
_DRAWS = 2**13


class Moments(NamedTuple):
    """Mean and standard deviation over chips of one read of a cell, S."""

    mean: jax.Array
    std: jax.Array


@pytree
class Cells(Wrapper[Moments]):
    """Cells known by their mean and spread over chips, which none resets.

    Attributes:
        device: what the cells of one chip are.
        targets: knots, S, increasing, [K].
        table: moments at each knot, linear between.
    """

    device: Device[Any]
    targets: jax.Array
    table: Moments

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Moments:
        """Looks the cells up; nothing is drawn."""
        del key, event
        return Moments(
            *(jnp.interp(target_S, self.targets, row) for row in self.table)
        )

    def conductance(
        self, cells: Moments, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        del seconds  # The table holds for one time.
        return cells.mean

    def read_std(self, cells: Moments, seconds: ArrayLike = 0.0) -> jax.Array:
        del seconds
        return cells.std

    def read(
        self, key: jax.Array, cells: Moments, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        # Of these cells, not of the device.
        return Device.read(self, key, cells, seconds)


@pytree
class Ensemble:
    """A design whose chips are averaged over; made by `ensemble`.

    Attributes:
        spec: the design, with `Cells` for its device.
    """

    spec: Spec

    def program(self, key: jax.Array, w: jax.Array | Weight) -> Crossbar:
        """Looks up the cells of a matrix; every key gives the same leaf.

        Args:
            key: ignored.
            w: array [I, O].

        Raises:
            UsageError: for a kernel, whose cells meet many vectors of one
                example, and for a weight that is no array.
        """
        if isinstance(w, Weight) or len(w.shape) != 2:
            raise checks.UsageError(
                f"an ensemble holds matrices [I, O], got"
                f" {type(w).__name__} of shape {tuple(w.shape)}: an example may"
                " meet each array once only; use chips for this weight."
            )
        return self.spec.program(key, w)


def ensemble(spec: Spec) -> Ensemble:
    """The design whose every vector meets a chip of its own.

    An output is Gaussian with the mean and the variance that one vector has
    over all chips and reads. That is exact where the cells are Gaussian; where
    they are not (a cut-off at 0 S, drift), it holds as a sum of many
    independent cells does. The ranges of ADCs are those of the mean chip. Each
    example must meet each array once: no kernels, which are refused, and no
    recurrent layers or attention, which cannot be seen here.

    Args:
        spec: the design; its `seconds` are fixed in the result.

    Returns:
        A spec for `program` and `deploy`.

    Raises:
        UsageError: for a design whose factor depends on the whole chip
            (`compensate`), that draws its noise once a call, or whose wires,
            cells or converters are not linear in the drawn conductances.
    """
    spec.check()
    for name in ("r_wire", "adc", "adc_percentile"):
        if getattr(spec, name) is not None:
            raise checks.UsageError(
                f"an ensemble refers linear cells to the outputs, but {name} is"
                f" {getattr(spec, name)!r}; leave it out, or use chips."
            )
    if not spec.device.linear:
        raise checks.UsageError(
            "an ensemble refers linear cells to the outputs, but the device's"
            " I-V curve is bent; leave it out, or use chips."
        )
    if spec.compensate or spec.read != "vector":
        raise checks.UsageError(
            "an ensemble needs compensate=False and read='vector': a factor or"
            " a noise that many vectors share is no property of one vector."
        )
    return Ensemble(_with_cells(spec))


def mean_weights(spec: Spec, w: jax.Array) -> jax.Array:
    """The mean over chips of the weight that a chip holds, shape of `w`.

    Before global compensation; read noise has no mean.
    """
    leaf = _with_cells(spec).program(jax.random.key(0), w)
    return weights(leaf)


def weights(leaf: Crossbar) -> jax.Array:
    """The weight that a chip holds, before global compensation."""
    return leaf.weights()


def moments(
    device: Device[Any], targets_S: jax.Array, seconds: ArrayLike = 0.0
) -> Moments:
    """Mean and spread over chips of one read of cells with these targets.

    Args:
        device: any device whose cells are independent.
        targets_S: [K], S.
        seconds: since programming.

    Returns:
        Moments [K], from 8,192 cells each, whose random numbers lie evenly
        (`core.keys.lattice`); the same numbers at every target.
    """
    return _moments(device, jnp.asarray(targets_S), jnp.asarray(seconds))


@jax.jit
def _moments(
    device: Device[Any], targets_S: jax.Array, seconds: jax.Array
) -> Moments:
    key = lattice(stream(jax.random.key(0), "moments"))

    def one(target: jax.Array) -> Moments:
        cells = device.program(key, jnp.full(_DRAWS, target))
        g = device.conductance(cells, seconds)
        power = jnp.mean(device.read_std(cells, seconds) ** 2)
        return Moments(jnp.mean(g), jnp.sqrt(jnp.var(g) + power))

    return jax.lax.map(one, targets_S, batch_size=16)


def _with_cells(spec: Spec) -> Spec:
    # Laws bend where a target comes near the lower end, so knots crowd there.
    share = jnp.linspace(0, 1, _TARGETS) ** 2
    low, high = spec.device.g_min, spec.device.g_max
    targets = jnp.float32(low) + share * jnp.subtract(high, low)
    table = moments(spec.device, targets, spec.seconds)
    cells = Cells(spec.device, targets, table)
    return dataclasses.replace(spec, device=cells)  # type: ignore[type-var]
