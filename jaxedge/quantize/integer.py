"""Integer quantisers: by the range of the moment, or of a learned step."""

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.quantize.initial import init_act_step as init_act_step
from jaxedge.quantize.initial import init_offset as init_offset
from jaxedge.quantize.initial import init_step as init_step
from jaxedge.quantize.learned import GRADIENT_SCALES as GRADIENT_SCALES
from jaxedge.quantize.learned import MIN_STEP as MIN_STEP
from jaxedge.quantize.learned import clipped as clipped
from jaxedge.quantize.learned import code as code
from jaxedge.quantize.learned import fitted_step as fitted_step
from jaxedge.quantize.learned import gradient_scale as gradient_scale
from jaxedge.quantize.learned import limits as limits
from jaxedge.quantize.learned import lsq as lsq
from jaxedge.quantize.learned import lsq_plus as lsq_plus
from jaxedge.quantize.learned import pact as pact
from jaxedge.quantize.learned import scaled_gradient as scaled_gradient

RANGES = ("example", "tensor")


def dynamic(
    x: jax.Array,
    bits: int | None,
    *,
    signed: bool = False,
    over: str = "example",
) -> jax.Array:
    """Rounds activations to a grid that spans their own range.

    step D = (max - min) / (2^bits - 1). Unsigned, after a ReLU: q =
    clip(round(x / D), 0, 255) D; beyond 8 bits, where the released code would
    saturate, the limit is 2^bits - 1. Signed: q = (round((x - min) / D) +
    floor(min / D)) D, a grid anchored at multiples of D whose error reaches
    one step. Halves go to even (edge_pruning 4.5, the quantiser of
    arXiv:2311.07164). The gradient passes straight through.

    Args:
        x: [B, ...], floating point.
        bits: resolution, at least 1; None returns `x`.
        signed: which of the two forms.
        over: "example" takes the range of each example, so that a result does
            not depend on its neighbours in the batch; "tensor" that of the
            whole batch, padding included, as in the released code.

    Returns:
        Shape and dtype of `x`; constant examples are returned unchanged.
    """
    checks.choice("over", over, RANGES)
    if bits is None:
        return x
    checks.whole("bits", bits, 1)
    checks.in_range("bits", bits, 1, 24)
    axes = tuple(range(0 if over == "tensor" else 1, x.ndim))
    low = x.min(axes, keepdims=True)
    # A product, as XLA makes of a division by a constant inside jit alone.
    step = (x.max(axes, keepdims=True) - low) * (1 / (2**bits - 1))
    safe = jnp.where(step > 0, step, 1)
    if signed:
        code = jnp.round((x - low) / safe) + jnp.floor(low / safe)
    else:
        code = jnp.clip(jnp.round(x / safe), 0, max(255, 2**bits - 1))
    value = jnp.where(step > 0, code * safe, x)
    return jax.lax.stop_gradient(value) + (x - jax.lax.stop_gradient(x))
