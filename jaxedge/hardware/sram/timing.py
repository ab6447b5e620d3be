"""Time and energy of a conversion, by what is known of the macro.

Durations and currents of arXiv:2307.05944 are unknown: all are arguments.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.hardware.sram.config import Config


def seconds(
    config: Config,
    unit_seconds: float,
    *,
    decision_seconds: float = 0.0,
    precharge_seconds: float = 0.0,
    bits: str = "serial",
) -> float:
    """One vector through an array, s (sram_cim 5.3).

    Precharge, the longest product, and the steps of the conversion, each spread
    over its branches, with a decision before each and one at the end. Folding
    shortens the product.

    Args:
        config: the design, with known numbers.
        unit_seconds: the shortest pulse, s, above 0.
        decision_seconds: of the comparator, s.
        precharge_seconds: of the lines, s.
        bits: "serial" pulses one branch of a weight after the other, each as
            long as its bit; "parallel" all at once, as long as the largest.

    Raises:
        UsageError: for a negative duration or another order of the bits.
    """
    checks.choice("bits", bits, ("serial", "parallel"))
    checks.in_range("unit_seconds", unit_seconds, 0, open_low=True)
    checks.in_range("decision_seconds", decision_seconds, 0)
    checks.in_range("precharge_seconds", precharge_seconds, 0)
    fold, lsb = (int(np.asarray(n)) for n in (config.fold, config.lsb_units))
    longest = max(abs(end - fold) for end in config.x_range)
    branches = config.w_bits - (config.w_code == "sign_magnitude")
    sizes = 2.0 ** np.arange(branches)
    product = longest * (sizes.sum() if bits == "serial" else sizes.max())
    steps = 2.0 ** np.arange(config.steps) * lsb / config.cells()
    decisions = config.steps + 1
    return float(
        precharge_seconds
        + unit_seconds * (product + steps.sum())
        + decision_seconds * decisions
    )


class LineEnergy(NamedTuple):
    """Energy of a conversion, E = base + slope * drop.

    Attributes:
        base: of a conversion whose lines stay up, J.
        slope: of a mean drop of one swing, J.
    """

    base: float
    slope: float

    def joules(self, drop: np.ndarray | float) -> np.ndarray | float:
        """Of conversions with a mean drop of their lines, J."""
        return self.base + self.slope * drop


def fit_energy(drops: ArrayLike, joules: ArrayLike) -> LineEnergy:
    """The line through measured or simulated energies, by least squares.

    Charge taken from a line is proportional to its drop, and the converter
    takes the same from both lines at every conversion (sram_cim 5.3).

    Args:
        drops: mean drop of a line, or any quantity proportional to it, two
            different ones at least.
        joules: of one conversion, J.

    Raises:
        UsageError: for fewer points, or other numbers of both.
    """
    x, y = np.asarray(drops, float), np.asarray(joules, float)
    for name, values in (("drops", x), ("joules", y)):
        checks.finite(name, values)
    if x.ndim != 1 or x.shape != y.shape or np.unique(x).size < 2:
        raise checks.UsageError(
            f"drops {x.shape} and joules {y.shape} must be two lists of one"
            " length, with at least two different drops."
        )
    slope, base = np.polyfit(x, y, 1)
    return LineEnergy(float(base), float(slope))
