"""Every mistake gets one line that names the culprit and what is allowed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware import converters, devices
from jaxedge.hardware.crossbar import Spec

IDEAL = Spec(devices.get("ideal"))
KEY = jax.random.key(0)
X, W = jnp.ones((2, 3)), jnp.ones((3, 4))
IMAGE, KERNEL = jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 3, 4))


def refused(call, *words):
    """Whether the call raises a UsageError that holds the words."""
    with pytest.raises(core.UsageError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def designed(**sizes):
    """Programming in a design, which checks it."""
    return lambda: hw.program(KEY, W, dataclasses.replace(IDEAL, **sizes))


DEVICES = {
    "a preset": (
        ("rram_40nm_randon", {}),
        ["unknown device preset", "Did you mean 'rram_40nm_random'", "ideal"],
    ),
    "a field": (
        ("ideal", {"read_nois": 0.1}),
        ["unknown parameter of ideal", "Did you mean 'read_noise'", "g_max"],
    ),
    "another preset's field": (
        ("rram_40nm_set_reset", {"formed": 0.5}),
        ["unknown parameter of rram_40nm_set_reset 'formed'"],
    ),
    "a family": (
        ("rram_40nm_random", {"family": "log-normal"}),
        ["unknown family", "Did you mean 'lognormal'"],
    ),
    "a family of factors": (
        ("ideal", {"spread_family": "log-normal"}),
        ["unknown spread_family", "Did you mean 'lognormal'"],
    ),
    "an effect that is there already": (
        ("rram_40nm_set_reset", {"d2d": 0.1}),
        ["unknown parameter of rram_40nm_set_reset 'd2d'", "c2c"],
    ),
    "two curves": (
        ("ideal", {"iv_v0": 0.3, "iv_a3": 0.1}),
        ["Polynomial", "iv_v0 or iv_a2 and iv_a3, not both"],
    ),
    "text": (("ideal", {"read_noise": "low"}), ["read_noise", "'low'"]),
    "one of many": (
        ("ideal", {"read_noise": np.array([0.1, -0.2])}),
        ["read_noise is -0.2", "[0, inf]"],
    ),
}
NUMBERS = [
    ("ideal", "read_noise", -0.1, "[0, inf]"),
    ("ideal", "read_noise", np.nan, "[0, inf]"),
    ("ideal", "program_noise", -1e-9, "[0, inf]"),
    ("ideal", "g_min", -1e-6, "[0, inf]"),
    ("ideal", "g_max", 0.0, "(0, inf]"),
    ("rram_40nm_set_reset", "read_noise", -0.02, "[0, inf]"),
    ("rram_40nm_set_reset", "lrs_mean", 0.0, "(0, inf]"),
    ("rram_40nm_set_reset", "lrs_std", -1.0, "[0, inf]"),
    ("rram_40nm_set_reset", "hrs_mean", -1.0, "[0, inf]"),
    ("rram_40nm_set_reset", "hrs_std", np.inf, "[0, inf]"),
    ("rram_40nm_set_reset", "stuck_on", 1.5, "[0, 1]"),
    ("rram_40nm_set_reset", "stuck_off", -0.5, "[0, 1]"),
    ("rram_40nm_random", "formed", 0.0, "(0, 1]"),
    ("rram_40nm_random", "formed", 1.01, "(0, 1]"),
    ("rram_40nm_random", "pristine", -1e-7, "[0, inf]"),
    ("rram_40nm_measured_50x50", "stuck_on", -0.1, "[0, 1]"),
    ("pcm_nandakumar2019", "stuck_on", 1.2, "[0, 1]"),
    ("pcm_nandakumar2019", "write_error", -1.0, "[0, inf]"),
    ("pcm_nandakumar2019", "t0", 0.0, "(0, inf]"),
    ("sonos", "drift", -0.1, "[0, inf]"),
    ("rram_wan2022", "flicker", -0.1, "[0, inf]"),
    ("rram_40nm_set_reset", "c2c", 0.6, "[0, 0.5]"),
    ("rram_40nm_set_reset", "unformed", 1.1, "[0, 1]"),
    ("rram_40nm_set_reset", "pristine", -1e-7, "[0, inf]"),
    ("ideal", "unformed", -0.1, "[0, 1]"),
    ("ideal", "pristine", -1e-7, "[0, inf]"),
    ("ideal", "d2d", -0.1, "[0, inf]"),
    ("ideal", "c2c", np.nan, "[0, inf]"),
    ("ideal", "rtn_amplitude", 1.1, "[0, 1]"),
    ("ideal", "rtn_share", -0.1, "[0, 1]"),
    ("ideal", "rtn_tau_high", 0.0, "(0, inf]"),
    ("ideal", "rtn_tau_low", -1.0, "(0, inf]"),
    ("ideal", "iv_v0", 0.0, "(0, inf]"),
    ("ideal", "iv_a2", np.inf, "[-inf, inf]"),
    ("ideal", "iv_a3", np.nan, "[-inf, inf]"),
    ("ideal", "iv_power", -1.0, "[0, inf]"),
]


@pytest.mark.parametrize("what", DEVICES)
def test_devices_that_are_not(what):
    (name, overrides), words = DEVICES[what]
    refused(lambda: devices.get(name, **overrides), *words)


@pytest.mark.parametrize("preset, field, value, allowed", NUMBERS)
def test_numbers_that_no_device_has(preset, field, value, allowed):
    def get():
        return devices.get(preset, **{field: value})

    refused(get, f"{field} is {value}", allowed)


def test_shares_that_exceed_the_whole():
    refused(
        lambda: devices.get("rram_40nm_random", stuck_on=0.6, stuck_off=0.5),
        "stuck_on + stuck_off + unformed is 1.1",
        "[0, 1]",
    )
    devices.get("rram_40nm_random", stuck_on=0.6, stuck_off=0.4)
    shares = {"stuck_on": 0.1, "stuck_off": 0.2, "unformed": 0.7}
    devices.get("ideal", **{k: jnp.float32(v) for k, v in shares.items()})
    refused(
        lambda: devices.get("ideal", **shares | {"unformed": 0.8}),
        "stuck_on + stuck_off + unformed is 1.1",
    )


def test_fields_with_two_owners():
    faulty = devices.Faulty(devices.get("rram_40nm_random"), stuck_on=0.1)
    refused(faulty.check, "Faulty", "stuck_on, unformed already")
    twice = devices.Telegraph(devices.get("ideal", rtn_amplitude=0.1))
    refused(twice.check, "Telegraph", "rtn_amplitude, rtn_share")


@pytest.mark.parametrize(
    "event, words", [(-1, ["event is -1"]), (0.5, ["whole number, got 0.5"])]
)
@pytest.mark.parametrize("name", ["ideal", "rram_40nm_random", "sonos"])
def test_events_that_are_none(name, event, words):
    device = devices.get(name)
    refused(lambda: device.program(KEY, jnp.zeros(3), event), *words)


def test_fault_maps_that_do_not_fit():
    device = devices.FaultMap(IDEAL.device, np.zeros(3), np.zeros(4))
    words = ("pinned of a FaultMap", "(4,)", "(3,)")
    refused(lambda: device.program(KEY, jnp.zeros(3)), *words)
    refused(device.replace(stuck=np.full(3, 0.5)).check, "0 for cells that")
    refused(device.replace(pinned=np.full(3, -1.0)).check, "pinned is -1.0")


def test_times_that_run_backwards():
    device = devices.Telegraph(IDEAL.device)
    cells = device.program(KEY, jnp.zeros(3))
    times = jnp.array([0.0, 2.0, 1.0])
    words = ("spacing of times", "-1.0")
    refused(lambda: device.states(KEY, cells, times), *words)


def test_a_design_checks_its_device():
    bad = dataclasses.replace(IDEAL.device, read_noise=-1.0)
    refused(designed(device=bad), "read_noise is -1.0")


@pytest.mark.parametrize(
    "sizes, words",
    [
        ({"rows": 0}, ["rows is 0", "[1, inf]"]),
        ({"rows": 2.5}, ["rows", "2.5"]),
        ({"columns": 1}, ["columns is 1", "[2, inf]"]),
        ({"columns": 3.5}, ["columns", "3.5"]),
        ({"seconds": -1.0}, ["seconds is -1.0", "[0, inf]"]),
        ({"adc_range": 0.0}, ["adc_range is 0.0", "(0, 1]"]),
        ({"adc_range": 1.5}, ["adc_range is 1.5", "(0, 1]"]),
        ({"input_bits": 0}, ["input_bits is 0", "[1, 24]"]),
        ({"input_bits": 25}, ["input_bits is 25", "None"]),
        ({"adc_bits": 4.0}, ["adc_bits is 4.0", "whole number"]),
        ({"adc_bits": 1}, ["adc_bits is 1", "[2, 24]"]),
        ({"adc_bits": True}, ["adc_bits is True", "whole number"]),
        ({"device": "ideal"}, ["device is 'ideal'", "devices.get"]),
        ({"read": "frame"}, ["unknown read 'frame'", "batch, vector"]),
        ({"bit_serial": True}, ["bit_serial is True", "input_bits is None"]),
    ],
    ids=str,
)
def test_designs_that_cannot_be(sizes, words):
    refused(designed(**sizes), *words)


@pytest.mark.parametrize("bits", [0, -1, 25, 1.0, "8", True])
def test_bits_of_converters(bits):
    refused(lambda: converters.uniform(X, 0.0, 1.0, bits), f"bits is {bits!r}")
    refused(lambda: converters.signed(X, 1.0, bits), f"bits is {bits!r}")
    refused(lambda: converters.affine(X, bits), f"input_bits is {bits!r}")


@pytest.mark.parametrize(
    "preset, overrides, words",
    [
        ("ideal", {"g_min": 25e-6}, ["g_min is", "less than g_max"]),
        ("rram_40nm_set_reset", {"hrs_mean": 4e-5}, ["less than lrs_mean"]),
        ("rram_40nm_random", {"pristine": 4e-5}, ["less than lrs_mean"]),
        ("rram_40nm_random", {"formed": 1, "lrs_std": 0}, ["lrs_std is 0"]),
    ],
    ids=str,
)
def test_levels_out_of_order(preset, overrides, words):
    refused(lambda: devices.get(preset, **overrides), *words)


@pytest.mark.parametrize(
    "mask, words",
    [
        (np.ones((4, 3)), ["mask of shape (4, 3)", "weights of shape (3, 4)"]),
        (np.ones(4), ["mask of shape (4,)"]),
        (np.full((3, 4), np.nan), ["the mask holds 12 NaN"]),
    ],
    ids=["turned", "row", "nan"],
)
def test_masks_that_do_not_fit(mask, words):
    leaf = hw.MaskedRandom(W, jnp.asarray(mask))
    refused(lambda: hw.program(KEY, leaf, IDEAL), *words)
    if mask.shape != W.shape:
        refused(lambda: hw.dot(X, leaf), *words)


@pytest.mark.parametrize("strides", [0, -1, 1.5, (1, 1, 1), (1, 0), "2"])
def test_strides_that_are_none(strides):
    refused(
        lambda: hw.conv(IMAGE, KERNEL, strides=strides),
        f"strides are {strides!r}",
    )


def test_strides_of_numpy():
    a, b = (hw.conv(IMAGE, KERNEL, strides=s) for s in (2, np.int64(2)))
    np.testing.assert_array_equal(a, b)


def test_windows_that_do_not_fit():
    big = jnp.ones((5, 2, 3, 4))
    words = ("window of (5, 2)", "(4, 4)")
    refused(lambda: hw.conv(IMAGE, big, padding="VALID"), *words)
    refused(lambda: hw.conv(IMAGE, KERNEL, padding="FULL"), "padding 'FULL'")
    refused(lambda: hw.conv(IMAGE, KERNEL, padding=((1, 1),)), "padding is")


def test_groups_and_dilation_that_do_not_fit():
    conv = functools.partial(hw.conv, IMAGE, KERNEL)
    refused(lambda: conv(groups=0), "groups is 0")
    refused(lambda: conv(groups=3), "4 outputs", "3 equal groups")
    refused(lambda: conv(groups=2), "last axis must be 6")
    refused(lambda: conv(dilation=0), "dilation is 0")
    refused(lambda: conv(dilation=(8, 4), padding="VALID"), "window of (9, 5)")


@pytest.mark.parametrize("key", [0, jnp.zeros(2, jnp.uint32)], ids=type)
def test_reads_need_a_key(key):
    for w in (W, hw.program(KEY, W, IDEAL)):
        refused(lambda w=w: hw.dot(X, w, key=key), "jax.random.key")


def test_weights_of_nothing():
    refused(lambda: hw.program(KEY, W[:0], IDEAL), "(0, 4) is empty")


def test_patterns_that_are_none():
    for bad in ("Dense(", 3):
        words = (repr(bad), "no regular expression")
        refused(lambda b=bad: hw.deploy(KEY, {"a": W}, {b: IDEAL}), *words)
    plan = {"a": IDEAL, "a/b": None}
    words = ("'a/b' is never used", "such as 'a'")
    refused(lambda: hw.deploy(KEY, {"a": {"b": W}}, plan), *words)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("masked", [False, True])
def test_weights_that_are_not_finite(bad, masked):
    w = W.at[1, 2].set(bad)
    w = hw.MaskedRandom(w, jnp.ones_like(w)) if masked else w
    words = ("weight to program holds 1", "(1, 2)")
    refused(lambda: hw.program(KEY, w, IDEAL), *words)
    refused(lambda: hw.deploy(KEY, {"a": w}, IDEAL), *words)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (1,) * 6])
def test_weights_of_another_rank(shape):
    refused(
        lambda: hw.program(KEY, jnp.ones(shape), IDEAL),
        "[I, O], [h, w, I, O] or [d, h, w, I, O]",
        f"got shape {shape}",
    )


def test_kernels_of_volumes_lie_on_hardware():
    kernel = jnp.arange(48.0).reshape(2, 2, 2, 3, 2)
    chip = hw.deploy(KEY, {"kernel": kernel}, IDEAL)["kernel"]
    assert hw.is_weight(chip) and chip.shape == kernel.shape
    x = jnp.ones((1, 3, 3, 3, 3))
    np.testing.assert_allclose(hw.conv(x, chip), hw.conv(x, kernel), rtol=1e-5)


def test_an_array_is_programmed_once():
    leaf = hw.program(KEY, W, IDEAL)
    refused(
        lambda: hw.program(KEY, leaf, IDEAL), "Crossbar is programmed already"
    )


@pytest.mark.parametrize("leaf", ["array", "crossbar", "masked"])
def test_shapes_that_do_not_fit(leaf):
    def put(w):
        if leaf == "crossbar":
            return hw.program(KEY, w, IDEAL)
        return hw.MaskedRandom(w, w) if leaf == "masked" else w

    w, kernel = put(W), put(KERNEL)
    wide, deep = jnp.ones((2, 5)), jnp.ones((1, 4, 4, 2))
    refused(lambda: hw.dot(wide, w), "dot", "(2, 5)", "last axis must be 3")
    refused(lambda: hw.dot(jnp.float32(1), w), "dot", "()")
    refused(lambda: hw.dot(X, kernel), "got shape (2, 2, 3, 4)", "use conv")
    refused(lambda: hw.conv(X, w), "conv needs", "(2, 3)", "(3, 4)")
    refused(lambda: hw.conv(X, kernel), "conv needs", "(2, 3)")
    refused(lambda: hw.conv(IMAGE, w), "conv needs", "(3, 4)")
    refused(lambda: hw.conv(deep, kernel), "conv", "last axis must be 3")


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_])
def test_inputs_of_whole_numbers(dtype):
    for call, x, w in ((hw.dot, X, W), (hw.conv, IMAGE, KERNEL)):
        refused(
            lambda call=call, x=x, w=w: call(x.astype(dtype), w),
            "floating-point inputs",
            f"got {jnp.dtype(dtype).name}",
        )


@pytest.mark.parametrize(
    "key, words",
    [
        (0, ["jax.random.key", "int"]),
        (None, ["jax.random.key"]),
        (jnp.zeros(2, jnp.uint32), ["jax.random.key", "uint32"]),
        (jax.random.key(0, impl="rbg"), ["key<rbg>", "threefry"]),
    ],
    ids=["number", "none", "raw", "rbg"],
)
def test_chips_need_a_threefry_key(key, words):
    refused(lambda: hw.program(key, W, IDEAL), *words)
    refused(lambda: hw.deploy(key, {"a": W}, IDEAL), *words)
    refused(lambda: core.chip_keys(key, 3), *words)


def test_traced_numbers_pass_where_concrete_ones_fail():
    @jax.jit
    def noisy(read_noise):
        return devices.get("ideal", read_noise=read_noise).read_noise

    assert noisy(-1.0) == -1
    refused(lambda: devices.get("ideal", read_noise=-1.0), "read_noise is -1.0")
