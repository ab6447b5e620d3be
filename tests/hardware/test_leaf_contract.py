"""One battery for every hardware leaf, in `dot` and in `conv`."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware.adc import Adc
from jaxedge.hardware.converters import Range
from jaxedge.hardware.crossbar import Spec
from jaxedge.hardware.digital import Spec as Digital
from jaxedge.hardware.sram import Config
from jaxedge.hardware.sram import Spec as Macro
from jaxedge.hardware.write_verify import Verified


class Case(NamedTuple):
    """What to put a weight on, and what to expect of it."""

    spec: Spec | Macro | Digital | None = None
    masked: bool = False
    ranged: bool = False
    noisy: bool = False  # another read key gives another result
    random: bool = False  # another chip key gives another result
    adc: bool = False  # rounding may turn a last bit into one step
    trains: bool = True  # weights have a gradient


def on(device, *, faults=0.0, **sizes):
    overrides = {"stuck_on": faults, "stuck_off": faults} if faults else {}
    return Spec(hw.devices.get(device, **overrides), **sizes)


PAIR, FORMED = "rram_40nm_set_reset", "rram_40nm_random"
PCM = "pcm_nandakumar2019"
BITS = on(PAIR, input_bits=4)
ALL = on(PAIR, input_bits=4, bit_serial=True, adc_bits=6, rows=5, faults=0.1)
SLICED = on(PCM, weight_bits=5, slice_bits=2, columns=24, scaling="column")
OFFSET = on(PCM, pair="offset", input_bits=4, adc_bits=9, rows_on=4)
WIRED = on(PAIR, r_wire=20.0, rows=8, columns=6, pair="separate")
BENT = Spec(hw.devices.get(PAIR, iv_a3=5.0), read_volts=0.3, input_bits=6)
SAR = on(
    PAIR,
    adc_bits=6,
    adc=Adc(gain=0.01, offset=0.3, mismatch=0.02, kind="sar"),
    rows=5,
    packing="kernel",
)
STOCHASTIC = on(
    PAIR, adc_bits=6, adc=Adc(inl=0.5, kind="ramp", rounding="stochastic")
)
RANGES = on(
    PAIR,
    input_bits=4,
    input_range=Range(-1.0, 2.0),
    adc_bits=8,
    adc_limit=1e-4,
    weight_clip=2.0,
)
NOISY = hw.devices.get("ideal", program_noise=0.05, read_noise=0.02)
VERIFIED = Spec(Verified(NOISY, tolerance_S=1e-6, max_events=8))
# Three arrays of five rows, small sums, and an LSB that fits them.
SMALL = Config(rows=5, fold=3, lsb_units=2, sigma_cell=0.2)
SIGNED = Config(fold=0, lsb_units=2, x_signed=True, w_code="twos_complement")
CASES = {
    "array": Case(),
    "masked": Case(masked=True),
    "ideal": Case(on("ideal")),
    "set_reset": Case(on(PAIR), noisy=True, random=True),
    "batch": Case(on(PAIR, read="batch"), noisy=True, random=True),
    "all_converters": Case(ALL, noisy=True, random=True, adc=True),
    "sliced": Case(SLICED, noisy=True, random=True),
    "offset": Case(OFFSET, noisy=True, random=True, adc=True),
    "wired": Case(WIRED, noisy=True, random=True),
    "bent": Case(BENT, noisy=True, random=True),
    "sar": Case(SAR, noisy=True, random=True, adc=True),
    "stochastic": Case(STOCHASTIC, noisy=True, random=True, adc=True),
    "ranges": Case(RANGES, noisy=True, random=True, adc=True),
    "ranged": Case(BITS, ranged=True, noisy=True, random=True),
    "ranged_array": Case(ranged=True),
    "macro": Case(Macro(SMALL), noisy=True, random=True, adc=True),
    "macro_fast": Case(
        Macro(SMALL, path="fast", scaling="column"),
        noisy=True,
        random=True,
        adc=True,
    ),
    "macro_signed": Case(
        Macro(SIGNED, weight_clip=2.0), noisy=True, random=True, adc=True
    ),
    "macro_ranged": Case(
        Macro(SMALL), ranged=True, noisy=True, random=True, adc=True
    ),
    "macro_masked": Case(
        Macro(SMALL), masked=True, noisy=True, random=True, adc=True
    ),
    "nvfp4": Case(Digital("nvfp4", "nvfp4")),
    "int4_tensor": Case(Digital("int4", "int4", "tensor", "tensor")),
    "weights_alone": Case(Digital("fp4_e2m1", None), ranged=True),
    "packed": Case(Digital("mxfp4", "int8", packed=True), trains=False),
    "packed_rows": Case(Digital("int4", "int8", packed=True), trains=False),
    "masked_digital": Case(Digital("mxfp4", "mxfp8_e4m3"), masked=True),
    "formed": Case(on(FORMED), noisy=True, random=True, trains=False),
    "verified": Case(VERIFIED, noisy=True, random=True, adc=True),
    "ensemble": Case(hw.ensemble.ensemble(Spec(NOISY)), noisy=True),
    "masked_set_reset": Case(on(PAIR), masked=True, noisy=True, random=True),
    "masked_formed": Case(on(FORMED), masked=True, noisy=True, random=True),
}
# The patches of `conv` are as many as the vectors of `dot`, so that eager
# operations compile once for both.
SHAPES = {
    "dot": ((3, 3, 4, 12), (12, 4)),
    "conv": ((3, 5, 4, 2), (3, 2, 2, 4)),
    # A channel has a filter of its own, and an array of its own.
    "depthwise": ((3, 5, 4, 4), (3, 2, 1, 4)),
}
OUTPUT = (3, 3, 4, 4)

# A convolution is a product of an image and a kernel, or of the vectors of
# `dot` where converters see them: few leaves stand for all in either.
CONV = ("array", "masked", "set_reset", "all_converters", "ranged_array")
CONV += ("masked_formed", "macro", "nvfp4", "int4_tensor", "packed_rows")
# Groups are a matter of `conv` alone.
DEPTHWISE = ("array", "set_reset", "macro", "all_converters", "packed")
DEPTHWISE += ("packed_rows", "nvfp4")
ROWS = [
    *(("dot", name) for name in CASES),
    *(("conv", name) for name in CONV),
    *(("depthwise", name) for name in DEPTHWISE),
]
# One eager operation compiles as long as many in one program: of each way that
# a leaf computes, one.
EAGER = [
    *(("dot", name) for name in ("array", "all_converters", "sliced")),
    *(("dot", name) for name in ("wired", "verified", "ensemble")),
    *(("dot", name) for name in ("macro", "nvfp4")),
    ("conv", "masked_formed"),
    ("depthwise", "set_reset"),
]

every = pytest.mark.parametrize("op, name", ROWS)
eagerly = pytest.mark.parametrize("op, name", EAGER)


def run(op, spec, chip_key, read_key, x, w):
    """From a weight to the outputs: one chip, one call."""
    if spec is not None:
        w = hw.program(chip_key, w, spec)
    if op == "dot":
        return hw.dot(x, w, key=read_key)
    groups = x.shape[-1] if op == "depthwise" else 1
    return hw.conv(x, w, strides=(2, 1), groups=groups, key=read_key)


def loss(op, spec, chip_key, read_key, x, w):
    y = run(op, spec, chip_key, read_key, x, w)
    return jnp.sum(y + y**2), y


# One program a case, whose rows serve every test below.
evaluate = jax.jit(
    jax.vmap(jax.grad(loss, (4, 5), has_aux=True), (None, None, 0, 0, 0, 0)),
    static_argnums=0,
)
PLAIN, AGAIN, REREAD, OTHER_CHIP, DARK, NO_WEIGHT = range(6)


@functools.cache
def arguments(op, name):
    """Chip keys, read keys, inputs and weights of the six rows."""
    a, b = core.chip_keys(jax.random.key(0), 2)
    x_shape, w_shape = SHAPES[op]
    x = jax.random.normal(core.stream(a, "x"), x_shape)
    w = jax.random.normal(core.stream(a, "w"), w_shape)
    if CASES[name].masked:
        kept = jax.random.bernoulli(core.stream(a, "mask"), 0.5, w_shape)
        w = hw.MaskedRandom(w, kept.astype(w.dtype))
    if CASES[name].ranged:
        w = hw.Ranged(w, Range(jnp.float32(-1.0), jnp.float32(2.0)))
    # Black, and of one grey: no range for a quantiser to divide by.
    dark = jnp.zeros_like(x).at[1].set(0.7)
    return (
        jnp.stack([a, a, a, b, a, a]),
        jnp.stack([a, a, b, a, a, a]),
        jnp.stack([x, x, x, x, dark, x]),
        jax.tree.map(lambda w: jnp.stack([*[w] * 5, jnp.zeros_like(w)]), w),
    )


@functools.cache
def evaluated(op, name):
    """Slopes of the inputs and of the weights, and outputs, by row."""
    rows = evaluate(op, CASES[name].spec, *arguments(op, name))
    return jax.tree.map(np.asarray, rows)


@pytest.mark.slow
@eagerly
def test_jit_and_vmap_are_an_eager_loop(op, name):
    (_, y), case = evaluated(op, name), CASES[name]
    for row in (PLAIN, REREAD, OTHER_CHIP):
        args = jax.tree.map(lambda a: a[row], arguments(op, name))  # noqa: B023
        eager = run(op, case.spec, *args)
        assert np.isfinite(eager).all()
        error = np.abs(eager - y[row]) / np.abs(eager).max()
        # Behind an ADC, rounding may turn a last bit into a step.
        assert np.quantile(error, 0.8 if case.adc else 1) <= 2e-5
        assert error.max() <= 0.1


@every
def test_keys_alone_decide(op, name):
    (_, y), case = evaluated(op, name), CASES[name]
    assert y.shape == (6, *OUTPUT)
    for row in (PLAIN, REREAD, OTHER_CHIP):
        assert np.std(y[row]) > 0.1
    np.testing.assert_array_equal(y[PLAIN], y[AGAIN])
    assert (y[PLAIN] != y[REREAD]).any() == case.noisy
    assert (y[PLAIN] != y[OTHER_CHIP]).any() == case.random


@every
def test_new_numbers_compile_nothing(op, name, compilations):
    (_, before), case = evaluated(op, name), CASES[name]
    other = jax.tree.map(  # Whole numbers count something.
        lambda a: a if isinstance(a, int) else 0.9 * a, case.spec
    )
    with compilations() as names:
        _, after = evaluate(op, other, *arguments(op, name))
    assert not names
    # They count, but for a range of conductances that the scale cancels.
    moved = np.abs(after - before).max() > 1e-3 * np.abs(before).max()
    assert moved == case.random


@pytest.mark.slow
@eagerly
def test_a_second_eager_call_compiles_nothing(op, name, compilations):
    case, args = CASES[name], arguments(op, name)
    first, second = (
        jax.tree.map(lambda a, row=row: a[row], args)
        for row in (PLAIN, OTHER_CHIP)
    )
    run(op, case.spec, *first)
    with compilations() as names:
        run(op, case.spec, *second)
    assert not names


@every
def test_gradients_are_finite(op, name):
    (slopes, y), case = evaluated(op, name), CASES[name]
    assert np.isfinite(y).all()
    for slope in jax.tree.leaves(slopes):
        assert np.isfinite(slope).all()
    slope_x, slope_w = jax.tree.map(lambda a: a[PLAIN], slopes)
    assert (slope_x != 0).mean() > 0.7
    trained = [bool((s != 0).any()) for s in jax.tree.leaves(slope_w)]
    assert any(trained) == case.trains


@every
@pytest.mark.parametrize(
    "x_dtype, w_dtype",
    [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16)],
)
def test_the_result_has_the_inputs_dtype(op, name, x_dtype, w_dtype):
    args = jax.tree.map(lambda a: a[PLAIN], arguments(op, name))
    chip, read, x, w = args
    w = jax.tree.map(lambda a: a.astype(w_dtype), w)
    x = x.astype(x_dtype)
    shapes = functools.partial(run, op, CASES[name].spec)
    y = jax.eval_shape(shapes, chip, read, x, w)
    assert y.shape == OUTPUT and y.dtype == x_dtype
