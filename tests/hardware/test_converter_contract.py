"""One battery for every converter: transformations, slopes, types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge.hardware import adc, converters
from jaxedge.hardware.adc import Adc

BITS = 5
SHAPE = (100, 3)
LIMIT = 1.5


def columns_of(kind, rounding="nearest"):
    """A converter whose columns differ, and what draws them."""

    def convert(key, x, limit):
        made = Adc(
            0.02, 0.3, 0.4, 0.0 if kind != "sar" else 0.05, kind, rounding
        )
        columns = made.draw(core.stream(key, "chip"), (x.shape[-1],), BITS)
        return made.convert(x, limit, BITS, columns, core.stream(key, "read"))

    return convert


def calibrated(key, x, limit):
    del key
    inside = jnp.clip(x, -limit, limit)
    low, high = converters.calibrate(inside, BITS, 99.0)
    return converters.uniform(x, low, high, BITS)


def affine(key, x, limit):
    del key
    code, step, low = converters.affine(
        x, BITS, converters.Range(-limit, limit)
    )
    return code * step + low


def planes(key, x, limit):
    del key
    code, step, low = converters.affine(limit * x, BITS)
    digits = converters.bit_planes(code, BITS)
    return jnp.tensordot(2.0 ** jnp.arange(BITS), digits, 1) * step + low


# Functions of a key, inputs and a limit that give values as their inputs.
CASES = {
    "uniform": lambda key, x, limit: converters.uniform(x, -limit, limit, BITS),
    "signed": lambda key, x, limit: converters.signed(x, limit, BITS),
    "affine": affine,
    "bit_planes": planes,
    "calibrate": calibrated,
    "adc": columns_of("uniform"),
    "adc, stochastic": columns_of("uniform", "stochastic"),
    "adc, sar": columns_of("sar"),
    "adc, ramp": columns_of("ramp"),
    "adc, ramp, stochastic": columns_of("ramp", "stochastic"),
}
every = pytest.mark.parametrize("name", CASES)
# Eager operations are slow to compile: each step of a converter is in one.
EAGER = ("uniform", "signed", "bit_planes", "calibrate", "adc, sar")
EAGER += ("adc, ramp, stochastic",)


def test_every_kind_is_tested():
    kinds = {name.split(", ")[1] for name in CASES if "," in name}
    assert kinds | {"uniform"} >= {*adc.KINDS} | {*adc.ROUNDING} - {"nearest"}


@functools.cache
def compiled(name):
    """Values, and slopes of inputs and of the limit, in a batch."""

    def total(x, limit, key):
        y = CASES[name](key, x, limit)
        return jnp.sum(y**2), y

    return jax.jit(jax.vmap(jax.grad(total, (0, 1), has_aux=True)))


@functools.cache
def arguments():
    """Inputs in and out of range, of zero, of one level; limits; keys."""
    keys = core.chip_keys(jax.random.key(3), 4)
    x = 2 * jax.random.normal(keys[0], SHAPE)
    inputs = jnp.stack([x, x, jnp.zeros_like(x), jnp.full_like(x, 0.7)])
    return inputs, LIMIT * jnp.array([1, 0.9, 1, 1]), keys


@pytest.mark.parametrize("name", EAGER)
def test_jit_and_vmap_are_an_eager_loop(name):
    x, limit, keys = arguments()
    _, batch = compiled(name)(x, limit, keys)
    for row in range(len(x)):
        alone = CASES[name](keys[row], x[row], limit[row])
        assert alone.shape == SHAPE and alone.dtype == jnp.float32
        # Products are fused in other orders: a last bit may be a step.
        off = np.abs(alone - batch[row]) > 1e-5
        assert off.mean() <= 0.02


@every
def test_slopes_are_finite_and_there(name):
    x, limit, keys = arguments()
    (slope, edge), y = compiled(name)(x, limit, keys)
    assert y.shape == x.shape and y.dtype == jnp.float32
    assert np.isfinite(y).all()
    assert np.isfinite(slope).all() and np.isfinite(edge).all()
    assert (slope[0] != 0).mean() > 0.3
    assert edge[0] != 0


@every
def test_new_numbers_compile_nothing(name, compilations):
    x, limit, keys = arguments()
    before, other = compiled(name)(x, limit, keys)[1], (0.8 * x, 0.9 * limit)
    with compilations() as names:
        after = compiled(name)(*other, keys)[1]
    assert not names
    assert (before[0] != after[0]).any()


@every
def test_values_are_few_and_near(name):
    x, limit, keys = arguments()
    y = np.asarray(compiled(name)(x, limit, keys)[1][0])
    x, largest = np.asarray(x[0]), LIMIT
    if name == "bit_planes":  # Each vector has a range of its own.
        x, largest = LIMIT * x, LIMIT * np.abs(x).max()
    else:
        for column in y.T:
            assert 2 ** (BITS - 1) - 4 <= len(np.unique(column)) <= 2**BITS
    step = 2 * largest / (2**BITS - 2)
    # Half a step of rounding, or a whole one, and errors of the columns.
    near = np.abs(x) < largest - 2 * step
    assert near.mean() > 0.3
    assert np.abs(y - x)[near].max() < 3 * step


@every
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_keep_the_type_of_the_inputs(name, dtype):
    x, limit, keys = arguments()
    y = jax.eval_shape(
        CASES[name], keys[0], x[0].astype(dtype), limit[0].astype(dtype)
    )
    # Codes are at least float32: bfloat16 cannot count them.
    wide = name in ("affine", "bit_planes")
    assert y.dtype == (jnp.float32 if wide else dtype)
    assert y.shape == SHAPE
