import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from jaxedge import models
from jaxedge.core.checks import UsageError
from jaxedge.hardware import devices, digital, sram
from jaxedge.hardware.adc import Adc
from jaxedge.recipes import (
    defaults,
    edge_pruning,
    in_memory,
    optimizers,
    settings,
)

BAD = [
    ("model.name", "cnnn", "unknown model.name 'cnnn'. Did you mean 'cnn'"),
    ("model.over", "batch", "unknown model.over 'batch'"),
    ("model.widths", (8, 0), "model.widths is 0"),
    ("model.widths", (2.5,), "model.widths must be a whole number, got 2.5"),
    ("model.widths", (True,), "model.widths must be a whole number"),
    ("model.widths", "wide", "model.widths is 'wide', but must be tuple"),
    ("model.widths", 8, "model.widths is 8, but must be tuple"),
    ("model.bits", 0, "model.bits is 0"),
    ("model.bits", 25, "model.bits is 25"),
    ("model.bits", "4", "model.bits is '4', but must be int or None"),
    ("model.bits", 4.5, "model.bits is 4.5, but must be int or None"),
    ("data.name", 5, "data.name is 5, but must be str"),
    ("learn.rule", "masks", "unknown learn.rule 'masks'. Did you mean 'mask'"),
    ("learn.weights", "sign", "unknown learn.weights 'sign'"),
    ("learn.keep", -0.1, "learn.keep is -0.1, but must lie in"),
    ("learn.keep", 1.5, "learn.keep is 1.5"),
    ("learn.keep", float("nan"), "learn.keep is nan"),
    ("learn.keep", None, "learn.keep is None, but must be float"),
    ("learn.dead_band_start", -1e-3, "learn.dead_band_start is -0.001"),
    ("learn.dead_band_stop", -1e-3, "learn.dead_band_stop is -0.001"),
    ("learn.dead_band_steps", 0, "learn.dead_band_steps is 0"),
    ("optimizer.learning_rate", 0.0, "optimizer.learning_rate is 0.0"),
    ("optimizer.learning_rate", -1.0, "optimizer.learning_rate is -1.0"),
    (
        "optimizer.learning_rate",
        "fast",
        "optimizer.learning_rate is 'fast', but must",
    ),
    ("optimizer.momentum", 1.1, "optimizer.momentum is 1.1"),
    ("optimizer.momentum", -0.1, "optimizer.momentum is -0.1"),
    ("optimizer.weight_decay", -1.0, "optimizer.weight_decay is -1.0"),
    ("optimizer.name", "adm", "unknown optimizer.name 'adm'. Did you mean"),
    ("optimizer.every", "steps", "unknown optimizer.every 'steps'. Did you"),
    ("data.crop", 0, "data.crop is 0"),
    ("train.score", "auc", "unknown train.score 'auc'"),
    ("train.epochs", -1, "train.epochs is -1"),
    ("train.epochs", 2.5, "train.epochs is 2.5, but must be int"),
    ("train.batch", 0, "train.batch is 0"),
    ("train.batch", True, "train.batch is True, but must be int"),
    ("train.evaluate_every", 0, "train.evaluate_every is 0"),
    ("train.checkpoint_every", -1, "train.checkpoint_every is -1"),
    ("train.select_on", "train", "unknown train.select_on 'train'"),
    ("train.hardware", "chips", "unknown train.hardware 'chips'"),
    ("hardware.device", "rram", "unknown device preset 'rram'"),
    ("hardware.overrides", {"red_noise": 0.1}, "Did you mean 'read_noise'"),
    ("hardware.overrides", {"read_noise": -0.1}, "read_noise is -0.1"),
    ("hardware.overrides", None, "hardware.overrides is None, but must be"),
    ("hardware.macro", 5, "hardware.macro is 5, but must be"),
    ("hardware.seconds", -1.0, "seconds is -1.0"),
    ("hardware.rows", 0, "rows is 0"),
    ("hardware.rows", 100.5, "rows is 100.5, but must be int"),
    ("hardware.columns", 1, "columns is 1"),
    ("hardware.input_bits", 0, "input_bits is 0"),
    ("hardware.input_bits", 2.5, "input_bits is 2.5"),
    ("hardware.adc_bits", 25, "adc_bits is 25"),
    ("hardware.adc_range", 0.0, "adc_range is 0.0"),
    ("hardware.adc_range", 1.5, "adc_range is 1.5"),
    ("hardware.read", "frame", "unknown read 'frame'"),
    ("hardware.bit_serial", True, "bit_serial is True, but input_bits is None"),
]


@pytest.mark.parametrize("field, value, message", BAD)
def test_a_bad_value_is_named(config, field, value, message):
    with pytest.raises(UsageError) as error:
        edge_pruning.parse(config({field: value}))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_networks_take_so_many_widths(config):
    with pytest.raises(UsageError, match=r"\(6,\).*takes 3.*64, 16, 128"):
        edge_pruning.parse(config({"model.name": "cnn"}))
    with pytest.raises(UsageError, match=r"\(6,\).*takes 4.*64, 32, 128, 256"):
        edge_pruning.parse(config({"model.name": "crnn"}))
    two = {"model.name": "unet", "model.widths": (8, 8)}
    with pytest.raises(UsageError, match=r"\(8, 8\).*takes 1.*\(32,\)"):
        edge_pruning.parse(config(two))


def test_fields_with_a_default_may_be_missing(config):
    given = edge_pruning.parse(config())
    assert given.optimizer.name == "sgd" and given.data.crop is None
    changes = {"optimizer.name": "adam", "data.crop": 3, "train.score": "dice"}
    given = edge_pruning.parse(config(changes))
    assert (given.optimizer.name, given.data.crop) == ("adam", 3)
    assert given.train.score == "dice"


def test_what_a_recipe_does_not_look_at_stays_as_it_is(config):
    for changes, words in (
        ({"data.crop": 3}, "data.crop is 3.*leave it at None"),
        ({"train.score": "dice"}, "train.score is 'dice'.*at 'accuracy'"),
    ):
        with pytest.raises(UsageError, match=words):
            in_memory.parse(config({"recipe": "in_memory", **changes}))


def test_fields_must_be_complete_and_known(config):
    for section in config():
        for field in config()[section]:
            lacking = config()
            later = ("macro", "digital", "weight_format")  # Of few configs.
            if section == "hardware" and field in later:
                continue
            del lacking[section][field]
            with pytest.raises(
                UsageError, match=f"config.{section} lacks the field '{field}'"
            ):
                edge_pruning.parse(lacking)
        with pytest.raises(UsageError, match=f"field {section}. 'surplus'"):
            edge_pruning.parse(config({f"{section}.surplus": 1}))
    with pytest.raises(UsageError, match="Did you mean 'bits'"):
        edge_pruning.parse(config({"model.bit": 4}))


def test_sections_must_be_sections_and_complete(config):
    for section in config():
        lacking = config()
        del lacking[section]
        with pytest.raises(UsageError, match=f"lacks the section '{section}'"):
            edge_pruning.parse(lacking)
        for value in (None, 5, "text", [1, 2]):
            with pytest.raises(UsageError, match=f"config.{section} is .*must"):
                edge_pruning.parse(config() | {section: value})


def test_config_dicts_and_lists_become_plain(config):
    plain = edge_pruning.parse(config({"model.widths": [6]}))
    assert plain == edge_pruning.parse(ConfigDict(config()))
    assert plain.model.widths == (6,)
    # A missing override keeps the preset's value.
    given = config({"hardware.overrides": {"read_noise": 0.3, "g_max": None}})
    device = settings.make_plan(edge_pruning.parse(given).hardware).device
    assert device.read_noise == 0.3
    assert device.g_max == devices.get("ideal").g_max


def test_the_model_of_a_config():
    mlp = settings.Model("mlp", (8, 7), 3, "tensor")
    assert settings.make_model(mlp, 5) == models.Mlp((8, 7, 5), 3, "tensor")
    unet = settings.Model("unet", (8,), 6, "example")
    assert settings.make_model(unet, 2) == models.Unet(2, 8, 6)
    cnn = settings.Model("cnn", (4, 3, 9), None, "example")
    assert settings.make_model(cnn, 5) == models.Cnn(5, (4, 3), 9, None)


@pytest.mark.parametrize(
    ("macro", "message"),
    [
        ({"fold": 16}, "fold is 16, but must lie in"),
        ({"lsb_units": 3.5}, "lsb_units is 3.5, but must be a whole number"),
        ({"rows": 0}, "rows is 0, but must lie in"),
        ({"adc": "extern"}, "unknown adc 'extern'. Did you mean 'external'"),
        ({"clip_rate": 2.0}, "clip_rate is 2.0"),
        ({"path": "quick"}, "unknown path 'quick'"),
        ({"x_signed": "no"}, "x_signed is 'no', but must be True or False"),
        (
            {"adc": "external", "clip_rate": 0.01},
            "clip_rate is 0.01, but errors are predicted for embedded",
        ),
        ({"sigma_cel": 0.1}, "'sigma_cel'. Did you mean 'sigma_cell'"),
    ],
)
def test_a_bad_field_of_a_macro_is_named(config, macro, message):
    given = config()["hardware"]
    given |= {"device": "sram_wang2023", "macro": given["macro"] | macro}
    with pytest.raises(UsageError) as error:
        settings.unpack(settings.Hardware, given, "hardware")
    assert message in str(error.value)


def test_a_macro_in_place_of_a_device(config):
    fresh = defaults.hardware("sram_wang2023").to_dict()
    macro = {"fold": 3, "rows": 32, "path": "fast", "weight_clip": 3.0}
    fresh["macro"] |= macro
    given = settings.unpack(settings.Hardware, fresh, "hardware")
    plan = settings.make_plan(given)
    assert isinstance(plan, sram.Spec)
    assert (plan.config.fold, plan.config.rows) == (3, 32)
    assert (plan.path, plan.weight_clip) == ("fast", 3.0)
    # What is empty is that of the preset.
    assert plan.config.lsb_units == sram.Config().lsb_units
    assert settings.unused(given) == []
    # With a clip rate layers choose their own.
    chosen = given._replace(macro={**given.macro, "clip_rate": 0.01})
    assert settings.unused(chosen) == ["macro.fold=3"]
    # What is of crossbars alone is told, and what is of macros.
    other = given._replace(adc_bits=6, overrides={"read_noise": 0.1})
    assert settings.unused(other) == ["overrides.read_noise=0.1", "adc_bits=6"]
    other = other._replace(device="rram_wan2022")
    found = settings.unused(other)
    assert sorted(found) == sorted(f"macro.{k}={v}" for k, v in macro.items())


def test_a_number_format_in_place_of_a_device(config):
    fresh = defaults.hardware("int4_w4a8").to_dict()
    fresh["digital"] |= {"weight_scale": "tensor", "inputs": "fp8_e5m2"}
    given = settings.unpack(settings.Hardware, fresh, "hardware")
    wanted = digital.Spec("int4", "fp8_e5m2", "tensor")
    assert settings.make_plan(given) == wanted
    assert settings.unused(given) == []
    other = given._replace(rows=64, macro={"fold": 3}, weight_format="int4")
    found = ["macro.fold=3", "rows=64", "weight_format=int4"]
    assert settings.unused(other) == found
    other = given._replace(device="rram_wan2022")
    told = {field.split("=")[0] for field in settings.unused(other)}
    assert told == {"digital.inputs", "digital.weight_scale"}
    fresh["digital"]["inputs"] = "fp4"
    with pytest.raises(UsageError, match="config.hardware: unknown number"):
        settings.unpack(settings.Hardware, fresh, "hardware")
    # A macro has no use for them.
    other = given._replace(device="sram_wang2023")
    assert "digital.inputs=fp8_e5m2" in settings.unused(other)


def test_every_field_of_a_macro_is_in_the_section():
    section = defaults.hardware("sram_wang2023").macro
    assert set(section) == set(sram.fields())


def test_the_plan_of_a_config(config):
    given = config()["hardware"] | {
        "device": "rram_40nm_set_reset",
        "seconds": 2.0,
        "rows": 64,
        "columns": 32,
        "weight_format": "fp4_e2m1",
        "input_bits": 4,
        "bit_serial": True,
        "adc_bits": 8,
        "adc_range": 0.5,
        "compensate": True,
        "read": "batch",
    }
    plan = settings.make_plan(settings.unpack(settings.Hardware, given, "h"))
    assert type(plan.device) is devices.SwitchedRram
    parts = {"device", "overrides", "adc", "macro", "digital"}
    for name in given.keys() - parts:
        assert getattr(plan, name) == given[name]
    assert plan.adc is None
    given["adc"] = given["adc"] | {"offset": 0.5, "kind": "ramp"}
    plan = settings.make_plan(settings.unpack(settings.Hardware, given, "h"))
    assert plan.adc == Adc(offset=0.5, kind="ramp")
    given["adc"] = given["adc"] | {"ofset": 0.5}
    with pytest.raises(UsageError, match="'ofset'. Did you mean 'offset'"):
        settings.unpack(settings.Hardware, given, "h")


def test_a_linear_decay_and_rates_of_each_leaf():
    section = optimizers.Optimizer(0.2, 0.0, 0.0, decay="linear")
    sgd = optimizers.make(section, 4, 2, lambda tree: {"a": 1.0, "b": 0.5})
    learned = {"a": jnp.ones(1), "b": jnp.ones(1)}
    state, moved = sgd.init(learned), []
    for _ in range(8):
        delta, state = sgd.update(learned, state, learned)
        moved.append((-float(delta["a"][0]), -float(delta["b"][0])))
    rates = 0.2 * (1 - np.arange(8) // 2 / 4)
    want = np.stack([rates, rates / 2], 1)
    np.testing.assert_allclose(moved, want, rtol=1e-6)


def test_a_warm_up_rises_in_equal_steps_and_the_decay_fills_the_rest():
    sgd = optimizers.make(optimizers.Optimizer(0.2, 0.0, 0.0, warmup=2), 5, 3)
    state, rates = sgd.init(jnp.zeros(())), []
    for _ in range(15):
        delta, state = sgd.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(delta))
    cosine = [(1 + np.cos(np.pi * e / 3)) / 2 for e in range(3)]
    want = 0.2 * np.repeat([0.5, 1.0, *cosine], 3)
    np.testing.assert_allclose(rates, want, rtol=1e-5)
    with pytest.raises(UsageError, match="warmup is 5, but train.epochs is 5"):
        optimizers.make(optimizers.Optimizer(0.2, 0.0, 0.0, warmup=5), 5, 3)


@pytest.mark.parametrize("momentum, decay", [(0.9, 5e-4), (0.0, 0.0)])
def test_sgd_is_torchs_with_a_cosine_by_epoch(momentum, decay):
    rate, epochs, per_epoch = 0.1, 3, 2
    sgd = optimizers.make(
        optimizers.Optimizer(rate, momentum, decay), epochs, per_epoch
    )
    rng = np.random.default_rng(0)
    p = want = rng.normal(size=5).astype(np.float32)
    p, buffer = jnp.asarray(p), 0
    state = sgd.init(p)
    for step in range(epochs * per_epoch):
        g = rng.normal(size=5).astype(np.float32)
        delta, state = sgd.update(jnp.asarray(g), state, p)
        p = p + delta
        # torch: buf = m buf + g + wd p; p -= lr buf.
        buffer = momentum * buffer + g + decay * want
        epoch = step // per_epoch
        want = want - rate * (1 + np.cos(np.pi * epoch / epochs)) / 2 * buffer
        np.testing.assert_allclose(p, want, rtol=1e-5, atol=1e-6)


def test_adamw_is_torchs_with_a_cosine_by_step():
    rate, momentum, decay, per_epoch = 0.1, 0.8, 0.05, 2
    adamw = optimizers.make(
        optimizers.Optimizer(rate, momentum, decay, "adamw", 1, "step"),
        3,
        per_epoch,
    )
    rng = np.random.default_rng(0)
    want = {"w": rng.normal(size=(2, 3)), "scale": rng.normal(size=3)}
    p = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), want)
    first, second = ({"w": 0, "scale": 0} for _ in range(2))
    state, update = adamw.init(p), jax.jit(adamw.update)
    # A warm-up of two steps, and a decay over the other four.
    cosine = [(1 + np.cos(np.pi * i / 4)) / 2 for i in range(4)]
    for step, share in enumerate([0.5, 1.0, *cosine]):
        g = {k: rng.normal(size=a.shape) for k, a in want.items()}
        slope = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), g)
        delta, state = update(slope, state, p)
        p = jax.tree.map(jnp.add, p, delta)
        # torch: p -= lr wd p of what decays, then Adam's step.
        want["w"] = want["w"] * (1 - rate * share * decay)
        for k in want:
            first[k] = momentum * first[k] + (1 - momentum) * g[k]
            second[k] = 0.999 * second[k] + 0.001 * g[k] ** 2
            mean = first[k] / (1 - momentum ** (step + 1))
            square = second[k] / (1 - 0.999 ** (step + 1))
            want[k] = want[k] - rate * share * mean / (np.sqrt(square) + 1e-8)
            np.testing.assert_allclose(p[k], want[k], rtol=1e-4, atol=1e-5)


def test_adam_is_torchs_with_a_cosine_by_epoch():
    rate, momentum, decay, epochs, per_epoch = 0.1, 0.8, 0.05, 3, 2
    given = optimizers.Optimizer(rate, momentum, decay, "adam")
    adam = optimizers.make(given, epochs, per_epoch)
    rng = np.random.default_rng(0)
    p = want = rng.normal(size=5)
    p, first, second = jnp.asarray(p, jnp.float32), 0, 0
    state = adam.init(p)
    for step in range(epochs * per_epoch):
        g = rng.normal(size=5)
        delta, state = adam.update(jnp.asarray(g, jnp.float32), state, p)
        p = p + delta
        # torch's Adam: decay in the slope, betas (momentum, .999), eps 1e-8.
        g = g + decay * want
        first = momentum * first + (1 - momentum) * g
        second = 0.999 * second + 0.001 * g**2
        mean = first / (1 - momentum ** (step + 1))
        square = second / (1 - 0.999 ** (step + 1))
        epoch = step // per_epoch
        cosine = (1 + np.cos(np.pi * epoch / epochs)) / 2
        want = want - rate * cosine * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(p, want, rtol=1e-4, atol=1e-5)


def test_a_rate_drops_at_half_of_the_time_or_is_set_from_outside():
    """Torch's MultiStepLR with one milestone, and SGD of a rate of a state."""
    given = optimizers.Optimizer(0.4, 0.0, 0.0, decay="drop")
    rate = optimizers.schedule(given, 6)
    found = [float(rate(epoch)) for epoch in range(6)]
    np.testing.assert_allclose(found, [0.4] * 3 + [0.04] * 3, rtol=1e-6)
    free = optimizers.make(given, 6, 1, free=True)
    p = jnp.ones(3)
    state = optimizers.set_rate(free.init(p), jnp.float32(0.5))
    delta, state = free.update(jnp.full(3, 2.0), state, p)
    np.testing.assert_allclose(delta, -1.0)
    delta, _ = free.update(jnp.full(3, 2.0), state, p)
    np.testing.assert_allclose(delta, -1.0)


@pytest.mark.parametrize(
    ("name", "widths", "want"),
    [
        ("unet2d", (16,), models.Unet2D(2, 16)),
        ("unet2d", (8,), models.Unet2D(2, 8)),
    ],
)
def test_a_segmenter_by_its_name(name, widths, want):
    given = settings.Model(name, widths, None, "example")
    given.check()
    assert settings.make_model(given, 2) == want


def test_small_images_keep_their_places_in_an_efficientnet():
    given = settings.Model("efficientnet_b0", (100, 100), None, "example")
    given.check()
    for side, stride in ((64, 1), (224, 2)):
        made = settings.make_model(given, 8, (side, side, 3))
        assert made.stem_stride == stride and made.classes == 8
