"""Programming by writing, reading back and correcting.

Two ways: cells that move by pulses are nudged to their target; devices that
are written in one event are written again until the event falls close enough.
Both say which cells never got there.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware.devices.base import Device
from jaxedge.hardware.devices.pulsed import Cells, Pulsed
from jaxedge.hardware.devices.wrapper import Wrapper


class Written(NamedTuple):
    """What programming left behind.

    Attributes:
        cells: as they are now.
        pulses: pulses, or writing events, that each cell was given, int32.
        converged: which cells were read within the tolerance, bool.
        joules: energy of the pulses, J []; None while a price is unknown.
    """

    cells: Any
    pulses: jax.Array
    converged: jax.Array
    joules: jax.Array | None

    @property
    def share(self) -> jax.Array:
        """Share of the cells that converged, []."""
        return jnp.mean(self.converged, dtype=jnp.float32)


def write_verify(
    key: jax.Array,
    device: Pulsed,
    cells: Cells,
    target_S: jax.Array,
    *,
    tolerance_S: ArrayLike,
    max_pulses: int,
) -> Written:
    """Nudges cells, one pulse after each read, until they read as wanted.

    A cell that was read within the tolerance is not touched again; with read
    noise it may lie outside. At most `max_pulses` pulses and one read more.

    Args:
        key: of pulses and reads, consumed.
        device: of the cells.
        cells: any shape.
        target_S: wanted conductance, S, shape of the cells.
        tolerance_S: largest accepted difference of a read, S, broadcastable.
        max_pulses: after which a cell is given up.

    Returns:
        The cells, and `converged`, False for those that were given up.

    Raises:
        UsageError: for a bad shape or number.
    """
    check_key(key)
    _check(target_S, tolerance_S)
    checks.whole("max_pulses", max_pulses, 1)
    if jnp.shape(target_S) != cells.w.shape:
        raise checks.UsageError(
            f"a target of shape {jnp.shape(target_S)} does not fit cells of"
            f" shape {cells.w.shape}."
        )
    after, done = _nudged(
        key, device, cells, target_S, tolerance_S, jnp.int32(max_pulses)
    )
    before, spent = device.joules(cells), device.joules(after)
    joules = None if spent is None or before is None else spent - before
    return Written(after, after.pulses - cells.pulses, done, joules)


# Compiled apart, for an eager loop would be traced anew in every call.
@jax.jit
def _nudged(
    key: jax.Array,
    device: Pulsed,
    cells: Cells,
    target_S: jax.Array,
    tolerance_S: ArrayLike,
    max_pulses: jax.Array,
) -> tuple[Cells, jax.Array]:
    """Cells after their pulses, and which of them converged."""

    def missing(i: jax.Array, cells: Cells) -> jax.Array:
        return target_S - device.read(stream(key, "read", i), cells)

    def accepted(error: jax.Array) -> jax.Array:
        return jnp.abs(error) <= tolerance_S

    def goes_on(carry: tuple[Any, ...]) -> jax.Array:
        i, _, error, done = carry
        del error
        return (i < max_pulses) & ~jnp.all(done)

    def correct(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        i, cells, error, done = carry
        counts = jnp.where(done, 0, jnp.sign(error)).astype(jnp.int32)
        cells = device.pulse(stream(key, "pulse", i), cells, counts)
        error = missing(i + 1, cells)
        return i + 1, cells, error, done | accepted(error)

    error = missing(jnp.int32(0), cells)
    start = (jnp.int32(0), cells, error, accepted(error))
    _, after, _, done = jax.lax.while_loop(goes_on, correct, start)
    return after, done


def write_again(
    key: jax.Array,
    device: Device[Any],
    target_S: jax.Array,
    *,
    tolerance_S: ArrayLike,
    max_events: int,
    event_joules: ArrayLike | None = None,
    first: ArrayLike = 0,
) -> Written:
    """Writes cells again and again until they read as wanted.

    Every try is a programming event of the same chip (`Device.program`), so
    that the error of the cells that converge is the published one, cut off at
    the tolerance (widened by the read noise of the check). What a chip cannot
    change, such as stuck cells, stays, and is given up.

    Args:
        key: chip key, consumed.
        device: a device that is written in one event.
        target_S: wanted conductance, S, any shape.
        tolerance_S: largest accepted difference of a read, S, broadcastable.
        max_events: after which a cell is given up; it keeps its last level.
        event_joules: energy of one event of one cell, J; unknown, so None
            leaves it unpriced.
        first: number of the first event.

    Returns:
        The cells, and `converged`, False for those that were given up.

    Raises:
        UsageError: for a bad number.
    """
    check_key(key)
    _check(target_S, tolerance_S)
    checks.whole("max_events", max_events, 1)
    cells, events, done = _rewritten(
        key, device, target_S, tolerance_S, first, max_events
    )
    joules = None if event_joules is None else jnp.sum(events * event_joules)
    return Written(cells, events, done, joules)


@functools.partial(jax.jit, static_argnames="max_events")
def _rewritten(
    key: jax.Array,
    device: Device[Any],
    target_S: jax.Array,
    tolerance_S: ArrayLike,
    first: ArrayLike,
    max_events: int,
) -> tuple[Any, jax.Array, jax.Array]:
    """Cells, how often each was written, and which of them converged."""

    def event(i: jax.Array) -> tuple[Any, jax.Array]:
        cells = device.program(key, target_S, first + i)
        seen = device.read(stream(key, "read", first + i), cells)
        return cells, jnp.abs(seen - target_S) <= tolerance_S

    def repeat(carry: tuple[Any, ...], i: jax.Array) -> tuple[Any, ...]:
        cells, events, done = carry
        new, fits = event(i)
        cells = jax.tree.map(lambda a, b: jnp.where(done, a, b), cells, new)
        return cells, events + ~done, done | fits

    def step(carry: tuple[Any, ...], i: jax.Array) -> tuple[Any, None]:
        # Once all cells have converged nothing is drawn any more; a scan, for
        # unlike a while loop it has gradients.
        over = jnp.all(carry[-1])
        carry = jax.lax.cond(over, lambda c, _: c, repeat, carry, i)
        return carry, None

    cells, done = event(jnp.int32(0))
    events = jnp.ones(done.shape, jnp.int32)
    start = (cells, events, done)
    return jax.lax.scan(step, start, jnp.arange(1, max_events))[0]


@pytree
class Verified(Wrapper[Written]):
    """A device whose `program` is `write_again`.

    So a crossbar, a study or a sweep can be put on write-verified cells.

    Attributes:
        device: what the cells are.
        tolerance_S: largest accepted difference of a read, S.
        event_joules: energy of one event of one cell, J, or None.
        max_events: after which a cell is given up.
    """

    device: Device[Any]
    tolerance_S: ArrayLike
    event_joules: ArrayLike | None = None
    max_events: int = static(default=100)

    def program(
        self, key: jax.Array, target_S: jax.Array, event: ArrayLike = 0
    ) -> Written:
        return write_again(
            key,
            self.device,
            target_S,
            tolerance_S=self.tolerance_S,
            max_events=self.max_events,
            event_joules=self.event_joules,
            first=jnp.multiply(event, self.max_events),
        )

    def reset(self, cells: Written, keep: jax.Array) -> Written:
        return cells._replace(cells=self.device.reset(cells.cells, keep))

    def conductance(
        self, cells: Written, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        return self.device.conductance(cells.cells, seconds)

    def read_std(self, cells: Written, seconds: ArrayLike = 0.0) -> jax.Array:
        return self.device.read_std(cells.cells, seconds)

    def read(
        self, key: jax.Array, cells: Written, seconds: ArrayLike = 0.0
    ) -> jax.Array:
        return self.device.read(key, cells.cells, seconds)

    def check(self) -> None:
        super().check()
        checks.in_range("tolerance_S", self.tolerance_S, 0)
        checks.whole("max_events", self.max_events, 1)
        if self.event_joules is not None:
            checks.in_range("event_joules", self.event_joules, 0)


def _check(target_S: jax.Array, tolerance_S: ArrayLike) -> None:
    """Raises UsageError for a target or a tolerance that is no number."""
    checks.finite("target_S", target_S)
    checks.in_range("tolerance_S", tolerance_S, 0)
