"""Conductance models of memory cells, and presets that name their source."""

from collections.abc import Callable
import functools
from typing import Any

from jaxedge.core import checks
from jaxedge.hardware.devices.base import MICRO as MICRO
from jaxedge.hardware.devices.base import Device as Device
from jaxedge.hardware.devices.base import Level as Level
from jaxedge.hardware.devices.base import Programmed as Programmed
from jaxedge.hardware.devices.base import Term as Term
from jaxedge.hardware.devices.binary import RandomRram as RandomRram
from jaxedge.hardware.devices.binary import Switched as Switched
from jaxedge.hardware.devices.binary import SwitchedRram as SwitchedRram
from jaxedge.hardware.devices.binary import (
    forming_probability as forming_probability,
)
from jaxedge.hardware.devices.binary import read_snr as read_snr
from jaxedge.hardware.devices.faults import FaultMap as FaultMap
from jaxedge.hardware.devices.faults import Faulty as Faulty
from jaxedge.hardware.devices.fitting import Fit as Fit
from jaxedge.hardware.devices.fitting import fit as fit
from jaxedge.hardware.devices.fitting import law as law
from jaxedge.hardware.devices.multilevel import CmoHfox as CmoHfox
from jaxedge.hardware.devices.multilevel import Pcm as Pcm
from jaxedge.hardware.devices.multilevel import Sonos as Sonos
from jaxedge.hardware.devices.multilevel import WanRram as WanRram
from jaxedge.hardware.devices.nonlinear import Polynomial as Polynomial
from jaxedge.hardware.devices.nonlinear import Sinh as Sinh
from jaxedge.hardware.devices.pulsed import Pulsed as Pulsed
from jaxedge.hardware.devices.spread import Spread as Spread
from jaxedge.hardware.devices.stack import fitted
from jaxedge.hardware.devices.stack import with_fields as with_fields
from jaxedge.hardware.devices.telegraph import Telegraph as Telegraph
from jaxedge.hardware.devices.wrapper import Wrapper as Wrapper

# Each preset's figures and their source; see docs/hardware.md.
PRESETS: dict[str, Callable[..., Device[Any]]] = {
    # Exact programming and reading: the reference of every comparison.
    "ideal": Programmed,
    # As-formed cells, N(34.05538, 5.32269) uS, as simulated by the DEPLM code
    # (arXiv:2312.09262); the forming share is .5 at 3.43 V.
    "rram_40nm_random": RandomRram,
    # The same cells as complementary SET/RESET pairs (arXiv:2311.07164).
    "rram_40nm_set_reset": SwitchedRram,
    # Measured maps of Nat. Mach. Intell. 5, 104 (2023), Fig. 1 source data:
    # hidden weights 50 x 50, 50.7 % unformed, lognormal.
    "rram_40nm_measured_50x50": functools.partial(
        RandomRram,
        lrs_mean=12.346 * MICRO,
        lrs_std=1.859 * MICRO,
        formed=0.493,
        family="lognormal",
    ),
    # Input weights 50 x 8 of the same source, 50.5 % unformed.
    "rram_40nm_measured_50x8": functools.partial(
        RandomRram,
        lrs_mean=12.272 * MICRO,
        lrs_std=1.743 * MICRO,
        formed=0.495,
        family="lognormal",
    ),
    # Phase-change memory of Nandakumar et al., ICECS 2019, as in aihwkit.
    "pcm_nandakumar2019": Pcm,
    # The programming error of Joshi et al., Nat. Commun. 11, 2473 (2020), Fig.
    # 3b, as fitted in cross-sim: one of absolute conductance. That fit has no
    # drift; the drift and the read noise are those of the preset above.
    "pcm_joshi2020": functools.partial(
        Pcm,
        error=(0.28638599, 0.07585724 * 25, -0.00178767 * 25**2),
        stretched=False,
    ),
    # Wan et al., Nature 608, 504 (2022), as in aihwkit.
    "rram_wan2022": WanRram,
    # CMO/HfOx of Falcone et al., as in aihwkit.
    "rram_cmo_hfox_falcone": CmoHfox,
    # Agrawal et al., IEDM 2022, as in cross-sim.
    "sonos": Sonos,
}


def get(name: str, **overrides: Any) -> Device[Any]:
    """The device preset `name` with some parameters replaced.

    Args:
        name: a key of `PRESETS`.
        **overrides: fields of the device, conductances in S, and those of the
            effects that `with_fields` puts around it: stuck cells (`stuck_on`,
            `stuck_off`, `unformed`), telegraph noise (`rtn_amplitude`, ...),
            a bent I-V curve (`iv_v0`, or `iv_a2` and `iv_a3`), spread (`d2d`,
            `c2c`).

    Returns:
        A device.

    Raises:
        UsageError: for an unknown preset or field, or a value out of range.

    Examples:
        >>> get("rram_wan2022", read_noise=0.02).read_noise
        0.02
        >>> get("rram_wan2021")
        Traceback (most recent call last):
        jaxedge.core.checks.UsageError: unknown device preset 'rram_wan2021'...
    """
    if name not in PRESETS:
        raise checks.unknown("device preset", name, PRESETS)
    return fitted(PRESETS[name](), overrides, f"parameter of {name}")
