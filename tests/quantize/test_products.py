"""Paths of a product against unpacked weights, multiplied in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize import blocks, layer, minifloat, products
from jaxedge.quantize.blocks import MXFP4, NVFP4, Blocks
from jaxedge.quantize.minifloat import E2M1, Format

pytestmark = pytest.mark.usefixtures("compile_quickly")

MXFP8 = Blocks(Format(4, 3), 32, "e8m0")
fused = jax.jit(lambda x, w: products.matmul(x, w, path="fused"))
emulated = jax.jit(lambda x, w: products.matmul(x, w, path="emulated"))
pack = jax.jit(blocks.pack, static_argnames="blocks")
unpack = jax.jit(blocks.unpack)
rows = jax.jit(layer.rows, static_argnames="format")


def normal(seed, *shape):
    a = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(a, jnp.float32)


@functools.cache
def coded(kind, outputs, inputs, seed=0):
    w = normal(seed, outputs, inputs)
    if isinstance(kind, Blocks):
        return pack(w, blocks=kind)
    most = np.abs(np.asarray(w)).max(1)
    scale = jnp.asarray(most / kind.top, jnp.float32)
    return rows(w.T, format=kind, scale=scale)


def values(weights):
    """[I, O], float64."""
    if isinstance(weights, layer.Rows):
        table = np.concatenate([minifloat.grid(weights.format)[7:]] * 2)
        table[8:] *= -1
        code = np.stack([weights.codes & 15, weights.codes >> 4], -1)
        code = code.reshape(len(code), -1)[:, : weights.size]
        scale = np.asarray(weights.scale, np.float64)
        return (table[code] * scale[:, None]).T
    return np.asarray(unpack(weights), np.float64).T


def close(y, x, w):
    """Float32 sums in any order, and scales with a last bit of their own.

    A sum of n terms is off by at most n halves of a last bit, 2^-24, of the sum
    of their sizes, and each term by a few.
    """
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    bound = (len(w) + 8) * 2.0**-24 * (np.abs(x) @ np.abs(w))
    assert (np.abs(y - x @ w) <= bound).all()


CASES = {
    "mxfp4, one vector": (MXFP4, 1, 70, 161),
    "nvfp4, whole tiles": (NVFP4, 17, 64, 128),
    "nvfp4": (NVFP4, 3, 5, 37),
    "nvfp4 searched": (NVFP4.searched, 3, 66, 37),
    "e2m1, a scale for each output": (E2M1, 3, 65, 131),
    "mxfp8": (MXFP8, 2, 3, 70),
    "e3m0, float32 scales": (Blocks(Format(3, 0), 8, "float32"), 2, 3, 20),
}


@pytest.mark.parametrize("kind, m, outputs, inputs", CASES.values(), ids=CASES)
def test_fused_products_are_those_of_unpacked_weights(kind, m, outputs, inputs):
    weights = coded(kind, outputs, inputs)
    x = normal(1, m, inputs)
    y = fused(x, weights)
    assert y.shape == (m, outputs) and y.dtype == jnp.float32
    close(y, x, values(weights))
    close(emulated(x, weights), x, values(weights))


def test_fused_products_that_are_exact_are_equal():
    """Whole inputs, and weights of powers of two: no sum is rounded."""
    weights = coded(MXFP4, 3, 70)
    x = jnp.round(4 * normal(1, 2, 70))
    found = fused(x, weights)
    np.testing.assert_array_equal(
        found, np.asarray(x, np.float64) @ values(weights)
    )
    half = fused(x.astype(jnp.bfloat16), weights)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, found.astype(jnp.bfloat16))


def test_zeros_nan_and_no_vectors():
    weights = coded(NVFP4, 5, 37)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    x = normal(1, 3, 37)
    assert not fused(x, zeros).any()
    y = np.asarray(fused(x.at[0, 3].set(jnp.nan), weights))
    assert np.isnan(y[0]).all() and np.isfinite(y[1:]).all()
    assert fused(x[:0], weights).shape == (0, 5)


def test_the_gradient_of_fused_is_that_of_the_values():
    weights, x = coded(NVFP4, 5, 37), normal(1, 2, 3, 37)
    slope = normal(2, 2, 3, 5)

    def loss(x, weights):
        return (products.matmul(x, weights, path="fused") * slope).sum()

    found = jax.jit(jax.grad(loss))(x, weights)
    assert found.shape == x.shape
    flat = slope.reshape(-1, 5)
    close(found.reshape(-1, 37), flat, values(weights).T)


@pytest.mark.parametrize("path", ["emulated", "fused"])
def test_weights_have_no_gradient(path):
    weights = coded(E2M1, 65, 131)

    def loss(scale):
        w = layer.Rows(weights.codes, scale, weights.format, weights.size)
        return products.matmul(normal(1, 3, 131), w, path=path).sum()

    assert not jax.jit(jax.grad(loss))(weights.scale).any()


def test_fused_vmaps_over_vectors_and_weights():
    """A map over stacked weights, each with a scale of the whole."""
    each = [coded(NVFP4, 5, 37, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *a: np.stack(a), *each)
    x = normal(1, 2, 4, 37)
    for found, one, weights in zip(
        jax.vmap(fused)(x, stacked), x, each, strict=True
    ):
        close(found, one, values(weights))


def test_auto_is_emulated_without_an_accelerator(monkeypatch):
    taken = products._taken
    weights = coded(MXFP4, 3, 70)
    assert taken("auto", weights, MXFP4) == "emulated"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert taken("auto", weights, MXFP4) == "fused"
    odd = dataclasses.replace(weights, blocks=Blocks(E2M1, 5))
    assert taken("auto", odd, None) == "emulated"
    monkeypatch.setattr(products, "_capability", lambda: 10.0)
    assert taken("auto", weights, MXFP4) == "native"
    assert taken("auto", weights, None) == "fused"


@pytest.mark.skipif(
    jaxlib.version.__version_info__ > (0, 10, 2),
    reason="later ones compile as they lower, by a plugin for CUDA",
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_fused_lowers_to_triton(monkeypatch, dtype):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    weights = coded(NVFP4.searched, 66, 37)
    lowered = (
        jax.jit(lambda x, w: products.matmul(x, w, path="fused"))
        .trace(jnp.zeros((2, 37), dtype), weights)
        .lower(lowering_platforms=("cuda",))
    )
    assert "__gpu$xla.gpu.triton" in lowered.as_text()


def by_formula(a, b, a_scales, b_scales, preferred_element_type):
    """`jax.nn.scaled_matmul` as it is documented."""
    a, b, a_scales, b_scales = (
        v.astype(jnp.float32) for v in (a, b, a_scales, b_scales)
    )
    a = a * jnp.repeat(a_scales, a.shape[-1] // a_scales.shape[-1], -1)
    b = b * jnp.repeat(b_scales, b.shape[-1] // b_scales.shape[-1], -1)
    return jnp.einsum("bmk,bnk->bmn", a, b).astype(preferred_element_type)


@pytest.mark.parametrize(
    "kind, inputs", [(NVFP4, NVFP4), (MXFP4, MXFP8)], ids=["nvfp4", "mx"]
)
def test_native_operands_are_the_values(monkeypatch, kind, inputs):
    """In dtypes that the documentation of `jax.nn.scaled_matmul` lists."""
    seen = []

    def scaled_matmul(a, b, a_scales, b_scales, dtype):
        for v, scales in ((a, a_scales), (b, b_scales)):
            size = v.shape[-1] // scales.shape[-1]
            seen.append((v.dtype.name, scales.dtype.name, size))
        return by_formula(a, b, a_scales, b_scales, dtype)

    monkeypatch.setattr(products, "_capability", lambda: 10.0)
    monkeypatch.setattr(jax.nn, "scaled_matmul", scaled_matmul)
    native = functools.partial(products.matmul, inputs=inputs, path="native")
    weights = coded(kind, 3, 70)
    x = unpack(coded(inputs, 2, 70, seed=1))
    close(jax.jit(native)(x, weights), x, values(weights))
    known = {
        "nvfp4": ("float4_e2m1fn", "float8_e4m3fn", 16),
        "mx": ("float8_e4m3fn", "float8_e8m0fnu", 32),
    }
    assert seen == [known["nvfp4" if kind == NVFP4 else "mx"]] * 2


# Weights that other tests have packed already.
NATIVE = {
    MXFP4: (3, 70),
    NVFP4: (3, 70),
    NVFP4.searched: (66, 37),
    E2M1: (65, 131),
}


@pytest.mark.parametrize(
    "kind, inputs, lack",
    [
        (MXFP4, MXFP4, "Blackwell"),
        (MXFP4, None, "inputs is None"),
        (NVFP4, MXFP4, "not"),
        (NVFP4.searched, NVFP4, "not"),
        (E2M1, MXFP4, "no blocks"),
    ],
)
def test_native_tells_what_it_lacks(kind, inputs, lack):
    weights = coded(kind, *NATIVE[kind])
    x = jnp.zeros((2, weights.shape[-1]))
    with pytest.raises(UsageError, match=lack):
        products.matmul(x, weights, inputs=inputs, path="native")


@pytest.mark.parametrize("capability", ["9.0", "gfx942", None])
def test_other_devices_are_no_blackwell(monkeypatch, capability):
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert products._capability() < products._BLACKWELL


def test_bad_input():
    weights, x = coded(MXFP4, 3, 70), jnp.zeros((2, 70))
    with pytest.raises(UsageError, match="fuse.*Did you mean 'fused'"):
        products.matmul(x, weights, path="fuse")
    for bad in (x[:, 1:], x[0, 0], x.astype(int)):
        with pytest.raises(UsageError, match=r"\[\.\.\., 70\]"):
            products.matmul(bad, weights)
    with pytest.raises(UsageError, match="vmap"):
        products.matmul(x, jax.tree.map(lambda a: a[None], weights))
    with pytest.raises(UsageError, match="5 numbers"):
        odd = dataclasses.replace(weights, blocks=Blocks(E2M1, 5))
        products.matmul(x, odd, path="fused")
