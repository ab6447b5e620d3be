"""I-V curves that are not straight, on any device.

The laws are functions of voltage and of the small-signal conductance G, which
is what programming sets, so that drift, faults and noise act on G as ever.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.trees import pytree
from jaxedge.hardware.devices.base import C, Device, Term
from jaxedge.hardware.devices.wrapper import Wrapper


class Nonlinear(Wrapper[C]):
    """A device whose current is not proportional to the voltage.

    Its state and its noise are those of the device below.
    """

    @property
    def linear(self) -> bool:
        """No."""
        return False

    def check(self) -> None:
        super().check()
        if not self.device.linear:
            raise checks.UsageError(
                f"{type(self).__name__} is put around a device with an I-V"
                " curve of its own; give iv_v0 or iv_a2 and iv_a3, not both."
            )


@pytree
class Sinh(Nonlinear[C]):
    """I = G v0 sinh(V / v0), linear where V is small against v0.

    Attributes:
        device: what conducts.
        iv_v0: voltage of the bend, V. Unknown for every preset, hence given.
    """

    device: Device[Any]
    iv_v0: ArrayLike

    def curve(self, v: jax.Array, g: jax.Array) -> Sequence[Term]:
        return (Term(jnp.sinh(v / self.iv_v0) * self.iv_v0, g),)

    def check(self) -> None:
        super().check()
        checks.in_range("iv_v0", self.iv_v0, 0, open_low=True)


@pytree
class Polynomial(Nonlinear[C]):
    """I = G V + a2(G) V^2 + a3(G) V^3, a_k(G) = iv_ak G (G / g_max)^(p - 1).

    With p = 1 the coefficients are proportional to G and all cells bend alike;
    with p < 1 those that conduct less bend more.

    Attributes:
        device: what conducts.
        iv_a2: 1/V. Unknown for every preset; labelled default.
        iv_a3: 1/V^2. Unknown for every preset; labelled default.
        iv_power: p, at least 0. Unknown for every preset; labelled default.
    """

    device: Device[Any]
    iv_a2: ArrayLike = 0.0
    iv_a3: ArrayLike = 0.0
    iv_power: ArrayLike = 1.0

    def curve(self, v: jax.Array, g: jax.Array) -> Sequence[Term]:
        bend = v**2 * self.iv_a2 + v**3 * self.iv_a3
        # Where nothing conducts a power below 1 has no slope.
        share = jnp.maximum(g / self.g_max, 1e-6)
        return (Term(v, g), Term(bend, g * share ** (self.iv_power - 1)))

    def check(self) -> None:
        super().check()
        checks.in_range("iv_a2", self.iv_a2)
        checks.in_range("iv_a3", self.iv_a3)
        checks.in_range("iv_power", self.iv_power, 0)
