"""Integer quantisers of activations."""

import jax
import jax.numpy as jnp

from jaxedge.core import checks

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
