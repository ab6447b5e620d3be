"""Digital chips against formats computed by hand and by ml_dtypes."""

import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.core.checks import UsageError
from jaxedge.hardware import digital, energy, formats
from jaxedge.hardware.converters import Range

pytestmark = pytest.mark.usefixtures("compile_quickly")

KEY = jax.random.key(0)
INPUTS, OUTPUTS, VECTORS = 70, 6, 5


def normal(name, *shape):
    return 3 * jax.random.normal(core.stream(KEY, name), shape)


X, W = normal("x", VECTORS, INPUTS), normal("w", INPUTS, OUTPUTS)
_EIGHT = {
    "fp8_e4m3": (ml_dtypes.float8_e4m3fn, 448),
    "fp8_e5m2": (ml_dtypes.float8_e5m2, 57344),
    "fp4_e2m1": (ml_dtypes.float4_e2m1fn, 6),
}


def by_hand(a, name, over="vector"):
    """Rows in a format, float64, without any code of ours."""
    a = np.asarray(a, np.float64)
    if name.startswith(("mx", "nv")):
        return _in_blocks(a, name)
    most = np.abs(a).max(-1 if over == "vector" else None, keepdims=True)
    if name in _EIGHT:
        dtype, top = _EIGHT[name]
        scale = most / top
        return (a / scale).astype(dtype).astype(np.float64) * scale
    top = 2 ** (int(name.removeprefix("int")) - 1) - 1
    scale = most / top
    return np.round(a / scale) * scale


def _in_blocks(a, name):
    n = 16 if name == "nvfp4" else 32
    fill = -a.shape[-1] % n
    parts = np.pad(a, [(0, 0), (0, fill)]).reshape(len(a), -1, n)
    most = np.abs(parts).max(-1, keepdims=True)
    if name == "nvfp4":
        # Inputs: a scale of the whole for each vector.
        whole = np.abs(a).max(-1)[:, None, None] / (448 * 6)
        scale = (most / 6 / whole).astype(ml_dtypes.float8_e4m3fn)
        scale = scale.astype(np.float64) * whole
        dtype, top = ml_dtypes.float4_e2m1fn, 6
    else:
        dtype, top, octaves = {
            "mxfp4": (ml_dtypes.float4_e2m1fn, 6, 2),
            "mxfp6_e2m3": (ml_dtypes.float6_e2m3fn, 7.5, 2),
            "mxfp8_e4m3": (ml_dtypes.float8_e4m3fn, 448, 8),
        }[name]
        scale = 2.0 ** (np.floor(np.log2(most)) - octaves)
    value = np.clip(parts / scale, -top, top).astype(dtype)
    value = value.astype(np.float64) * scale
    return value.reshape(len(a), -1)[:, : a.shape[-1]]


NAMES = (
    "nvfp4", "mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "fp8_e4m3", "fp8_e5m2",
    "fp4_e2m1", "int4", "int8",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_those_of_the_format(name):
    found = formats.round_inputs(X, name, "vector")
    np.testing.assert_allclose(found, by_hand(X, name), rtol=2e-6, atol=1e-7)
    # A number of so many bits has no more values, whatever its block.
    codes = np.unique(by_hand(X[:1, :16], name))
    assert len(codes) <= 2 ** formats.bits(name)


@pytest.mark.parametrize("name", ["fp4_e2m1", "int8"])
def test_a_scale_for_the_tensor(name):
    found = formats.round_inputs(X, name, "tensor")
    expected = by_hand(X, name, "tensor")
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)
    found = formats.round_weights(W, name, "tensor")
    np.testing.assert_allclose(
        found, by_hand(W.T, name, "tensor").T, rtol=2e-6, atol=1e-7
    )


@pytest.mark.parametrize("design", ["mxfp4", "int4_w4a8", "fp4_e2m1_w4a16"])
def test_a_product_is_that_of_both_operands(design):
    spec = digital.get(design)
    leaf = hw.program(KEY, W, spec)
    w = by_hand(W.T, spec.weights).T
    x = np.asarray(X, np.float64)
    x = x if spec.inputs is None else by_hand(x, spec.inputs)
    np.testing.assert_allclose(hw.dot(X, leaf), x @ w, rtol=1e-4, atol=1e-4)


def test_a_kernel_meets_patches():
    image, kernel = normal("image", 2, 5, 4, 3), normal("k", 3, 2, 3, 4)
    leaf = hw.program(KEY, kernel, digital.get("int8"))
    found = hw.conv(image, leaf, strides=(2, 1))
    vectors = hw.patches(image, (3, 2), (2, 1), "SAME")
    rows = by_hand(vectors.reshape(-1, 18), "int8")
    matrix = by_hand(kernel.reshape(18, 4).T, "int8").T
    np.testing.assert_allclose(
        found.reshape(-1, 4), rows @ matrix, rtol=1e-4, atol=1e-4
    )
    # One scale for the image leaves the convolution what it is.
    spec = digital.Spec("int8", "int8", "channel", "tensor")
    leaf = hw.program(KEY, kernel, spec)
    assert not leaf.by_vector
    flat = by_hand(image.reshape(1, -1), "int8").reshape(image.shape)
    plain = hw.conv(
        jnp.asarray(flat, jnp.float32),
        jnp.asarray(matrix.reshape(kernel.shape), jnp.float32),
    )
    np.testing.assert_allclose(
        hw.conv(image, leaf), plain, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "mxfp8_e4m3", "int4"])
def test_bytes_hold_the_same_values(name):
    plain = hw.program(KEY, W, digital.Spec(name))
    packed = hw.program(KEY, W, digital.Spec(name, packed=True))
    np.testing.assert_array_equal(packed.matrix, plain.matrix)
    # Blocks are filled up, and bytes of odd rows.
    assert abs(8 * packed.held.nbytes - plain.stored_bits) <= 8 * OUTPUTS


def test_bytes_are_multiplied_on_any_path():
    spec = digital.get("mxfp4", packed=True)
    plain = hw.dot(X, hw.program(KEY, W, spec))
    fused = digital.with_fields(spec, path="fused")
    found = hw.dot(X, hw.program(KEY, W, fused))
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-4)
    native = digital.with_fields(spec, path="native")
    with pytest.raises(UsageError, match="Blackwell"):
        hw.dot(X, hw.program(KEY, W, native))
    with pytest.raises(UsageError, match="packed"):
        digital.get("mxfp4", path="fused")


def test_packed_mxfp4_takes_four_and_a_quarter_bits():
    leaf = hw.program(
        KEY, normal("wide", 256, 8), digital.Spec("mxfp4", packed=True)
    )
    arrays = [leaf.held.codes, leaf.held.scales]
    assert sum(a.nbytes for a in arrays) * 8 == 4.25 * leaf.size
    assert leaf.stored_bits == 4.25 * leaf.size


@pytest.mark.parametrize("name", ["nvfp4", "int8"])
def test_a_vector_does_not_depend_on_its_neighbours(name):
    leaf = hw.program(KEY, W, digital.get(name))
    alone = hw.dot(X[:1], leaf)
    beside = hw.dot(jnp.concatenate([X[:1], 100 * X]), leaf)
    np.testing.assert_allclose(alone[0], beside[0], rtol=1e-5, atol=1e-5)
    shared = hw.program(KEY, W, digital.get(name, input_scale="tensor"))
    beside = hw.dot(jnp.concatenate([X[:1], 1e6 * X]), shared)
    assert not np.allclose(hw.dot(X[:1], shared)[0], beside[0], rtol=1e-2)


def test_pruned_weights_are_zeros_and_ranges_are_not_looked_at():
    kept = np.arange(INPUTS)[:, None] % 3 > 0
    mask = jnp.asarray(np.broadcast_to(kept, W.shape), W.dtype)
    masked = hw.program(KEY, hw.MaskedRandom(W, mask), digital.get("int4"))
    plain = hw.program(KEY, W * mask, digital.get("int4"))
    np.testing.assert_array_equal(masked.matrix, plain.matrix)
    assert not np.asarray(masked.matrix)[::3].any()
    ranged = hw.Ranged(W, Range(jnp.float32(-0.1), jnp.float32(0.1)))
    np.testing.assert_array_equal(
        hw.program(KEY, ranged, digital.get("int4")).matrix,
        hw.program(KEY, W, digital.get("int4")).matrix,
    )


def test_gradients_pass_straight_through():
    """The slope of a product is the other operand, as it was rounded."""

    def total(w, x):
        return hw.dot(x, hw.program(KEY, w, digital.get("int4"))).sum()

    slope_w, slope_x = jax.grad(total, (0, 1))(W, X)
    x, w = by_hand(X, "int4"), by_hand(W.T, "int4").T
    expected = np.broadcast_to(x.sum(0)[:, None], W.shape)
    np.testing.assert_allclose(slope_w, expected, rtol=1e-4, atol=1e-4)
    expected = np.broadcast_to(w.sum(1), X.shape)
    np.testing.assert_allclose(slope_x, expected, rtol=1e-4, atol=1e-4)


def test_what_is_no_number_stays_so():
    leaf = hw.program(KEY, W, digital.get("nvfp4"))
    bad = X.at[1, 3].set(jnp.nan).at[2, 0].set(jnp.inf)
    found = np.isfinite(hw.dot(bad, leaf)).all(-1)
    assert found.tolist() == [True, False, False, True, True]
    with pytest.raises(UsageError, match="NaN or infinite"):
        hw.program(KEY, W.at[0, 0].set(jnp.nan), digital.get("nvfp4"))


def test_the_names_of_designs():
    assert digital.PRESETS["nvfp4"] == digital.Spec("nvfp4", "nvfp4")
    assert digital.PRESETS["int4_w4a8"] == digital.Spec("int4", "int8")
    assert digital.get("mxfp4_w4a8").inputs == "mxfp8_e4m3"
    assert digital.get("nvfp4_w4a8").inputs == "fp8_e4m3"
    assert digital.get("int8_w8a16").inputs is None
    assert digital.get("int4", weight_scale="tensor").over == "tensor"
    for spec in digital.PRESETS.values():
        spec.check()
    assert set(digital.PRESETS).isdisjoint(
        {*hw.devices.PRESETS, *hw.sram.PRESETS}
    )


def test_bad_designs_are_named():
    with pytest.raises(UsageError, match="Did you mean 'nvfp4'"):
        digital.get("nvpf4")
    with pytest.raises(UsageError, match="unknown number format 'fp4'"):
        digital.get("nvfp4", inputs="fp4")
    with pytest.raises(UsageError, match="unknown field of a digital design"):
        digital.get("nvfp4", rows=3)
    with pytest.raises(UsageError, match="weight_scale 'row'"):
        digital.get("int4", weight_scale="row")
    with pytest.raises(UsageError, match="weights is None"):
        digital.Spec(None, "int8", packed=True).check()


def test_energy_is_that_of_the_products():
    costs = energy.Costs(memory_joules=2.0)
    leaf = hw.program(KEY, W, digital.get("int4"))
    row = energy.layer("a", leaf, 10, costs)
    operations = 2 * 10 * INPUTS * OUTPUTS
    assert row.joules_digital == operations * costs.op_joules
    assert row.joules_memory == 10 * (INPUTS * 0.5 + OUTPUTS * 4) * 2.0
    assert float(row.joules_array + row.joules_adc + row.joules_dac) == 0
    assert (row.conversions, row.adcs, row.cells, row.tiles) == (0, 0, 0, 0)
    assert row.utilisation is None
    said = energy.compare([row], energy.Costs())
    assert math.isclose(said.seconds_hardware, said.seconds_gpu)
    with pytest.raises(UsageError, match="drop is 0.5"):
        energy.layer("a", leaf, 10, costs, 0.5)


# Cells that hold numbers of a format.


@pytest.mark.parametrize("name", ["fp4_e2m1", "mxfp4"])
def test_cells_hold_the_numbers_of_a_format(name):
    device = hw.devices.get("ideal", g_min=1e-6, g_max=25e-6)
    spec = hw.crossbar.Spec(device, weight_format=name)
    leaf = hw.program(KEY, W, spec)
    expected = np.asarray(X, np.float64) @ by_hand(W.T, name).T
    np.testing.assert_allclose(hw.dot(X, leaf), expected, rtol=1e-3, atol=1e-3)
    slope = jax.grad(lambda w: hw.dot(X, hw.program(KEY, w, spec)).sum())(W)
    expected = np.broadcast_to(np.asarray(X).sum(0)[:, None], W.shape)
    # Of a block of MXFP4 what lies beyond its codes has no slope.
    share = np.isclose(slope, expected, rtol=1e-3, atol=1e-3).mean()
    assert share > (0.9 if name == "mxfp4" else 0.999)


def test_cells_with_a_format_that_cannot_be():
    ideal = hw.devices.get("ideal")
    for fields, words in (
        ({"weight_format": "fp4"}, "unknown number format"),
        ({"weight_format": "int4", "weight_bits": 4}, "one of the two"),
    ):
        with pytest.raises(UsageError, match=words):
            hw.crossbar.Spec(ideal, **fields).check()
    formed = hw.devices.get("rram_40nm_random")
    with pytest.raises(UsageError, match="no weight_format"):
        hw.crossbar.Spec(formed, weight_format="int4").check()
