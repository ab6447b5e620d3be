"""The sequential GAN as a recipe: settings, order, batches, chips."""

import types
from typing import Any

import jax
import numpy as np
import pytest

from jaxedge import data, hardware
from jaxedge.core.checks import UsageError
from jaxedge.data import paired
from jaxedge.features import complexity
from jaxedge.recipes import sequential_gan, settings
from jaxedge.recipes.adversarial import Batch
from jaxedge.run import job

pytestmark = pytest.mark.usefixtures("compile_quickly")

N = 20


@pytest.fixture(scope="module")
def configs():
    from configs import sequential_gan as configs

    return configs


@pytest.fixture(scope="module")
def config(configs):
    """A function of changes -> config of small networks."""

    def make(changes=types.MappingProxyType({}), variant="quick"):
        c = configs.get_config(variant)
        c.data.update({"n": N, "pairs": 0.3})
        c.train.batch = 4
        c.update_from_flattened_dict(dict(changes))
        return c

    return make


@pytest.fixture(scope="module")
def parsed(config):
    return lambda changes=types.MappingProxyType({}): sequential_gan.parse(
        config(changes)
    )


@pytest.fixture(scope="module")
def splits(parsed):
    """Pairs as they are read."""
    given = parsed().data
    return {
        split: data.load(given.name, split, **given.options)
        for split in data.SPLITS
    }


@pytest.fixture(scope="module")
def train(parsed, splits):
    """The training split with its rows numbered, modalities as given."""
    given = parsed({"gan.order": "given"})
    return sequential_gan.prepare(given, splits)[0]["train"]


@pytest.mark.parametrize(
    "variant",
    ["joint", "sarcoma,quick", "published", "supervised", "quick,reversed"],
)  # fmt: skip
def test_every_variant_is_a_config(configs, variant):
    given = sequential_gan.parse(configs.get_config(variant))
    side = given.data.side
    # Raises for networks that do not make such images.
    sequential_gan.build(given, np.zeros((1, side, side, 2)), 2, 1)


@pytest.mark.parametrize("variant", ["joint", "supervised"])
def test_a_step_keeps_the_shapes_of_its_state(configs, variant):
    given = sequential_gan.parse(configs.get_config(variant))
    side = given.data.side
    recipe = sequential_gan.build(given, np.zeros((1, side, side, 2)), 2, 1)
    state = jax.eval_shape(recipe.init, jax.random.key(0))
    x = np.zeros((2, side, side, 2), np.float32)
    y = np.zeros((2, 0), np.float32)
    rows = Batch(x, y, x[..., :1], y, x[..., 1:], y)
    after, _ = jax.eval_shape(recipe.update, state, rows)
    assert after == state


def test_words_mean_the_same_in_any_order(configs):
    a, b = (configs.get_config(v) for v in ("quick,sarcoma", "sarcoma,quick"))
    assert a == b
    with pytest.raises(UsageError, match="reverse"):
        configs.get_config("reverse")


def test_the_published_variant(configs):
    given = sequential_gan.parse(configs.get_config("published"))
    model = sequential_gan.network(given, (64, 64), 2)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.zeros((1, 64, 64, 1))
    )
    # sequential_gan 3 and 4.
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]
    assert sum(sizes) == 120_881_732
    assert given.optimizer[:3] == (1e-4, 0.0, 0.9)
    assert (given.gan.every, given.gan.repeats, given.gan.penalty) == (3, 2, 10)
    assert given.gan.unpaired == "pairs" and given.gan.compat == "released"
    assert given.train.batch == 32
    assert 0 <= given.train.epochs * given.train.steps - 40_000 < 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.steps": 4}, "such as 6"),
        ({"gan.schedule": "both"}, "gan.schedule.*semi"),
        ({"gan.complexity": "size"}, "gan.complexity"),
        ({"gan.order": "simplest"}, "gan.order"),
        ({"gan.unpaired": "all"}, "gan.unpaired"),
        ({"gan.compat": "releasd"}, "gan.compat|released"),
        ({"gan.compat": "released", "gan.conditional": True}, "conditional"),
        ({"gan.joint": "beside", "gan.schedule": "supervised"}, "gan.joint"),
        ({"gan.pairs": "energy"}, "model.noise is 0"),
        ({"gan.given": "both"}, "gan.given.*made"),
        ({"gan.penalty": -1.0}, "gan.penalty"),
        ({"gan.rollbacks": -1}, "gan.rollbacks"),
        ({"data.name": "digits"}, "data.name.*joint_pairs"),
        ({"model.name": "unet"}, "model.name"),
        ({"model.convs": (4, 0)}, "model.convs"),
        ({"optimizer.critic": 0.0}, "optimizer.critic"),
        ({"optimizer.average": 1.0}, "optimizer.average"),
        ({"train.score": "fid"}, "train.score.*fidelity"),
        ({"train.hardware": "chips"}, "train.hardware"),
    ],
)  # fmt: skip
def test_bad_fields_are_named(config, changes, message):
    with pytest.raises(UsageError, match=message):
        sequential_gan.parse(config(changes))


def test_a_supervised_epoch_has_any_number_of_steps(parsed):
    changes = {"gan.schedule": "supervised", "train.steps": 4}
    assert parsed(changes).train.steps == 4


def test_images_that_networks_do_not_make(parsed):
    with pytest.raises(UsageError, match="multiples of 16"):
        sequential_gan.build(parsed(), np.zeros((1, 24, 24, 2)), 2, 1)


def test_bad_splits(parsed, splits):
    train = splits["train"]

    def prepare(changes: Any = types.MappingProxyType({}), **new):
        source = train._replace(**new)
        sequential_gan.prepare(parsed(changes), {"train": source})

    with pytest.raises(UsageError, match="lacks paired, has_first"):
        prepare(aux={"id": train.aux["id"]})
    with pytest.raises(UsageError, match=r"\[N, H, W, 2\]"):
        prepare(x=train.x[..., :1])
    none = train.aux | {"paired": np.zeros(N, np.uint8)}
    with pytest.raises(UsageError, match="unsupervised"):
        prepare(aux=none)
    changes = {"gan.schedule": "unsupervised"}
    prepare(changes, aux=none)
    with pytest.raises(UsageError, match="unpaired='own'"):
        prepare(changes | {"gan.unpaired": "pairs"}, aux=none)
    alone = train.aux | {"has_second": np.zeros(N, np.uint8)}
    with pytest.raises(UsageError, match="has_second"):
        prepare(aux=alone)


def test_the_simpler_modality_goes_first(parsed, splits):
    train = splits["train"]
    name = parsed().gan.complexity
    given = [train.aux[k] > 0 for k in ("has_first", "has_second")]
    count = min(int(rows.sum()) for rows in given)
    first, second = (
        complexity.measure(train.x[rows][:count, ..., channel], name)
        for channel, rows in enumerate(given)
    )
    assert first != second
    orders = {"simpler_first": second < first, "simpler_last": first < second}
    for word, swaps in (*orders.items(), ("given", False)):
        changed, rows = sequential_gan.prepare(
            parsed({"gan.order": word}), splits
        )
        assert rows == N
        for split, source in changed.items():
            before = splits[split]
            step = -1 if swaps else 1
            np.testing.assert_array_equal(source.x, before.x[..., ::step])
            assert source.aux is not None and before.aux is not None
            names = ("has_first", "has_second")[::step]
            for a, b in zip(("has_first", "has_second"), names, strict=True):
                np.testing.assert_array_equal(source.aux[a], before.aux[b])
            for same in ("paired", "id"):
                np.testing.assert_array_equal(
                    source.aux[same], before.aux[same]
                )
            np.testing.assert_array_equal(source.aux["row"], np.arange(N))
    alike = train._replace(
        x=np.repeat(train.x[..., :1], 2, -1),
        aux=train.aux | {k: np.ones(N) for k in ("has_first", "has_second")},
    )
    with pytest.raises(UsageError, match="gan.order='given'"):
        sequential_gan.order(parsed().gan, alike)


def epochs(given, source, n, classes=0, key=0):
    """The batches of n epochs, one list an epoch."""
    return [
        list(
            sequential_gan.batches(
                given, classes, source, jax.random.key(key), epoch
            )
        )
        for epoch in range(n)
    ]


def found(images, source, channel):
    """The row of each image, by its pixels."""
    flat = source.x[..., channel].reshape(N, -1)
    apart = np.abs(images.reshape(len(images), 1, -1) - flat[None]).sum(-1)
    assert (apart.min(1) == 0).all()
    return apart.argmin(1)


def test_rows_come_in_passes_and_only_with_what_they_have(parsed, train):
    told = [batch for epoch in epochs(parsed(), train, 4) for batch in epoch]
    aux = train.aux
    for name, kind, channel in (
        ("pair", "paired", slice(0, 2)),
        ("first", "has_first", 0),
        ("second", "has_second", 1),
    ):
        images = np.concatenate([getattr(batch, name) for batch in told])
        # Not the -1 of what is not given.
        assert (images.max((1, 2)) > -1).all()
        rows = found(images, train, channel)
        known = np.flatnonzero(aux[kind])
        assert 0 < len(known) < N
        for start in range(0, len(rows) - len(known) + 1, len(known)):
            part = rows[start : start + len(known)]
            np.testing.assert_array_equal(np.sort(part), known)
        # Of the 48 rows, more than one pass, in orders of their own.
        passes = rows[: 2 * len(known)].reshape(2, -1)
        assert (passes[0] != passes[1]).any()


def test_batches_are_a_function_of_key_and_epoch(parsed, train):
    first, again = (epochs(parsed(), train, 2) for _ in range(2))
    for a, b in zip(
        jax.tree.leaves(first), jax.tree.leaves(again), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    other = epochs(parsed(), train, 1, key=1)
    assert (other[0][0].first != first[0][0].first).any()
    assert (first[1][0].first != first[0][0].first).any()


def test_labels_are_those_of_the_rows(parsed, train):
    given = parsed({"gan.conditional": True})
    batch = epochs(given, train, 1, classes=2)[0][0]
    for name, channel in (("pair", slice(0, 2)), ("first", 0), ("second", 1)):
        rows = found(getattr(batch, name), train, channel)
        labels = getattr(batch, f"{name}_y")
        np.testing.assert_array_equal(labels, np.eye(2)[train.y[rows]])
    assert epochs(given, train, 1)[0][0].pair_y.shape == (4, 0)


@pytest.mark.parametrize(
    "changes", [{"gan.unpaired": "pairs"}, {"gan.schedule": "supervised"}]
)
def test_released_batches_are_the_pairs(parsed, train, changes):
    for batch in epochs(parsed(changes), train, 1)[0]:
        np.testing.assert_array_equal(batch.first, batch.pair[..., :1])
        np.testing.assert_array_equal(batch.second, batch.pair[..., 1:])


def test_unsupervised_batches_need_no_pair(parsed, train):
    aux = paired.lone(np.arange(N) % 2 == 0)._asdict()
    x = train.x.copy()
    x[0::2, ..., 0], x[1::2, ..., 1] = 0.25, 0.75
    given = parsed({"gan.schedule": "unsupervised"})
    for batch in epochs(given, train._replace(x=x, aux=aux), 1)[0]:
        assert (batch.first == 0.25).all() and (batch.second == 0.75).all()


NOISY: dict[str, Any] = {
    "gan.conditional": True,
    # Fewer turns are compiled sooner.
    "gan.schedule": "unsupervised",
    "gan.every": 1,
    "gan.repeats": 1,
    "train.hardware": "fresh_chips",
    "hardware.device": "ideal",
    "hardware.overrides": {"program_noise": 0.05, "read_noise": 0.05},
}


@pytest.fixture(scope="module")
def trained(config, splits):
    """Settings, recipe, splits, state and sums of a step on a fresh chip."""
    c = config()
    c.hardware.overrides = NOISY["hardware.overrides"]
    for name, value in NOISY.items():
        if name != "hardware.overrides":
            section, field = name.split(".")
            c[section][field] = value
    given = sequential_gan.parse(c)
    sources, _ = sequential_gan.prepare(given, splits)
    recipe = sequential_gan.build(given, sources["train"].x[:1], 2, 1)
    rows = epochs(given, sources["train"], 1, classes=2)[0][0]
    start = jax.jit(recipe.init)(jax.random.key(0))
    state, sums = jax.jit(recipe.update)(start, rows)
    return given, recipe, sources, start, state, sums


def test_a_step_on_a_fresh_chip(trained):
    _, recipe, _, start, state, sums = trained
    for name, before in start.params.items():
        assert any(
            (a != b).any()
            for a, b in zip(
                jax.tree.leaves(before),
                jax.tree.leaves(state.params[name]),
                strict=True,
            )
        ), name
    floats = jax.tree.leaves((state.params, state.moments, sums))
    assert all(np.isfinite(leaf).all() for leaf in floats)
    summary = recipe.summary(state)
    assert int(summary["rollbacks"]) == 0
    assert int(summary["last_rollback"]) == -1
    kept = recipe.finish(state)["params"]
    assert not any(name.endswith("critic") for name in kept)


def test_a_chip_is_judged(trained):
    given, recipe, sources, _, state, _ = trained
    batch = next(data.in_order(sources["test"], 8))
    plan = settings.make_plan(given.hardware)

    @jax.jit
    def judged(variables, key):
        chip = hardware.deploy(key, variables["params"], plan)
        sums = recipe.evaluate({"params": chip}, batch, key)
        return recipe.measure(sums), recipe.forward(variables, batch.x)

    scores, images = judged(recipe.finish(state), jax.random.key(1))
    other, same = judged(recipe.finish(state), jax.random.key(2))
    assert images.shape == (8, 16, 16, 1)
    np.testing.assert_array_equal(images, same)
    for name in ("mae", "psnr", "ssim", "frechet", "fidelity"):
        assert np.isfinite(scores[name])
    assert 0 < scores["fidelity"] < 1 and recipe.score in scores
    assert scores["mae"] != other["mae"]


def test_chips_set_their_converters_on_images_that_are_given(config):
    resolved = job.resolve(config({"data.pairs": 0.1}), None)
    train = resolved.splits["train"]
    blank = (train.x[..., 0] == paired.LOW).all((1, 2))
    assert blank.any()
    first = resolved.samples[..., 0]
    assert not (first == paired.LOW).all((1, 2)).any()
    assert len(first) == (~blank).sum() < resolved.chips.batch
