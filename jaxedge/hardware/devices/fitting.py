"""From measured conductances to a device."""

from typing import Any, NamedTuple

from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.hardware.devices.base import MICRO
from jaxedge.hardware.devices.binary import RandomRram

FAMILIES = ("normal", "lognormal")
_FEWEST = 8  # A spread of fewer cells tells nothing.


class Fit(NamedTuple):
    """A device and how well it describes what was measured.

    Attributes:
        device: as-formed cells with the fitted figures.
        distance: for each family the Kolmogorov-Smirnov distance between its
            law and the formed cells, in [0, 1]; smaller is better.
        cells: number of cells.
        formed: number of formed cells.
    """

    device: RandomRram
    distance: dict[str, float]
    cells: int
    formed: int


def fit(
    conductances: ArrayLike,
    *,
    reads: int | None = None,
    family: str = "auto",
    formed_above: float = 1 * MICRO,
) -> Fit:
    """Fits as-formed cells to an array of readings.

    Cells count as formed when their mean reading exceeds `formed_above`. The
    normal family gets the mean and the standard deviation of the formed cells,
    the lognormal one those of their logarithms (maximum likelihood). Repeated
    readings give the read noise, whose share is taken out of the spread.

    Args:
        conductances: S, any shape.
        reads: axis of repeated readings of the same cells; None for one
            reading a cell, which tells no read noise: the device has none.
        family: "normal", "lognormal", or "auto" for the smaller distance.
        formed_above: S; between the two populations.

    Returns:
        A `Fit`; `figures.cell_fit` draws it.

    Raises:
        UsageError: for negative, NaN or infinite readings, an unknown family,
            or too few formed cells.
    """
    # scipy.stats takes long to import, and only fits need it.
    from scipy.stats import ks_1samp

    checks.choice("family", family, ("auto", *FAMILIES))
    checks.in_range("formed_above", formed_above, 0)
    g = np.asarray(conductances, np.float64)
    checks.in_range("conductances", g, 0)
    if g.size and g.max() > 1:
        raise checks.UsageError(
            f"conductances reach {g.max():.3g} S; give siemens, for example"
            " 1e-6 times microsiemens."
        )
    noise, repeats = 0.0, 1
    if reads is not None:
        if not -g.ndim <= reads < g.ndim or g.shape[reads] < 2:
            raise checks.UsageError(
                f"axis reads={reads} of readings of shape {g.shape} does not"
                " hold two readings or more."
            )
        repeats = g.shape[reads]
        spread, g = g.std(reads, ddof=1), g.mean(reads)
        lit = g > formed_above
        # Of Gaussian noise relative to the conductance: mean of the squares.
        if lit.any():
            noise = float(np.sqrt(np.mean((spread[lit] / g[lit]) ** 2)))
    formed = g[g > formed_above]
    if formed.size < _FEWEST:
        raise checks.UsageError(
            f"{formed.size} of {g.size} cells conduct more than"
            f" {formed_above:.3g} S; a fit needs {_FEWEST}: lower formed_above"
            " or measure more cells."
        )
    laws = {name: _law(name, formed) for name in FAMILIES}
    ks: Any = ks_1samp
    distance = {
        name: float(ks(formed, law.cdf).statistic) for name, law in laws.items()
    }
    if family == "auto":
        family = min(distance, key=distance.__getitem__)
    mean, std = (float(x) for x in laws[family].stats("mv"))
    std = np.sqrt(max(std - (noise * mean) ** 2 / repeats, 0.0))
    unformed = g[g <= formed_above]
    device = RandomRram(
        lrs_mean=mean,
        lrs_std=float(std),
        hrs_mean=min(RandomRram.hrs_mean, mean / 2),  # type: ignore[type-var]
        read_noise=noise,
        family=family,
        formed=formed.size / g.size,
        pristine=float(unformed.mean()) if unformed.size else 0.0,
    )
    device.check()
    return Fit(device, distance, g.size, formed.size)


def _law(family: str, formed: np.ndarray) -> Any:
    """A frozen scipy distribution of the formed cells, S."""
    from scipy import stats

    if family == "normal":
        return stats.norm(formed.mean(), formed.std())
    log = np.log(formed)
    return stats.lognorm(log.std(), scale=np.exp(log.mean()))


def law(device: RandomRram) -> Any:
    """The distribution of a device's formed cells, a frozen scipy law, S."""
    from scipy import stats

    mean, std = float(device.lrs_mean), float(device.lrs_std)  # type: ignore
    if device.family == "normal":
        return stats.truncnorm(-mean / std, np.inf, loc=mean, scale=std)
    variance = np.log1p((std / mean) ** 2)
    return stats.lognorm(np.sqrt(variance), scale=mean * np.exp(-variance / 2))
