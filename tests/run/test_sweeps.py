"""Tests of sweeps: what words mean, and what each level changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.hardware import crossbar, devices, digital, sram
from jaxedge.run import sweeps

SPEC = crossbar.Spec(devices.get("pcm_nandakumar2019"), adc_bits=6)
LEVELS = {
    "read_noise": (0.0, 0.1),
    "fault": (0.0, 0.02),
    "seconds": (25.0, 3600.0),
    "adc_bits": (4, None),
    "array": (8, 16),
    "r_wire": (0.0, 1.0),
}
LAYERS = ("a/kernel", "b/kernel", "a/kernel_2")
PARAMS = {
    "a": {
        "kernel": jnp.ones((3, 2)),
        "kernel_2": jnp.ones((3, 2)),
        "bias": jnp.ones(2),
    },
    "b": {"kernel": jnp.ones((2, 2, 1, 4))},
}


def parse(words, spec=SPEC):
    return sweeps.parse(words, LEVELS, spec, lambda: LAYERS)


def test_names_stand_for_their_sweeps():
    assert parse("") == ()
    assert parse("noise") == (
        sweeps.Sweep("read_noise", "read_noise", (0.0, 0.1)),
    )
    assert [s.name for s in parse("adc faults")] == ["adc_bits", "fault"]
    only, but = parse("layers")
    assert (only.name, but.name) == ("only_layer", "all_but_layer")
    assert only.levels == but.levels == LAYERS


def test_all_is_every_study_that_has_levels():
    names = [sweep.name for sweep in parse("all")]
    assert names == [
        "read_noise", "fault", "seconds", "adc_bits", "array", "r_wire",
        "only_layer", "all_but_layer",
    ]  # fmt: skip


def test_a_study_of_one_sweep_takes_levels_too():
    assert parse("noise=0,0.5")[0][:3] == ("read_noise", "read_noise", (0, 0.5))


def test_levels_may_be_given_in_words():
    (sweep,) = parse("adc_bits=3,5,none")
    assert sweep == sweeps.Sweep("adc_bits", "adc_bits", (3, 5, None))
    (sweep,) = parse("t0=20,1e2")
    assert sweep.levels == (20, 100.0)
    assert parse("time=5,50")[0] == sweeps.Sweep("seconds", "seconds", (5, 50))
    # Of a study and a field of one name the field counts.
    assert parse("wires=solved")[0].field == "wires"
    assert parse("read=vector,batch")[0].levels == ("vector", "batch")
    assert parse("compensate=True,False")[0].levels == (True, False)
    assert parse("only_layer=b/kernel")[0].levels == ("b/kernel",)


def test_time_is_swept_with_and_without_compensation():
    compensated = dataclasses.replace(SPEC, compensate=True)
    assert [s.name for s in parse("time")] == ["seconds"]
    found = parse("time", compensated)
    assert [s.name for s in found] == ["seconds", "seconds_uncompensated"]
    for sweep, on in zip(found, (True, False), strict=True):
        spec = sweeps.apply(sweep, 3600.0, compensated)
        assert spec.compensate is on and spec.seconds == 3600


def applied(word):
    (sweep,) = parse(word)
    return sweeps.apply(sweep, sweep.levels[0], SPEC)


@pytest.mark.parametrize(
    ("word", "of_spec", "of_device"),
    [
        ("seconds=3600", {"seconds": 3600.0}, {}),
        ("read_noise=0.5", {}, {"read_noise": 0.5}),
        ("drift=0", {}, {"drift": 0.0}),
        ("adc_bits=4", {"adc_bits": 4}, {}),
        ("array=64", {"rows": 64, "columns": 64}, {}),
        ("columns=128", {"columns": 128}, {}),
        ("stretched=False", {}, {"stretched": False}),
    ],
)
def test_a_level_changes_its_fields_alone(word, of_spec, of_device):
    device = dataclasses.replace(SPEC.device, **of_device)
    expected = dataclasses.replace(SPEC, device=device, **of_spec)
    found, expected = applied(word), sweeps.to_float32(expected)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert jax.tree.leaves(found) == jax.tree.leaves(expected)


def test_half_of_the_stuck_cells_are_on():
    spec = applied("fault=0.02")
    assert isinstance(spec.device, devices.Faulty)
    np.testing.assert_allclose(
        (spec.device.stuck_on, spec.device.stuck_off), 0.01
    )
    inner = sweeps.to_float32(SPEC).device
    assert jax.tree.leaves(spec.device.device) == jax.tree.leaves(inner)
    # One that has them already is not wrapped again, and its parts are found.
    again = sweeps.with_fields(spec, {"stuck_on": 0.3, "drift": 2.0})
    assert again.device.device.drift == 2.0 and again.device.stuck_on == 0.3


def test_numbers_share_a_program_and_sizes_do_not():
    def structures(word):
        return {
            jax.tree.structure(sweeps.apply(sweep, level, SPEC))
            for sweep in parse(word)
            for level in sweep.levels
        }

    for word in ("noise", "time", "faults", "wires", "t0=10,20,30"):
        assert len(structures(word)) == 1
    for word in ("adc", "array"):
        assert len(structures(word)) == 2


def test_every_field_of_hardware_can_be_swept():
    faulty = dataclasses.replace(SPEC, device=devices.Faulty(SPEC.device))
    for spec in (SPEC, faulty):
        found = set(sweeps.fields(spec))
        assert {"rows", "seconds", "drift", "stuck_on", "fault"} <= found
        assert "device" not in found
        assert {f.name for f in dataclasses.fields(SPEC.device)} <= found
        assert {"rows_on", "r_wire", "slice_bits"} <= found


def test_a_macro_has_its_own_studies():
    levels = {**LEVELS, "sigma": (0.0, 2.0)}
    spec = sram.get("sram_wang2023", sigma_line=0.25)

    def find(words):
        return sweeps.parse(words, levels, spec, lambda: LAYERS)

    assert find("noise=0,3")[0][:3] == ("sigma", "sigma", (0, 3))
    (noise,) = find("noise")
    assert noise.name == "sigma"
    config = sweeps.apply(noise, 2.0, spec).config
    assert (config.sigma_line, config.sigma_cell) == (0.5, pytest.approx(0.06))
    # Its signals are none of the design's noises.
    assert config.lsb_units == spec.config.lsb_units
    names = ["sigma", "array", "only_layer", "all_but_layer"]
    assert [sweep.name for sweep in find("all")] == names
    with pytest.warns(UserWarning, match="'faults' is left out.*no fault"):
        assert find("faults") == ()
    fold, path = find("fold=0,8 path=exact,fast")
    assert sweeps.apply(fold, 8, spec).config.fold == 8
    assert sweeps.apply(path, "fast", spec).path == "fast"
    with pytest.raises(checks.UsageError, match="lsb_units at 2.5: .*whole"):
        find("lsb_units=2,2.5")
    with pytest.raises(checks.UsageError, match="'adc_bits'.*out_bits"):
        find("adc_bits=4")


def test_counts_stay_whole():
    spec = sweeps.to_float32(dataclasses.replace(SPEC, event=3, seconds=2))
    assert spec.event.dtype == jnp.int32 and spec.event == 3
    assert spec.seconds.dtype == jnp.float32
    assert sweeps.to_float32(spec).event.dtype == jnp.int32


def test_a_network_of_one_layer_has_none_to_spare():
    (sweep,) = sweeps.parse("layers", LEVELS, SPEC, lambda: ("a/kernel",))
    assert sweep.name == "only_layer"


def test_layers_are_those_that_deploy_programs():
    assert sorted(sweeps.layers(PARAMS, SPEC)) == sorted(LAYERS)
    shapes = jax.eval_shape(lambda: PARAMS)
    assert sweeps.layers(shapes, SPEC) == sweeps.layers(PARAMS, SPEC)


@pytest.mark.parametrize("layer", LAYERS)
def test_one_layer_is_on_hardware_or_all_others(layer):
    # "a/kernel" must not name "a/kernel_2" too.
    for sweep, alone in zip(parse("layers"), (True, False), strict=True):
        chip = hardware.deploy(
            jax.random.key(0), PARAMS, sweeps.apply(sweep, layer, SPEC)
        )
        for path in LAYERS:
            first, second = path.split("/")
            found = hardware.is_weight(chip[first][second])
            assert found == ((path == layer) == alone), path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("tine", "'tine'. Did you mean 'time'.*adc, all, array"),
        ("noise time adk", "'adk'. Did you mean 'adc'"),
        ("adc_bit=4", "field to sweep 'adc_bit'. Did you mean 'adc_bits'"),
        ("device=sonos", "field to sweep 'device'.*all_but_layer.*write_error"),
        ("adc_bits=4,99", "adc_bits at 99: adc_bits is 99.*2, 24"),
        ("read_noise=0.1,-0.1", r"read_noise at -0.1: read_noise is -0.1"),
        ("fault=1.5", "fault at 1.5: stuck_on .* is 1.5"),
        ("fault=none", "fault at None"),
        ("read=frame", "read at 'frame'.*unknown read 'frame'"),
        ("t0=soon", "t0 at 'soon'"),
        ("array=1", "array at 1: columns is 1"),
        ("only_layer=c/kernel", "layer 'c/kernel'.*a/kernel, "),
        ("r_wire=-1", "r_wire at -1: r_wire is -1"),
        ("wire_trims=1", "field to sweep 'wire_trims'"),
        ("adc_bits=", "'adc_bits=' is no sweep; write field=level,level"),
        ("adc_bits=4,,6", "is no sweep"),
        ("=4", "is no sweep"),
        ("layers=a/kernel", "field to sweep 'layers'"),
        ("noise read_noise=0.5", "'read_noise' 2 times; name it once"),
    ],
)
def test_bad_words_are_named(words, says):
    with pytest.raises(checks.UsageError, match=says) as error:
        parse(words)
    assert "\n" not in str(error.value)


def test_levels_are_stored_as_numbers_where_they_are():
    np.testing.assert_array_equal(
        sweeps.as_array((4, None, 0.5)), [4, np.nan, 0.5]
    )
    assert sweeps.as_array(("a", "b")).tolist() == ["a", "b"]
    assert sweeps.as_array((4, "b", None)).tolist() == ["4", "b", "None"]


def test_formats_are_swept_by_name_and_noise_is_left_out():
    spec = digital.get("nvfp4")
    with pytest.warns(UserWarning, match="'noise' is left out"):
        assert parse("noise", spec) == ()
    (sweep,) = parse("weights=mxfp4,int4", spec)
    assert sweep.levels == ("mxfp4", "int4")
    assert sweeps.apply(sweep, "int4", spec) == digital.Spec("int4", "nvfp4")
    (sweep,) = parse("inputs=none,int8", spec)
    assert sweeps.apply(sweep, None, spec) == digital.get("nvfp4_w4a16")
    assert [one.name for one in parse("all", spec)] == [
        "only_layer", "all_but_layer",
    ]  # fmt: skip
    only = sweeps.apply(parse("layers", spec)[0], LAYERS[0], spec)
    chip = hardware.deploy(jax.random.key(0), PARAMS, only)
    assert isinstance(chip["a"]["kernel"], hardware.Digital)
    assert not hardware.is_weight(chip["a"]["kernel_2"])
    with pytest.raises(checks.UsageError, match="weights at 'fp5'"):
        parse("weights=fp5", spec)
    with pytest.raises(checks.UsageError, match="unknown field to sweep"):
        parse("read_noise=0,0.1", spec)
