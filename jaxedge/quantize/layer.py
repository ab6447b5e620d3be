"""A linear layer of small floating-point numbers, as it is deployed.

Letters: I inputs, O outputs.
"""

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.quantize import blocks, fronts, minifloat
from jaxedge.quantize.blocks import Blocks, Packed
from jaxedge.quantize.minifloat import Format


@pytree
class Rows:
    """Weights with a scale for each output, in real bytes.

    Attributes:
        codes: two of up to four bits a byte along the inputs
            (`minifloat.pack`), uint8 [O, ceil(I / 2)] or [O, I].
        scale: of the grid, float32 [O].
        format: of the numbers.
        size: I.
    """

    codes: jax.Array
    scale: jax.Array
    format: Format = static()
    size: int = static()

    @property
    def shape(self) -> tuple[int, int]:
        """[O, I]."""
        return self.scale.shape[-1], self.size

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(a.size * a.dtype.itemsize for a in (self.codes, self.scale))

    @property
    def values(self) -> jax.Array:
        """Float32 [O, I]."""
        codes = self.codes
        if self.format.bits <= 4:
            codes = minifloat.unpack(codes, self.size)
        return minifloat.decode(codes, self.format, self.scale[:, None])


def rows(w: jax.Array, format: Format, scale: jax.Array) -> Rows:
    """The weights [I, O] in codes, by the scales of their outputs [O]."""
    codes = minifloat.encode(w.T, format, scale[:, None])
    if format.bits <= 4:
        codes = minifloat.pack(codes)
    return Rows(codes, scale, format, w.shape[0])


@pytree
class QuantizedLinear:
    """A layer of small floating-point numbers.

    Inputs are divided by factors and rotated, where the method asks for it,
    then quantised; the weights are those of such inputs.

    Attributes:
        coded: the weights, [O, I].
        act_scale: of the activations' grid before the shift, []; without
            meaning in blocks.
        shift_I: octaves by which the grid of a channel is finer, whole numbers
            from 0 to 2^j - 1, int8 [I].
        factor_I: by which inputs are divided first, above 0, [I]; None: by
            none.
        act_format: of the activations; None leaves them as they are, or has
            them in blocks.
        act_blocks: of the activations, whose scales are found as they come,
            that of the whole from all vectors of a call.
        turn: size of the Hadamard rotations of the inputs, 1 for none.
    """

    coded: Rows | Packed
    act_scale: jax.Array
    shift_I: jax.Array  # noqa: N815 - the letter of its axis.
    factor_I: jax.Array | None = None  # noqa: N815
    act_format: Format | None = static(default=None)
    act_blocks: Blocks | None = static(default=None)
    turn: int = static(default=1)

    @property
    def inputs(self) -> int:
        """I."""
        return self.coded.shape[-1]

    @property
    def outputs(self) -> int:
        """O."""
        return self.coded.shape[0]

    @property
    def weight_format(self) -> Format:
        """Of the weights; in blocks the first of two."""
        if isinstance(self.coded, Rows):
            return self.coded.format
        return self.coded.blocks.format

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and their scales."""
        return self.coded.nbytes

    @property
    def weights(self) -> jax.Array:
        """Values of the weights, float32 [I, O]."""
        coded = self.coded
        values = (
            coded.values if isinstance(coded, Rows) else blocks.unpack(coded)
        )
        return values.T

    def activations(self, x: jax.Array) -> jax.Array:
        """Inputs [..., I] as they meet the weights."""
        x = fronts.prepare(x, self.factor_I, self.turn)
        if self.act_blocks is not None:
            return blocks.fake_quant(x, self.act_blocks)
        return quantised(x, self.act_format, self.act_scale, self.shift_I)

    def apply(self, x: jax.Array) -> jax.Array:
        """The layer's product, [..., I] to [..., O], dtype of `x`.

        The shift is folded into neither operand: codes of weights times a power
        of two would leave their grid (llm_fp4 7).
        """
        if x.ndim < 1 or x.shape[-1] != self.inputs:
            raise checks.UsageError(
                f"x has shape {x.shape}, but the layer has {self.inputs}"
                " inputs."
            )
        y = self.activations(x).astype(jnp.float32) @ self.weights
        return y.astype(x.dtype)


def quantised(
    x: jax.Array,
    format: Format | None,
    scale: jax.Array,
    shift: jax.Array,
) -> jax.Array:
    """Vectors [..., I] on a grid whose channels are finer by a shift [I]."""
    if format is None:
        return x
    return minifloat.to_values(x, format, fine_scale(scale, shift))


def fine_scale(scale: jax.Array, shift: jax.Array) -> jax.Array:
    """Scales of channels by that of all and their shifts, [I]."""
    return scale * jnp.exp2(-shift.astype(jnp.float32))
