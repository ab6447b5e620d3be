"""The design of an in-SRAM compute macro, arXiv:2307.05944.

Of the paper the abstract alone has been read: 4 x 4 bits, a signed output of 9
bits, two bit lines, and converters made of the memory cells themselves. Each
other number here is a labelled default (sram_cim 3); the paper's value is
unknown.

One unit is what a single branch discharges in its shortest pulse.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static

ADCS = ("embedded", "external")
CODES = ("sign_magnitude", "twos_complement")
PACKING = ("dense", "even", "kernel")
# Branches that share a step of the conversion, at most.
_MOST_CELLS = 64


def _exponential(u: jax.Array) -> jax.Array:
    """A resistor: 1 - e^-u."""
    return -jnp.expm1(-u)


def _steep(u: jax.Array) -> jax.Array:
    """A resistor that discharges the line almost wholly: (1 - e^-3u) / 3."""
    return -jnp.expm1(-3 * u) / 3


# Drop of a line's voltage by its units over the swing; each is monotone.
CURVES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda u: u,
    "exponential": _exponential,
    "steep": _steep,
    "root": jnp.sqrt,
}


@pytree
class Config:
    """A macro of N rows whose columns multiply, add and convert.

    Numbers can be swept, sizes are static. LSB stands for `lsb_units` units.

    Attributes:
        fold: what is subtracted from every input code, a whole number in [0,
            2^x_bits - 1]; 0 does not fold. Its share of the sum is a constant
            of the column, added digitally (MAC-folding; inferred).
        lsb_units: one LSB, a whole number of units of at least 1. A smaller
            one boosts the discharge and lets large sums clip
            (boosted-clipping; inferred).
        sigma_cell: relative std of the current of a branch, static.
        sigma_pulse: std of the width of a pulse, units, at every pulse.
        sigma_line: std of the noise of a pair of lines, LSB, at every read.
        sigma_cmp: std of the noise of the comparator, LSB, at every decision.
        sigma_off: std of the offset of a column, LSB, static.
        current: of all branches, relative to the one that an external
            converter was calibrated for.
        rows: N, of one array; the most that add up on a line.
        columns: of one array; only the number of arrays depends on it.
        x_bits: of an input.
        w_bits: of a weight, sign included.
        out_bits: of an output, sign included.
        x_signed: whether inputs have a sign, as a bit of theirs.
        w_code: "sign_magnitude" has weights from -(2^(w_bits-1) - 1) on,
            "twos_complement" one more below.
        adc: "embedded" converts by discharges of the same branches on the same
            lines; "external" compares the voltage with a linear reference, the
            rival.
        line_f: how a line's voltage falls, a name of `CURVES`.
        packing: how the inputs of a larger weight fill arrays, as in
            `crossbar.Spec`.
    """

    fold: ArrayLike = 8
    lsb_units: ArrayLike = 14
    sigma_cell: ArrayLike = 0.03
    sigma_pulse: ArrayLike = 0.1
    sigma_line: ArrayLike = 0.5
    sigma_cmp: ArrayLike = 0.5
    sigma_off: ArrayLike = 0.5
    current: ArrayLike = 1.0
    rows: int = static(default=64)
    columns: int = static(default=64)
    x_bits: int = static(default=4)
    w_bits: int = static(default=4)
    out_bits: int = static(default=9)
    x_signed: bool = static(default=False)
    w_code: str = static(default="sign_magnitude")
    adc: str = static(default="embedded")
    line_f: str = static(default="linear")
    packing: str = static(default="dense")

    @property
    def x_range(self) -> tuple[int, int]:
        """Lowest and highest input code."""
        if self.x_signed:
            return -(2 ** (self.x_bits - 1)), 2 ** (self.x_bits - 1) - 1
        return 0, 2**self.x_bits - 1

    @property
    def w_range(self) -> tuple[int, int]:
        """Lowest and highest weight code."""
        top = 2 ** (self.w_bits - 1) - 1
        return (-top - 1 if self.w_code == "twos_complement" else -top), top

    @property
    def steps(self) -> int:
        """n: decisions that discharge a line; one more has only a sign."""
        return self.out_bits - 1

    @property
    def swing(self) -> jax.Array:
        """Units that a line holds before it clips, []."""
        return 2.0**self.steps * jnp.asarray(self.lsb_units, jnp.float32)

    def cells(self) -> np.ndarray:
        """Branches in parallel at every step, least step first, [n].

        Unknown; labelled default: as many as the step has LSBs, up to 64.
        """
        return np.minimum(2 ** np.arange(self.steps), _MOST_CELLS)

    def volts(
        self, units: jax.Array, current: ArrayLike | None = None
    ) -> jax.Array:
        """How far a line has fallen, as a share of a linear line's swing.

        Args:
            units: that it has lost, at least 0.
            current: in place of the design's.
        """
        current = self.current if current is None else current
        return CURVES[self.line_f](jnp.asarray(current) * units / self.swing)

    def full_scale(self) -> int:
        """The largest sum of N products of folded inputs, units.

        Raises:
            UsageError: inside jit, where `fold` is not known.
        """
        if not checks.concrete(self.fold):
            raise checks.UsageError(
                "the full scale is a size, but fold is not known inside jit;"
                " ask for it outside."
            )
        fold = int(np.asarray(self.fold))
        low, high = (end - fold for end in self.x_range)
        return self.rows * max(-low, high) * max(map(abs, self.w_range))

    def unclipped(self) -> int:
        """The least LSB, in units, with which no sum clips."""
        return math.ceil(self.full_scale() / 2**self.steps)

    def without_errors(self) -> "Config":
        """The same design without mismatch and without noise."""
        return dataclasses.replace(self, **dict.fromkeys(_SIGMAS, 0.0))

    def check(self) -> None:
        """Raises UsageError for a design that cannot be."""
        for name, low in (
            ("rows", 1),
            ("columns", 1),
            ("x_bits", 1),
            ("w_bits", 2),
        ):
            checks.whole(name, getattr(self, name), low)
        checks.whole("out_bits", self.out_bits, 2)
        for name, high in (("x_bits", 8), ("w_bits", 8), ("out_bits", 14)):
            checks.in_range(name, getattr(self, name), high=high)
        for name, options in _CHOICES.items():
            checks.choice(name, getattr(self, name), options)
        if not isinstance(self.x_signed, bool):
            raise checks.UsageError(
                f"x_signed is {self.x_signed!r}, but must be True or False."
            )
        for name in _SIGMAS:
            checks.in_range(name, getattr(self, name), 0)
        checks.in_range("current", self.current, 0, open_low=True)
        checks.in_range("fold", self.fold, 0, 2**self.x_bits - 1)
        _check_whole("fold", self.fold, "a code is subtracted from a code")
        if self.x_signed and checks.concrete(self.fold) and np.any(self.fold):
            raise checks.UsageError(
                f"fold is {self.fold}, but signed inputs have their zero in the"
                " middle already; use fold=0, or x_signed=False."
            )
        checks.in_range("lsb_units", self.lsb_units, 1)
        _check_whole(
            "lsb_units",
            self.lsb_units,
            "the ADC discharges whole pulses, and sums that lie on a threshold"
            " would be decided by rounding errors",
        )


_CHOICES = {
    "w_code": CODES,
    "adc": ADCS,
    "line_f": CURVES,
    "packing": PACKING,
}
_SIGMAS = ("sigma_cell", "sigma_pulse", "sigma_line", "sigma_cmp", "sigma_off")


def _check_whole(name: str, value: Any, why: str) -> None:
    """Raises for numbers with a fraction, with the reason."""
    if not checks.concrete(value):
        return
    numbers = np.ravel(np.asarray(value))
    bad = numbers[numbers % 1 != 0]
    if bad.size:
        raise checks.UsageError(
            f"{name} is {bad[0]}, but must be a whole number: {why}; use"
            f" {name}={math.ceil(bad[0])}."
        )
