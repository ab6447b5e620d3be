"""Cells that move by pulses, and the constant step.

The laws and names are those of IBM/aihwkit 1.2. A weight w is in its
normalised unit: the nominal range is about [-1, 1] and holds 0, as the
difference of a cell and a fixed reference. One pulse moves a cell by

    w <- clip(w + up f_up(w) (1 + s z), low, high)         upwards
    w <- clip(w - down f_down(w) (1 + s z), low, high)     downwards

with z standard normal, or f(w) + s z in place of f(w) (1 + s z) where the
noise adds. Bounds and steps differ from cell to cell; the chip key draws them.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import sampling
from jaxedge.hardware.devices import pulse_moments
from jaxedge.hardware.devices.base import MICRO
from jaxedge.hardware.wear import Wear

P = TypeVar("P", bound="Pulsed")


class Cells(NamedTuple):
    """Pulsed cells; every field has their shape.

    Attributes:
        w: where the cell is, in weights, before its reference is subtracted.
        seen: what a read sees of `w`: with write noise another value.
        reference: of the reference cell, in weights.
        low: lower bound of `w`.
        high: upper bound of `w`.
        up: step of an upward pulse where f is 1, at least 0.
        down: step of a downward pulse, likewise.
        bend_up: what the law makes of it: slope or exponent of f_up.
        bend_down: of f_down.
        life: pulses after which the cell is stuck.
        ups: upward pulses it was given so far, int32.
        downs: downward pulses, int32.
    """

    w: jax.Array
    seen: jax.Array
    reference: jax.Array
    low: jax.Array
    high: jax.Array
    up: jax.Array
    down: jax.Array
    bend_up: jax.Array
    bend_down: jax.Array
    life: jax.Array
    ups: jax.Array
    downs: jax.Array

    @property
    def pulses(self) -> jax.Array:
        """Pulses of both directions, int32."""
        return self.ups + self.downs

    @property
    def stuck(self) -> jax.Array:
        """Which cells are worn out, bool."""
        return self.pulses >= self.life


@pytree
class Pulsed:
    """What all pulsed cells share; as it stands, a constant step, f = 1.

    up = dw_min |g + min(a, 0) + b|, down = dw_min |g - max(a, 0) - b|, with g
    = 1 + dw_min_dtod z (or exp(dw_min_dtod z)), a = up_down and b =
    up_down_dtod z: what aihwkit computes; its documentation has a on both
    sides. high = |w_max (1 + w_max_dtod z)|, and low likewise.

    Attributes:
        dw_min: mean step at w = 0, in weights.
        dw_min_dtod: its relative spread from device to device.
        dw_min_std: s, relative spread from pulse to pulse.
        up_down: relative excess of upward steps.
        up_down_dtod: its spread from device to device.
        w_min: mean lower bound, at most 0.
        w_max: mean upper bound, at least 0.
        w_min_dtod: relative spread of the lower bound.
        w_max_dtod: relative spread of the upper bound.
        write_noise_std: std, in steps `dw_min`, by which what is seen differs
            from where the cell is; drawn anew whenever the cell is pulsed.
        reference_std: error of the reference, in weights.
        zero_S: conductance at w = 0, S. Unknown; labelled default.
        unit_S: conductance of one weight, S. Unknown; labelled default.
        read_noise: std of one read relative to the conductance. Unknown;
            labelled default.
        up_joules: energy of an upward pulse, J; unknown, so None leaves it
            unpriced.
        down_joules: of a downward pulse, likewise.
        wear: how many pulses a cell survives; unknown, so none wears out.
        lognormal: whether steps spread by exp(dw_min_dtod z).
        relative_noise: whether the spread from pulse to pulse scales with f.
        centred: whether the reference is the cell's symmetry point.
    """

    dw_min: ArrayLike = 0.001
    dw_min_dtod: ArrayLike = 0.3
    dw_min_std: ArrayLike = 0.3
    up_down: ArrayLike = 0.0
    up_down_dtod: ArrayLike = 0.01
    w_min: ArrayLike = -0.6
    w_max: ArrayLike = 0.6
    w_min_dtod: ArrayLike = 0.3
    w_max_dtod: ArrayLike = 0.3
    write_noise_std: ArrayLike = 0.0
    reference_std: ArrayLike = 0.0
    zero_S: ArrayLike = 12.5 * MICRO
    unit_S: ArrayLike = 12.5 * MICRO
    read_noise: ArrayLike = 0.0
    up_joules: ArrayLike | None = None
    down_joules: ArrayLike | None = None
    wear: Wear = Wear()
    lognormal: bool = static(default=False)
    relative_noise: bool = static(default=True)
    centred: bool = static(default=False)

    @property
    def granularity(self) -> ArrayLike:
        """Typical step, in weights: what pulse trains count in."""
        return self.dw_min

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Cells:
        """New cells at weight 0; the chip key is consumed."""
        check_key(key)
        self.check()

        def normal(name: str) -> jax.Array:
            return sampling.normal(stream(key, name), shape)

        high = jnp.abs(self.w_max * (1 + self.w_max_dtod * normal("high")))
        low = -jnp.abs(self.w_min * (1 + self.w_min_dtod * normal("low")))
        gain = self.dw_min_dtod * normal("gain")
        gain = jnp.exp(gain) if self.lognormal else 1 + gain
        balance = self.up_down_dtod * normal("balance")
        excess = jnp.asarray(self.up_down)
        up = jnp.abs(gain + jnp.minimum(excess, 0) + balance)
        down = jnp.abs(gain - jnp.maximum(excess, 0) - balance)
        bend_up, bend_down = self._bend(normal, low, high)
        zero, none = jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
        cells = Cells(
            w=zero,
            seen=zero,
            reference=jnp.multiply(self.reference_std, normal("reference")),
            low=low,
            high=high,
            up=jnp.multiply(self.dw_min, up),
            down=jnp.multiply(self.dw_min, down),
            bend_up=bend_up,
            bend_down=bend_down,
            life=self.wear.lifetimes(stream(key, "life"), shape),
            ups=none,
            downs=none,
        )
        if self.centred:
            point = self.symmetry_point(cells)
            cells = cells._replace(reference=cells.reference + point)
        return self.place(cells, zero)

    def place(self, cells: Cells, weights: jax.Array) -> Cells:
        """Puts cells where they show `weights`, as far as their bounds allow.

        The start of a simulation, free and exact; hardware gets there by
        `write_verify`.
        """
        checks.finite("weights", weights)
        w = jnp.clip(weights + cells.reference, cells.low, cells.high)
        return cells._replace(w=w, seen=w)

    def weights(self, cells: Cells) -> jax.Array:
        """What the array multiplies by."""
        return cells.seen - cells.reference

    def responses(
        self, cells: Cells, w: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """f_up and f_down at `w`."""
        return 1 - cells.bend_up * w, 1 - cells.bend_down * w

    def pulse(self, key: jax.Array, cells: Cells, counts: jax.Array) -> Cells:
        """Gives cells trains of pulses, one pulse after the other.

        The exact form, at one draw for every cell and pulse of the longest
        train. Cannot be differentiated backwards (`pulse_many` can).

        Args:
            key: of the pulses, consumed.
            cells: any shape.
            counts: signed whole numbers of pulses, up or down, shape of the
                cells.
        """
        counts = _whole_counts(counts, cells)
        size = jnp.abs(counts)
        left = cells.life - cells.pulses

        def one(carry: tuple[jax.Array, jax.Array]):
            i, w = carry
            noise = self._noise(stream(key, "cycle", i), w.shape)
            up, down = self._steps(cells, w, noise)
            moved = jnp.where(counts > 0, w + up, w - down)
            moved = jnp.clip(moved, cells.low, cells.high)
            return i + 1, jnp.where((i < size) & (i < left), moved, w)

        longest = jnp.max(size, initial=0)
        _, w = jax.lax.while_loop(
            lambda carry: carry[0] < longest, one, (jnp.int32(0), cells.w)
        )
        ups, downs = jnp.maximum(counts, 0), jnp.maximum(-counts, 0)
        return self._moved(key, cells, w, ups, downs)

    def pulse_many(
        self, key: jax.Array, cells: Cells, ups: jax.Array, downs: jax.Array
    ) -> Cells:
        """Gives cells many pulses of both directions at once.

        In random order, at one draw a cell: normal, with the mean and the
        variance of `pulse_moments`. Steps of one direction on a linear law
        have exactly the mean of `pulse`, away from hard bounds. Otherwise the
        mean is off by less than the largest single step and the std by less
        than a tenth (tested for 60 pulses with steps of a hundredth of the
        range).

        Args:
            key: of the pulses, consumed.
            cells: any shape.
            ups: upward pulses, at least 0, shape of the cells.
            downs: downward pulses.
        """
        ups, downs = _whole_counts(ups, cells), _whole_counts(downs, cells)
        left = jnp.maximum(cells.life - cells.pulses, 0)
        total = jnp.maximum(ups + downs, 1)
        share = jnp.minimum(left / total, 1)
        trains = pulse_moments.Trains(
            share * ups, share * downs, cells.up, cells.down
        )
        w, variance = pulse_moments.moments(
            lambda w: self.responses(cells, w),
            cells.w,
            trains,
            self.dw_min_std,
            relative=self.relative_noise,
        )
        noise = sampling.normal(stream(key, "many"), w.shape, w.dtype)
        w = jnp.clip(w + noise * _root(variance), cells.low, cells.high)
        return self._moved(key, cells, w, ups, downs)

    def symmetry_point(self, cells: Cells) -> jax.Array:
        """w at which an upward and a downward pulse cancel in the mean.

        Where they cancel nowhere, the bound to which alternating pulses drive
        the cell.
        """

        def halve(_: int, ends: tuple[jax.Array, jax.Array]):
            low, high = ends
            middle = (low + high) / 2
            up, down = self._steps(cells, middle, jnp.zeros_like(middle))
            rises = up > down
            return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

        low, high = jax.lax.fori_loop(0, 30, halve, (cells.low, cells.high))
        return (low + high) / 2

    def conductance(self, cells: Cells) -> jax.Array:
        """Mean conductance that a read sees, S, not below 0."""
        g = self.zero_S + self.unit_S * cells.seen
        return jnp.where(g < 0, 0, g)

    def read(self, key: jax.Array, cells: Cells) -> jax.Array:
        """One noisy read of every cell, S; consumes `key`."""
        g = self.conductance(cells)
        noise = sampling.normal(key, g.shape, g.dtype)
        return g + self.read_noise * g * noise

    def joules(self, cells: Cells) -> jax.Array | None:
        """Energy of all pulses so far, J []; None while unpriced."""
        if self.up_joules is None or self.down_joules is None:
            return None
        return jnp.sum(cells.ups * self.up_joules) + jnp.sum(
            cells.downs * self.down_joules
        )

    def replace(self: P, **fields: Any) -> P:
        """The same device with other numbers; nothing is checked."""
        return dataclasses.replace(self, **fields)

    def check(self) -> None:
        """Raises UsageError for a parameter out of range."""
        checks.in_range("dw_min", self.dw_min, 0, open_low=True)
        checks.in_range("up_down", self.up_down, -1, 1)
        checks.in_range("w_min", self.w_min, high=0)
        checks.in_range("w_max", self.w_max, 0)
        checks.ordered("w_min", self.w_min, "w_max", self.w_max)
        checks.in_range("unit_S", self.unit_S, 0, open_low=True)
        for name in self._spreads:
            checks.in_range(name, getattr(self, name), 0)
        for name in ("up_joules", "down_joules"):
            if getattr(self, name) is not None:
                checks.in_range(name, getattr(self, name), 0)
        self.wear.check()

    # Not annotated: a constant of the class is no field.
    _spreads = (
        "dw_min_dtod", "dw_min_std", "up_down_dtod", "w_min_dtod",
        "w_max_dtod", "write_noise_std", "reference_std", "zero_S",
        "read_noise",
    )  # fmt: skip

    def _bend(
        self,
        normal: Callable[[str], jax.Array],
        low: jax.Array,
        high: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """`bend_up` and `bend_down` of new cells with these bounds."""
        del normal, high
        return jnp.zeros_like(low), jnp.zeros_like(low)

    def _steps(
        self, cells: Cells, w: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Sizes of the next upward and the next downward step."""
        up, down = self.responses(cells, w)
        if self.relative_noise:
            up, down = up * (1 + noise), down * (1 + noise)
        else:
            up, down = up + noise, down + noise
        return cells.up * up, cells.down * down

    def _noise(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Relative deviations of one pulse of every cell."""
        std = jnp.asarray(self.dw_min_std)
        drawn = sampling.draw_if(
            std > 0, sampling.to_normal, key, shape, jnp.float32
        )
        return std * drawn

    def _moved(
        self,
        key: jax.Array,
        cells: Cells,
        w: jax.Array,
        ups: jax.Array,
        downs: jax.Array,
    ) -> Cells:
        """Cells after their pulses; write noise is new where there were any."""
        std = jnp.multiply(self.write_noise_std, self.dw_min)
        key = stream(key, "write")
        noise = sampling.draw_if(
            std > 0, sampling.to_normal, key, w.shape, w.dtype
        )
        touched = (ups + downs > 0) & ~cells.stuck
        return cells._replace(
            w=w,
            seen=jnp.where(touched, w + std * noise, cells.seen),
            ups=cells.ups + ups,
            downs=cells.downs + downs,
        )


def _whole_counts(counts: jax.Array, cells: Cells) -> jax.Array:
    """Pulse counts as int32, of the cells' shape."""
    if jnp.shape(counts) != cells.w.shape:
        raise checks.UsageError(
            f"pulse counts of shape {jnp.shape(counts)} do not fit cells of"
            f" shape {cells.w.shape}; give one count a cell."
        )
    return jnp.asarray(counts).astype(jnp.int32)


def _root(x: jax.Array) -> jax.Array:
    """A square root without a slope at 0."""
    lit = x > 0
    return jnp.where(lit, jnp.sqrt(jnp.where(lit, x, 1)), 0)
