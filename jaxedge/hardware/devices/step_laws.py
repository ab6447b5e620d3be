"""Step laws of pulsed cells, and presets that name their source."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.hardware.devices.pulsed import Cells, Pulsed

_SMALL = 1e-6  # of a relative position, where a power has a slope


@pytree
class LinearStep(Pulsed):
    """Steps that shrink linearly towards the bounds.

    f_up = 1 - |gamma_up + gamma_up_dtod z| w / w_max, f_down = 1 - |gamma_down
    + gamma_down_dtod z| w / w_min; with `own_bounds` each cell's bounds stand
    in for the mean ones.

    Attributes:
        gamma_up: how much smaller an upward step is at w_max than at 0.
        gamma_down: how much smaller a downward step is at w_min than at 0.
        gamma_up_dtod: spread of gamma_up from device to device.
        gamma_down_dtod: spread of gamma_down.
        own_bounds: which bounds the slopes refer to.
    """

    gamma_up: ArrayLike = 0.0
    gamma_down: ArrayLike = 0.0
    gamma_up_dtod: ArrayLike = 0.05
    gamma_down_dtod: ArrayLike = 0.05
    own_bounds: bool = static(default=False)

    _spreads = (*Pulsed._spreads, "gamma_up_dtod", "gamma_down_dtod")

    def _bend(
        self,
        normal: Callable[[str], jax.Array],
        low: jax.Array,
        high: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        up = self.gamma_up + self.gamma_up_dtod * normal("gamma up")
        down = self.gamma_down + self.gamma_down_dtod * normal("gamma down")
        if not self.own_bounds:
            low = jnp.full_like(low, self.w_min)
            high = jnp.full_like(high, self.w_max)
        return _over(jnp.abs(up), high), _over(jnp.abs(down), low)


@pytree
class SoftBounds(LinearStep):
    """Steps that vanish at the cell's own bounds: gamma is 1 for both."""

    gamma_up: ArrayLike = 1.0
    gamma_down: ArrayLike = 1.0
    gamma_up_dtod: ArrayLike = 0.0
    gamma_down_dtod: ArrayLike = 0.0
    own_bounds: bool = static(default=True)


@pytree
class PowerStep(Pulsed):
    """Steps that shrink as a power of the distance to the bound.

    f_up = ((high - w) / (high - low))^g_up, f_down = ((w - low) / (high -
    low))^g_down, g_up = gamma |p + min(a, 0) + b|, g_down = gamma |p - max(a,
    0) - b|, p = 1 + gamma_dtod z, a = gamma_up_down, b = gamma_up_down_dtod z.

    Attributes:
        gamma: mean exponent.
        gamma_dtod: its relative spread from device to device.
        gamma_up_down: relative excess of the upward exponent.
        gamma_up_down_dtod: its spread from device to device.
    """

    gamma: ArrayLike = 1.0
    gamma_dtod: ArrayLike = 0.1
    gamma_up_down: ArrayLike = 0.0
    gamma_up_down_dtod: ArrayLike = 0.0

    _spreads = (*Pulsed._spreads, "gamma", "gamma_dtod", "gamma_up_down_dtod")

    @property
    def granularity(self) -> ArrayLike:
        """The mean step in the middle of the range."""
        return jnp.multiply(self.dw_min, jnp.power(0.5, self.gamma))

    def responses(
        self, cells: Cells, w: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """f_up and f_down at `w`."""
        span = jnp.maximum(cells.high - cells.low, _SMALL)
        above = jnp.maximum((cells.high - w) / span, _SMALL)
        below = jnp.maximum((w - cells.low) / span, _SMALL)
        return above**cells.bend_up, below**cells.bend_down

    def _bend(
        self,
        normal: Callable[[str], jax.Array],
        low: jax.Array,
        high: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        del low, high
        gain = 1 + self.gamma_dtod * normal("gamma")
        balance = self.gamma_up_down_dtod * normal("gamma balance")
        excess = jnp.asarray(self.gamma_up_down)
        up = jnp.abs(gain + jnp.minimum(excess, 0) + balance)
        down = jnp.abs(gain - jnp.maximum(excess, 0) - balance)
        return jnp.multiply(self.gamma, up), jnp.multiply(self.gamma, down)


def _over(numerator: jax.Array, bound: jax.Array) -> jax.Array:
    """A slope; 0 where the bound is 0, as in aihwkit."""
    return jnp.where(bound == 0, 0, numerator / jnp.where(bound == 0, 1, bound))


# Figures of the presets of the same name in IBM/aihwkit 1.2
# (simulator/presets/devices.py), which fitted them to the papers named here.
PRESETS: dict[str, Callable[..., Pulsed]] = {
    # No spread, no noise: the reference of every comparison.
    "ideal_step": functools.partial(
        Pulsed,
        dw_min_dtod=0.0,
        dw_min_std=0.0,
        up_down_dtod=0.0,
        w_min=-1.0,
        w_max=1.0,
        w_min_dtod=0.0,
        w_max_dtod=0.0,
    ),
    # Gokmen & Vlasov, Front. Neurosci. 10:333 (2016), scaled to [-1, 1].
    "gokmen_vlasov2016": functools.partial(
        Pulsed, dw_min=0.0016, w_min=-1.0, w_max=1.0
    ),
    # The same with 10,000 steps and no asymmetry (arXiv:1906.02698).
    "idealized": functools.partial(
        Pulsed, dw_min=0.0002, up_down_dtod=0.0, w_min=-1.0, w_max=1.0
    ),
    # Lithium ECRAM, Tang et al., IEDM 2018.
    "ecram_tang2018": functools.partial(
        LinearStep,
        dw_min=0.002,
        dw_min_dtod=0.1,
        w_max=1.1724,
        w_min=-0.8276,
        w_max_dtod=0.05,
        w_min_dtod=0.05,
        gamma_up=0.1153,
        gamma_down=0.5085,
    ),
    # Metal-oxide ECRAM, Kim et al., IEDM 2019.
    "ecram_kim2019": functools.partial(
        LinearStep,
        dw_min=2.8214e-4,
        dw_min_dtod=0.1,
        dw_min_std=2.0,
        w_max=1.1714,
        w_min=-0.8286,
        w_max_dtod=0.05,
        w_min_dtod=0.05,
        gamma_up=0.4152,
        gamma_down=0.7342,
    ),
    # RRAM, Gong et al., Nat. Commun. (2018), s41467-018-04485-1, loosely.
    "rram_gong2018": functools.partial(
        SoftBounds,
        dw_min=0.002,
        dw_min_std=3.75,
        w_max=1.25,
        w_min=-0.75,
        w_max_dtod=0.3 / 1.25,
        w_min_dtod=0.3 / 0.75,
        write_noise_std=56.0,
        relative_noise=False,
    ),
    # RRAM arrays of Gong et al., IEDM 2022: optimised material, and HfO2.
    "rram_array_gong2022": functools.partial(
        SoftBounds,
        dw_min=0.0949,
        dw_min_dtod=0.7829,
        dw_min_std=0.4158,
        w_max=1.0,
        w_min=-1.0,
        w_max_dtod=0.3499,
        w_min_dtod=0.5695,
        write_noise_std=1.4113,
        reference_std=0.05,
        lognormal=True,
        relative_noise=False,
        centred=True,
    ),
    "rram_array_hfo2_gong2022": functools.partial(
        SoftBounds,
        dw_min=0.4622,
        dw_min_dtod=0.7125,
        dw_min_std=0.2174,
        w_max=1.0,
        w_min=-1.0,
        w_max_dtod=0.4295,
        w_min_dtod=0.5990,
        write_noise_std=0.5841,
        reference_std=0.05,
        lognormal=True,
        relative_noise=False,
        centred=True,
    ),
}


def get(name: str, **overrides: Any) -> Pulsed:
    """The pulsed device `name` with some parameters replaced.

    Raises:
        UsageError: for an unknown preset or field, or a value out of range.
    """
    if name not in PRESETS:
        raise checks.unknown("pulsed device", name, PRESETS)
    known = [f.name for f in dataclasses.fields(PRESETS[name]())]
    for field in overrides:
        if field not in known:
            raise checks.unknown(f"parameter of {name}", field, known)
    device = PRESETS[name](**overrides)
    device.check()
    return device
