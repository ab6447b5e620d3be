"""Digital chips: weights and inputs in few bits, and no noise.

The key of such a chip decides nothing: all chips of a design are alike.

Letters: I inputs, O outputs.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import formats
from jaxedge.hardware.masked import MaskedRandom
from jaxedge.hardware.ranged import Ranged
from jaxedge.hardware.weights import Product, Weight, matmul
from jaxedge.quantize import products
from jaxedge.quantize.blocks import Blocks, Packed
from jaxedge.quantize.layer import Rows


@pytree
class Spec:
    """The numbers of a digital chip; sums are float32.

    Attributes:
        weights: format of the weights, a name of `formats.FORMATS`; None leaves
            them as they are.
        inputs: format of the inputs, whose scales are found as they come; None
            leaves them as they are (weights alone in few bits, W4A16).
        weight_scale: of weights without blocks, "channel" has a scale for each
            output, "tensor" one for all.
        input_scale: "vector" gives each input vector its own (per token),
            "tensor" one to all of a call, so that a result depends on what
            else is in its batch.
        packed: whether a chip keeps the bytes of its weights, in the stead of
            their values: less memory, and no gradient.
        path: how vectors meet such bytes (`quantize.products.PATHS`); in
            networks that are wrapped, and in convolutions that are not unrolled
            into vectors, they are unpacked whatever it is.
    """

    weights: str | None = static(default="nvfp4")
    inputs: str | None = static(default="nvfp4")
    weight_scale: str = static(default="channel")
    input_scale: str = static(default="vector")
    packed: bool = static(default=False)
    path: str = static(default="auto")

    def check(self) -> None:
        """Raises UsageError for a design that cannot be."""
        for name in (self.weights, self.inputs):
            if name is not None:
                formats.of(name)
        if self.weights is None and (self.inputs is None or self.packed):
            raise checks.UsageError(
                "weights is None, but a digital design has weights or inputs"
                " in some format, and weights if it is packed; give one, such"
                " as 'nvfp4'."
            )
        checks.choice("weight_scale", self.weight_scale, ("channel", "tensor"))
        checks.choice("input_scale", self.input_scale, formats.OVER)
        checks.choice("path", self.path, products.PATHS)
        if self.path != "auto" and not self.packed:
            raise checks.UsageError(
                f"path is {self.path!r}, but the weights are kept as values;"
                " make packed true, or path 'auto'."
            )

    @property
    def over(self) -> str:
        """What a scale of the weights is over, as `formats` has it."""
        return "tensor" if self.weight_scale == "tensor" else "vector"

    def stored_bits(self, inputs: int, outputs: int) -> int:
        """Bits of a matrix with its scales; float32 where it has no format."""
        if self.weights is None:
            return 32 * inputs * outputs
        return formats.stored_bits(self.weights, inputs, outputs, self.over)

    def program(self, key: jax.Array, w: jax.Array | Weight) -> "Digital":
        """Rounds a weight to its format.

        Pruned weights of a `MaskedRandom` are zeros. The range of a `Ranged` is
        not looked at: inputs have the scales of the moment.

        Args:
            key: chip key; decides nothing.
            w: array, `MaskedRandom` or `Ranged`, [I, O] or [h, w, I, O].
        """
        self.check()
        if isinstance(w, Ranged):
            return self.program(key, w.weights)
        weights = w
        if isinstance(w, MaskedRandom):
            w.check()
            checks.finite("the mask", w.mask)
            weights = w.weights * w.mask
        weights = jnp.asarray(weights)
        checks.finite("the weight to program", weights)
        matrix = weights.reshape(-1, weights.shape[-1]).astype(jnp.float32)
        return Digital(self._held(matrix), self, tuple(weights.shape))

    def _held(self, matrix: jax.Array) -> Any:
        if self.weights is None:
            return matrix
        if self.packed:
            return formats.pack_weights(matrix, self.weights, self.over)
        return formats.round_weights(matrix, self.weights, self.over)


@pytree
class Digital(Weight):
    """A weight on a digital chip.

    Attributes:
        held: values, float32 [I, O], with the gradient of the weight; or their
            bytes.
        spec: the design.
        shape: of the weight, [I, O] or [h, w, I, O].
    """

    held: jax.Array | Rows | Packed
    spec: Spec
    shape: tuple[int, ...] = static()

    @property
    def by_vector(self) -> bool:  # pyright: ignore
        """Patches have scales of their own."""
        spec = self.spec
        if spec.inputs is None:
            return False
        return spec.input_scale == "vector" or formats.in_blocks(spec.inputs)

    @property
    def matrix(self) -> jax.Array:
        """Values of the weights, float32 [I, O]."""
        if isinstance(self.held, (Rows, Packed)):
            return formats.unpack_weights(self.held)
        return self.held

    @property
    def stored_bits(self) -> int:
        """Bits of the weights and their scales."""
        outputs = self.shape[-1]
        return self.spec.stored_bits(self.size // outputs, outputs)

    def encode(self, x: jax.Array) -> jax.Array:
        """Inputs [..., I] as they meet the weights, float32."""
        spec = self.spec
        if spec.inputs is None:
            return x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return formats.round_inputs(x, spec.inputs, spec.input_scale)

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del key  # A read has no noise.
        x = self.encode(x)
        if product is matmul and isinstance(self.held, (Rows, Packed)):
            return products.matmul(
                x, self.held, inputs=self._input_blocks, path=self.spec.path
            )
        return product(x, self.matrix)

    @property
    def _input_blocks(self) -> Blocks | None:
        """The format that leaves inputs as `encode` has them."""
        spec = self.spec
        found = None if spec.inputs is None else formats.of(spec.inputs)
        if not isinstance(found, Blocks):
            return None
        # Vectors of NVFP4 that have wholes of their own have no such format.
        alike = found.scale != "e4m3" or spec.input_scale == "tensor"
        return found if alike else None

    def split(self, groups: int) -> "Digital":
        if isinstance(self.held, (Rows, Packed)):
            held = formats.split_packed(self.held, groups)
        else:
            held = jnp.stack(jnp.split(self.held, groups, -1))
        shape = (*self.shape[:-1], self.shape[-1] // groups)
        return Digital(held, self.spec, shape)


# What stands for "8 bits" beside weights of four.
_EIGHT = {"mxfp4": "mxfp8_e4m3", "mxfp4_searched": "mxfp8_e4m3", "int4": "int8"}


def _presets() -> dict[str, Spec]:
    """Both in a format; weights alone (w4a16); inputs in 8 bits (w4a8)."""
    found = {}
    for name in formats.FORMATS:
        bits = formats.bits(name)
        found[name] = Spec(name, name)
        found[f"{name}_w{bits}a16"] = Spec(name, None)
        if bits == 4:
            found[f"{name}_w4a8"] = Spec(name, _EIGHT.get(name, "fp8_e4m3"))
    return found


PRESETS = _presets()


def get(name: str, **changes: Any) -> Spec:
    """The design `name` with some fields replaced.

    Args:
        name: a key of `PRESETS`: a format of weights and inputs, such as
            "nvfp4", "mxfp4", "fp4_e2m1", "int4" or "int8", perhaps with
            "_w4a16" (inputs as they are) or "_w4a8" (inputs in 8 bits).
        **changes: names of `fields`.

    Raises:
        UsageError: for an unknown name or field, or a bad value.
    """
    if name not in PRESETS:
        raise checks.unknown("digital design", name, PRESETS)
    spec = with_fields(PRESETS[name], **changes)
    spec.check()
    return spec


def fields() -> list[str]:
    """Names of the fields of a design."""
    return [field.name for field in dataclasses.fields(Spec)]  # type: ignore


def with_fields(spec: Spec, **changes: Any) -> Spec:
    """A design with fields replaced, not checked.

    Raises:
        UsageError: for an unknown field.
    """
    for name in changes:
        if name not in fields():
            raise checks.unknown("field of a digital design", name, fields())
    return dataclasses.replace(spec, **changes)
