"""Slices, offsets, gated rows, wires and ranges against float64 models."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware import converters, wires
from jaxedge.hardware.adc import Adc
from jaxedge.hardware.crossbar import Spec

KEY = jax.random.key(0)
INPUTS, OUTPUTS = 22, 6
DEVICE = hw.devices.get("ideal", g_min=1e-6, g_max=25e-6)


@functools.cache
def operands(inputs=INPUTS):
    x = jax.random.normal(core.stream(KEY, "x"), (17, inputs))
    return x, jax.random.normal(core.stream(KEY, "w"), (inputs, OUTPUTS))


@jax.jit
def mounted(key, x, w, spec):
    """Outputs of a chip and its leaf, in one program a design."""
    leaf = hw.program(key, w, spec)
    return hw.dot(x, leaf), leaf


def read(x, w, **sizes):
    found, leaf = mounted(KEY, x, w, Spec(DEVICE, **sizes))
    return np.asarray(found), leaf


def levels(w, bits):
    """Weights rounded to 2^bits - 1 levels, float64."""
    w = np.asarray(w, np.float64)
    step = np.abs(w).max() / (2 ** (bits - 1) - 1)
    return np.round(w / step) * step


@pytest.mark.parametrize("pair", ["interleaved", "separate", "offset"])
@pytest.mark.parametrize("sizes", [{}, {"input_bits": 12}])
def test_every_pair_holds_the_weight(pair, sizes):
    x, w = operands()
    found, leaf = read(x, w, pair=pair, **sizes)
    np.testing.assert_allclose(found, x @ w, atol=4e-3)
    assert leaf.cells.g.shape[0] == (1 if pair == "offset" else 2)


@pytest.mark.parametrize("pair", ["interleaved", "offset"])
@pytest.mark.parametrize(
    "bits, slice_bits, adc_bits",
    [(4, None, None), (8, 2, None), (8, 3, None), (8, 3, 16)],
)
def test_slices_hold_the_levels_of_the_weight(pair, bits, slice_bits, adc_bits):
    x, w = operands()
    found, leaf = read(
        x,
        w,
        pair=pair,
        weight_bits=bits,
        slice_bits=slice_bits,
        adc_bits=adc_bits,
        rows=8,
    )
    expected = np.asarray(x, np.float64) @ levels(w, bits)
    np.testing.assert_allclose(found, expected, atol=1e-2 if adc_bits else 1e-4)
    if slice_bits is not None:
        shared = bits if pair == "offset" else bits - 1
        assert len(leaf.cells.g) == -(-shared // slice_bits)
        # Every cell holds one of its levels.
        unit = 24e-6 / (2**slice_bits - 1)
        digit = (np.asarray(leaf.cells.g, np.float64) - 1e-6) / unit
        np.testing.assert_allclose(digit, np.round(digit), atol=1e-3)


def test_a_column_of_its_own_scale_fills_the_range():
    x, w = operands()
    w = w * 10.0 ** -jnp.arange(OUTPUTS)[None]
    found, leaf = read(x, w, scaling="column")
    np.testing.assert_allclose(found, x @ w, rtol=1e-3, atol=1e-6)
    top = np.asarray(leaf.cells.g).max((0, 1))
    np.testing.assert_allclose(top, 25e-6, rtol=1e-5)


def test_weights_beyond_the_clip_are_clipped():
    x, w = operands()
    found, leaf = read(x, w, weight_clip=1.5)
    limit = 1.5 * np.sqrt(np.mean(np.square(w)))
    np.testing.assert_allclose(
        found, x @ np.clip(w, -limit, limit), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(leaf.scale, limit / 24e-6, rtol=1e-5)


def signed(y, limit, bits):
    n = 2 ** (bits - 1) - 1
    return np.clip(np.round(y / limit * n), -n, n) * limit / n


@pytest.mark.parametrize("rows, rows_on", [(8, None), (22, 8), (12, 5)])
def test_groups_of_rows_are_converted_apart(rows, rows_on):
    x, w = operands()
    found, leaf = read(x, w, rows=rows, rows_on=rows_on, adc_bits=7)
    g = np.asarray(leaf.conductance(), np.float64)
    x64, total = np.asarray(x, np.float64), 0
    size = rows_on or rows
    for tile in range(0, INPUTS, rows):
        stop = min(tile + rows, INPUTS)
        for first in range(tile, stop, size):
            part = slice(first, min(first + size, stop))
            full = g.max(0)[part].sum(0).max()
            limit = full * np.abs(x64).max(-1, keepdims=True)
            total += signed(x64[:, part] @ (g[0] - g[1])[part], limit, 7)
    np.testing.assert_allclose(found, total * float(leaf.scale), atol=1e-4)


def test_a_kernel_keeps_its_channels_in_one_tile():
    spec = Spec(DEVICE, rows=10)
    dense = spec.layout((3, 3, 4, 2))
    whole = dataclasses.replace(spec, packing="kernel").layout((3, 3, 4, 2))
    assert (dense.row_tiles, dense.tile_rows) == (4, 10)
    assert (whole.row_tiles, whole.tile_rows) == (5, 8)
    even = dataclasses.replace(spec, packing="even").layout((3, 3, 4, 2))
    assert (even.row_tiles, even.tile_rows) == (4, 9)
    # More channels than rows do not fit.
    wide = dataclasses.replace(spec, packing="kernel").layout((3, 3, 16, 2))
    assert wide.tile_rows == 10


@pytest.mark.parametrize("pair", ["interleaved", "separate", "offset"])
@pytest.mark.parametrize("slice_bits", [None, 3])
@pytest.mark.parametrize("rows_on", [None, 3])
def test_lines_and_cells_are_inverses(pair, slice_bits, rows_on):
    spec = Spec(
        DEVICE,
        rows=7,
        columns=8,
        rows_on=rows_on,
        pair=pair,
        weight_bits=7 if slice_bits else None,
        slice_bits=slice_bits,
    )
    laid = spec.layout((17, 5))
    shape = (laid.slices, laid.parts, 17, 5)
    cells = 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    lines = np.asarray(jax.jit(laid.lines)(cells))
    np.testing.assert_array_equal(jax.jit(laid.cells_of)(lines), cells)
    assert lines.shape[0] == laid.column_tiles * (
        laid.parts if laid.apart else 1
    )
    assert lines.shape[-1] <= 8 and lines.sum() == cells.sum()
    assert laid.cells == cells.size


@pytest.mark.parametrize(
    "pair, rows_on", [("interleaved", 5), ("separate", None)]
)
def test_solved_wires_are_kirchhoffs(pair, rows_on):
    """The array is written down cell by cell and solved exactly."""
    x, w = operands(10)
    ohm = 40.0
    spec = {"pair": pair, "rows_on": rows_on, "r_wire": ohm, "columns": 8}
    found, leaf = read(x, w, wires="solved", **spec)
    g = np.asarray(leaf.conductance(), np.float64)
    expected = np.zeros((len(x), OUTPUTS))
    across = 4 if pair == "interleaved" else 8  # weights in a row
    for first in range(0, OUTPUTS, across):
        part = slice(first, first + across)
        for start in range(0, 10, rows_on or 10):
            on = slice(start, start + (rows_on or 10))
            # The first row is next to the grounds, others are gated off.
            array = np.zeros_like(g[:, :, part])
            array[:, on] = g[:, on, part]
            array = array[:, ::-1]
            if pair == "interleaved":
                mixed = np.stack([array[0], array[1]], -1).reshape(10, -1)
                t = wires.transfer(mixed, r_word=ohm, r_bit=ohm)
                t = t[:, 0::2] - t[:, 1::2]
            else:
                t = wires.transfer(array[0], r_word=ohm, r_bit=ohm)
                t = t - wires.transfer(array[1], r_word=ohm, r_bit=ohm)
            expected[:, part] += np.asarray(x, np.float64) @ t[::-1]
    expected *= float(leaf.scale)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    # The closed form is near, and wires matter here.
    near, _ = read(x, w, wires="fast", **spec)
    assert np.std(near - expected) < 0.1 * np.std(x @ w - expected)


def test_fewer_rows_on_lose_less():
    x, w = operands()
    lost = [
        np.std(read(x, w, r_wire=100.0, rows_on=n)[0] - x @ w)
        for n in (22, 8, 2)
    ]
    assert lost[0] > lost[1] > lost[2] > 0


def test_noise_is_attenuated_with_its_current():
    """Against a derivative of the exact network by each conductance."""
    _, w = operands(10)
    device = hw.devices.get("ideal", read_noise=0.1)
    spec = Spec(device, r_wire=5.0, wires="fast")
    x = jnp.ones((20_000, 10))
    leaf = hw.program(KEY, w, spec)
    y = np.asarray(jax.jit(hw.dot)(x, leaf, key=KEY))
    g = np.asarray(leaf.conductance(), np.float64)
    mixed = np.stack([g[0], g[1]], -1).reshape(10, -1)[::-1]
    ones, h = np.ones(10), 1e-9
    base = wires.solve(mixed, ones, r_word=5.0, r_bit=5.0)
    power = np.zeros(2 * OUTPUTS)
    for i in range(10):
        for j in range(2 * OUTPUTS):
            moved = mixed.copy()
            moved[i, j] += h
            slope = (wires.solve(moved, ones, r_word=5.0, r_bit=5.0) - base) / h
            power[j] += (slope[j] * 0.1 * mixed[i, j]) ** 2
    expected = np.sqrt(power[0::2] + power[1::2]) * float(leaf.scale)
    # A column's noise that reaches its neighbours is left out: a per cent.
    np.testing.assert_allclose(
        y.std(0), expected, rtol=0.01 + 5 / np.sqrt(2 * len(x))
    )


def test_a_fixed_input_range_clips_and_learns():
    x, w = operands()
    low, high, bits = -1.0, 1.5, 5
    limits = converters.Range(jnp.array(low), jnp.array(high))
    found, _ = read(x, w, input_bits=bits, input_range=limits)
    step = (high - low) / 31
    x64 = np.clip(np.asarray(x, np.float64), low, high)
    coded = np.round((x64 - low) / step) * step + low
    np.testing.assert_allclose(found, coded @ np.asarray(w), atol=1e-4)

    def loss(limits):
        spec = Spec(DEVICE, input_bits=bits, input_range=limits)
        return jnp.sum(hw.dot(x, hw.program(KEY, w, spec)))

    slope = jax.jit(jax.grad(loss))(limits)
    # Learned steps: 1 a clipped input, the rounding error inside.
    row = np.asarray(w, np.float64).sum(1)
    inside = (x >= low) & (x <= high)
    share = (coded - low) / (high - low) - (x64 - low) / (high - low)
    expected = np.where(x > high, 1, np.where(inside, share, 0)) @ row
    np.testing.assert_allclose(slope.hi, expected.sum(), rtol=2e-3)


def test_the_full_scale_may_be_granular_or_given():
    x, w = operands()
    found, leaf = read(x, w, rows=11, adc_bits=8, full_scale="granular")
    np.testing.assert_allclose(leaf.limit(), 24e-6 * 127)
    given = jnp.array([40e-6, 90e-6])
    found, leaf = read(x, w, rows=11, adc_bits=8, adc_limit=given)
    g = np.asarray(leaf.conductance(), np.float64)
    x64 = np.asarray(x, np.float64)
    total = sum(
        signed(
            x64[:, part] @ (g[0] - g[1])[part],
            float(limit) * np.abs(x64).max(-1, keepdims=True),
            8,
        )
        for part, limit in zip(
            (slice(0, 11), slice(11, 22)), given, strict=True
        )
    )
    np.testing.assert_allclose(found, total * float(leaf.scale), atol=1e-4)


def test_currents_are_what_the_converters_get():
    x, w = operands()
    _, leaf = read(x, w, rows=11, adc_bits=8)
    (current,) = jax.jit(hw.Crossbar.currents)(leaf, x)
    g = np.asarray(leaf.conductance(), np.float64)
    relative = np.asarray(x) / np.abs(x).max(-1, keepdims=True)
    for u, part in enumerate((slice(0, 11), slice(11, 22))):
        expected = relative[:, part] @ (g[0] - g[1])[part]
        np.testing.assert_allclose(current[:, u], expected, atol=1e-9)


@pytest.mark.parametrize(
    "fields, sizes",
    [
        ({"iv_v0": 0.2}, {}),
        ({"iv_v0": 0.2}, {"pair": "offset"}),
        ({"iv_a2": 1.0, "iv_a3": 9}, {}),
        ({"iv_a2": 1.0, "iv_a3": 9}, {"adc_bits": 14}),
    ],
)
def test_bent_cells_are_read_at_the_read_voltage(fields, sizes):
    x, w = operands()
    device = hw.devices.with_fields(DEVICE, **fields)
    spec = Spec(device, read_volts=0.3, **sizes)
    found, leaf = mounted(KEY, x, w, spec)
    full = np.abs(x).max(-1, keepdims=True)
    v = np.asarray(x / full * 0.3, np.float64)
    bent = 0.2 * np.sinh(v / 0.2) if "iv_v0" in fields else v + v**2 + 9 * v**3
    g = np.asarray(leaf.conductance(), np.float64)
    current = bent @ (g[0] if len(g) == 1 else g[0] - g[1])
    current -= bent.sum(-1, keepdims=True) * float(leaf.origin)
    expected = current * float(leaf.scale) * full / 0.3
    limit = 2e-2 if "adc_bits" in sizes else 2e-4
    np.testing.assert_allclose(found, expected, atol=limit)
    assert np.abs(expected - x @ w).max() > 0.5  # The bend matters.


def test_a_chip_may_be_written_again():
    x, w = operands()
    device = hw.devices.get("ideal", program_noise=0.05)
    first, again, second = (
        hw.dot(x, hw.program(KEY, w, Spec(device, event=event)))
        for event in (0, jnp.float32(0), 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 0.01
    with pytest.raises(core.UsageError, match="event must be a whole number"):
        hw.program(KEY, w, Spec(device, event=0.5))


def test_the_groups_of_a_tile_share_its_converters():
    _, w = operands()
    spec = Spec(DEVICE, adc_bits=12, adc=Adc(offset=1.0), rows=12, rows_on=4)
    columns = hw.program(KEY, w, spec).columns
    offset = np.asarray(columns.offset)  # [1, 2 tiles of 3 groups, O]
    assert offset.shape == (1, 6, OUTPUTS)
    np.testing.assert_array_equal(offset[0, :3], offset[0, [0, 0, 0]])
    assert (offset[0, 0] != offset[0, 3]).all()


@pytest.mark.parametrize("read_mode", ["vector", "batch"])
def test_noise_of_bent_cells_is_one_of_their_whole_current(read_mode):
    device = hw.devices.get("ideal", read_noise=0.05, iv_a3=60.0)
    w = jnp.linspace(0.2, 1.0, 8)[:, None]
    leaf = hw.program(KEY, w, Spec(device, read=read_mode))
    keys = core.chip_keys(KEY, 4000)
    x = jnp.ones((1, 8))
    y = jax.jit(jax.vmap(lambda key: hw.dot(x, leaf, key=key)))(keys)
    # At .15 V the current is 1 + 60 * .15^2 times that of a straight cell.
    expected = 0.05 * (1 + 60 * 0.15**2) * np.sqrt(np.sum(np.square(w)))
    np.testing.assert_allclose(np.std(y), expected, rtol=5 / np.sqrt(2 * 4000))


def test_the_full_scale_holds_the_current_of_bent_cells():
    _, w = operands()
    device = hw.devices.get("ideal", iv_v0=0.05)
    spec = Spec(device, input_bits=8, adc_bits=14)
    x = jnp.ones((1, INPUTS)).at[0, 0].set(0.0)
    found, _ = mounted(KEY, x, jnp.abs(w), spec)
    exact = dataclasses.replace(spec, adc_bits=None)
    expected, _ = mounted(KEY, x, jnp.abs(w), exact)
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_each_chip_has_its_own_converters():
    x, w = operands()
    spec = Spec(DEVICE, adc_bits=8, adc=Adc(offset=1.0, gain=0.01))
    a, b = core.chip_keys(KEY, 2)
    found = [mounted(k, x, w, spec)[0] for k in (a, a, b)]
    np.testing.assert_array_equal(found[0], found[1])
    shift = np.asarray(found[0] - found[2])
    assert np.std(shift.mean(0)) > 0
    # An offset is one of the column: it stays over vectors.
    assert np.std(shift.mean(0)) > 3 * np.std(shift - shift.mean(0)) / 17**0.5


@pytest.mark.parametrize(
    "sizes, words",
    [
        ({"slice_bits": 2}, "weight_bits is None"),
        ({"input_range": converters.Range(0.0, 1.0)}, "input_bits is None"),
        ({"adc": Adc()}, "adc_bits is None"),
        ({"adc_limit": 1e-6}, "adc_bits is None"),
        ({"rows_on": 1000}, "rows_on is 1000"),
        ({"r_wire": -1.0}, "r_wire is -1.0"),
        ({"weight_clip": 0.0}, "weight_clip is 0.0"),
        ({"pair": "twin"}, "unknown pair 'twin'"),
        ({"wires": "slow"}, "unknown wires 'slow'"),
        ({"weight_bits": 9, "slice_bits": 1, "columns": 8}, "takes 16"),
        (
            {"input_bits": 4, "input_range": converters.Range(1.0, 0.0)},
            "input_range.lo",
        ),
    ],
)
def test_designs_that_cannot_be(sizes, words):
    with pytest.raises(core.UsageError, match=words):
        hw.program(KEY, operands()[1], Spec(DEVICE, **sizes))


def test_random_cells_and_masks_need_pairs():
    _, w = operands()
    formed = hw.devices.get("rram_40nm_random")
    with pytest.raises(core.UsageError, match="holds no given weight"):
        hw.program(KEY, w, Spec(formed, pair="offset"))
    masked = hw.MaskedRandom(w, jnp.ones_like(w))
    with pytest.raises(core.UsageError, match="a pair that was reset"):
        hw.program(KEY, masked, Spec(DEVICE, pair="offset"))
