"""Tests of volumes with radiomics: inputs, the network's losses, its start."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data.source import Batch
from jaxedge.features import radiomics
from jaxedge.models import arrays
from jaxedge.recipes import radiomic_inputs, ridl, ridl_start, supervised

pytestmark = pytest.mark.usefixtures("compile_quickly")

SIZE, N = (12, 12, 12), 12


@pytest.fixture(scope="module")
def config():
    """A function of changes -> config of a small network."""
    from configs import ridl as configs

    def make(changes=types.MappingProxyType({})):
        c = configs.get_config("quick")
        c.data.update({"size": SIZE, "n": N})
        c.model.update({"widths": (2, 3, 4), "dropout": 0.0, "balance": False})
        c.radiomics.scale_maps = False
        c.losses.reconstruct = 1.0
        c.train.batch = 4
        c.update_from_flattened_dict(dict(changes))
        return c

    return make


@pytest.fixture(scope="module")
def splits():
    """Phantoms without their radiomics."""
    return {
        split: data.load("phantom_volumes", split, n=N, size=SIZE, fold=0)
        for split in data.SPLITS
    }


@pytest.fixture(scope="module")
def inputs(config, splits):
    """The same with the radiomics of the config."""
    return ridl.prepare(ridl.parse(config()), splits)[0]


@pytest.fixture(scope="module")
def built(config, inputs):
    """Settings, recipe and its compiled step."""
    given = ridl.parse(config({"losses.begin": 1}))
    recipe = ridl.build(given, inputs["train"].x[:1], 2, steps_per_epoch=2)
    return given, recipe, jax.jit(recipe.init), jax.jit(recipe.update)


def batch(inputs, start=0):
    train = inputs["train"].rows(np.arange(start, start + 4))
    return Batch(train.x, train.y, np.ones(4, np.float32))


def test_folds_are_parts_of_one_cohort(splits):
    whole = data.load("phantom_volumes", "train", n=N, size=SIZE)
    # Fold 0 of five tests phantoms 0, 5 and 10; fold 1 validates 1, 6 and 11.
    np.testing.assert_array_equal(splits["test"].x, whole.x[[0, 5, 10]])
    np.testing.assert_array_equal(splits["valid"].x, whole.x[[1, 6, 11]])
    rest = [2, 3, 4, 7, 8, 9]
    np.testing.assert_array_equal(splits["train"].x, whole.x[rest])
    with pytest.raises(UsageError, match="fold is 5"):
        data.load("phantom_volumes", "test", n=N, size=SIZE, fold=5)
    with pytest.raises(UsageError, match="n is 3"):
        data.load("phantom_volumes", "test", n=3, size=SIZE, fold=0)


def test_channels_hold_the_radiomics(config, splits, inputs):
    given = ridl.parse(config()).radiomics
    for split, source in inputs.items():
        raw = splits[split]
        volume, local, radiomic = radiomic_inputs.apart(source.x, 1)
        assert volume.min() == -1 and volume.max() == 1
        np.testing.assert_array_equal(volume[..., 1], raw.x[..., 1])
        image, region = raw.x[0, ..., 0], raw.x[0, ..., 1] > 0
        expected = np.nan_to_num(radiomics.voxelwise(image, region, radius=1))
        np.testing.assert_allclose(local[0, ..., 0], expected, rtol=1e-5)
        # Constant over a volume.
        assert np.ptp(source.x[..., 3:], axis=(1, 2, 3)).max() == 0
        assert radiomic.shape == (len(raw.y), len(given.names))
    train = inputs["train"].x[:, 0, 0, 0, 3:]
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    # Standardised by the training split alone, + 1e-3.
    one = splits["test"].rows(np.arange(1))
    name = given.names[0]

    def alone(x):
        found = radiomics.extract(x[..., 0], x[..., 1], classes=["shape"])
        return found[name]

    value, known = alone(one.x[0]), [alone(x) for x in splits["train"].x]
    expected = (value - np.mean(known)) / (np.std(known, ddof=1) + 1e-3)
    np.testing.assert_allclose(
        inputs["test"].x[0, 0, 0, 0, 3], expected, rtol=1e-4
    )


def test_maps_are_standardised_by_the_training_split(splits, inputs, config):
    given = ridl.parse(config()).radiomics
    raw = {s: radiomic_inputs.apart(x.x, 1)[1] for s, x in inputs.items()}
    region = {s: x.x[..., 1] > 0 for s, x in splits.items()}
    found = radiomic_inputs.scaled_maps(splits, raw)
    known = raw["train"][region["train"]].astype(np.float64)
    mean, spread = known.mean(), known.std(ddof=1) + 1e-3
    for split, maps in found.items():
        assert np.all(maps[~region[split]] == 0)
        expected = (raw[split][region[split]] - mean) / spread
        np.testing.assert_allclose(
            maps[region[split]], expected, rtol=1e-4, atol=1e-5
        )
    whole = radiomic_inputs.add(given._replace(scale_maps=True), splits)
    for split, source in whole.items():
        np.testing.assert_allclose(
            radiomic_inputs.apart(source.x, 1)[1], found[split], rtol=1e-5
        )


def test_features_are_chosen_by_the_training_split(splits):
    y = splits["train"].y
    # One that is the label, one that is its copy, and one that is constant.
    made = radiomic_inputs.Table(
        names=("label", "copy", "flat", "noise"),
        values_NxF=np.stack(
            [y, 2.0 * y, np.full(len(y), 0.1), np.arange(len(y)) % 3], -1
        ),
    )
    lasso = radiomic_inputs.Radiomics(select="lasso", alpha=0.05, most=1)
    assert radiomic_inputs.choose(lasso, made, y) in ([0], [1])
    mrmr = radiomic_inputs.Radiomics(select="mrmr", most=2)
    assert 2 not in radiomic_inputs.choose(mrmr, made, y)
    none = radiomic_inputs.Radiomics(select="lasso", alpha=1e3)
    with pytest.raises(UsageError, match="radiomics.alpha is 1000"):
        radiomic_inputs.choose(none, made, y)
    assert radiomic_inputs.choose(none._replace(most=0), made, y) == []


def test_a_step_learns_and_keeps_types(built, inputs, compilations):
    _, recipe, init, update = built
    state = init(jax.random.key(0))
    first, sums = update(state, batch(inputs))
    with compilations() as found:
        second, _ = update(first, batch(inputs, 1))
    assert not found
    like = jax.tree.map(lambda a: (a.shape, a.dtype), state)
    assert like == jax.tree.map(lambda a: (a.shape, a.dtype), second)
    names = {"fine", "coarse", ridl.DECORRELATION}
    assert names < set(sums) and all(np.isfinite(sums[n]) for n in names)
    moved = jax.tree.map(
        lambda a, b: bool(jnp.any(a != b)), state.learned, second.learned
    )
    # Every parameter: the decoder by its reconstruction too.
    assert np.mean(jax.tree.leaves(moved)) > 0.9
    told = recipe.evaluate(recipe.finish(second), batch(inputs), None)
    assert np.isfinite(told["loss"])


def test_the_bank_holds_the_last_examples(built, inputs):
    given, recipe, init, update = built
    state = init(jax.random.key(0))
    for start in (0, 2):
        state, _ = update(state, batch(inputs, start))
    bank = state.stats["bank"]
    assert bank.filled_B.sum() == 8
    np.testing.assert_array_equal(bank.ages_B[:8], [0] * 4 + [1] * 4)
    radiomic = inputs["train"].x[:, 0, 0, 0, 3:]
    np.testing.assert_array_equal(bank.radiomic_BxG[:4], radiomic[2:6])
    np.testing.assert_array_equal(bank.radiomic_BxG[4:8], radiomic[:4])
    # An evaluation leaves it as it is, and tells what is compared.
    variables = recipe.finish(state)
    _, more = recipe.forward(
        variables, inputs["test"].x, None, mutable=["intermediates"]
    )
    deep = more["intermediates"][ridl.DEEP][0]
    assert deep.shape == (len(inputs["test"].y), given.model.widths[-1])


def test_the_losses_are_those_of_the_paper(built, inputs):
    given, recipe, init, update = built
    state = init(jax.random.key(0))
    net = ridl.network(given, inputs["train"].x.shape[-1])
    first = batch(inputs)
    _, sums = update(state, first)
    x = ridl.flips(supervised.stream(state.key, "augment", state.step), first).x
    volume, local, radiomic = radiomic_inputs.apart(x, 1)
    told = net.net.apply(
        {"params": state.learned["net"], "batch_stats": state.stats["net"]},
        {"volume": volume, "local": local, "global": radiomic},
        train=True,
        reconstruct=True,
        mutable=["batch_stats", "counts"],
    )[0]
    errors = []
    for level in np.asarray(told.reconstructions, np.float64):
        p = 1 / (1 + np.exp(-level[..., 1]))
        mask = np.asarray(volume[..., 1], np.float64)
        entropy = -(mask * np.log(p) + (1 - mask) * np.log(1 - p))
        missed = np.abs(level[..., 0] - np.asarray(volume[..., 0]))
        errors.append(missed.mean() + entropy.mean())
    np.testing.assert_allclose(sums["fine"] / 4, errors[-1], rtol=1e-4)
    np.testing.assert_allclose(sums["coarse"] / 4, sum(errors[:-1]), rtol=1e-4)
    deep = np.asarray(told.deep_BxF, np.float64)
    scaled = (deep - deep.mean(0)) / (deep.std(0, ddof=1) + 1e-7)
    repeated = np.abs(scaled.T @ np.asarray(radiomic)).mean() / 4
    np.testing.assert_allclose(
        sums[ridl.DECORRELATION] / 4, repeated, rtol=1e-3
    )


def test_weights_follow_the_epochs(built):
    given, *_ = built
    net = ridl.network(given, 7)
    weights = ridl.terms(ridl.Losses(begin=2), net, steps_per_epoch=10)
    at = lambda name, epoch: float(weights[name](jnp.int32(10 * epoch)))  # noqa: E731
    assert at("fine", 0) == 1
    assert at(ridl.DECORRELATION, 1) == 0 and at(ridl.DECORRELATION, 2) == 2
    for epoch, share in ((9, 0.33), (10, 0.33 * 0.8), (20, 0.33 * 0.64)):
        np.testing.assert_allclose(at("coarse", epoch), share, rtol=1e-6)


def test_parts_can_be_left_out(config):
    for changes, terms, maps, numbers in (
        ({"losses.reconstruct": 0.0}, {ridl.DECORRELATION}, 1, 4),
        ({"losses.decorrelate": 0.0}, {"fine", "coarse"}, 1, 4),
        (
            {"radiomics.radii": (), "radiomics.most": 0},
            {"fine", "coarse"},
            0,
            0,
        ),
    ):
        given = ridl.parse(config(changes))
        net = ridl.network(given, 2 + maps + numbers)
        assert set(ridl.terms(given.losses, net, 1)) == terms
        assert net.net.local_maps == maps
        assert net.net.global_features == numbers


def test_it_starts_from_a_network_without_radiomics(
    config, built, inputs, tmp_path
):
    given, _, init, _ = built
    plain = ridl.parse(
        config(
            {
                "radiomics.radii": (),
                "radiomics.most": 0,
                "losses.decorrelate": 0.0,
            }
        )
    )
    example = inputs["train"].x[:1]
    bare = ridl.build(plain, example[..., :2], 2, 1)
    known = bare.finish(jax.jit(bare.init)(jax.random.key(3)))
    arrays.save(tmp_path / arrays.FILE, known)
    net = ridl.network(given, example.shape[-1])
    found = ridl_start.started(net, jnp.asarray(example), str(tmp_path))
    like = init(jax.random.key(0)).learned
    assert jax.tree.map(jnp.shape, found["params"]) == jax.tree.map(
        jnp.shape, like
    )
    before, after = known["params"]["net"], found["params"]["net"]
    # Layers in front of the maps are its own, the classifier is not.
    jax.tree.map(
        np.testing.assert_array_equal, before["level_0"], after["level_0"]
    )
    assert not np.array_equal(before["head"]["kernel"], after["head"]["kernel"])
    kernel = after["down_1"]["kernel"]
    np.testing.assert_array_equal(
        kernel[..., :2, :], before["down_1"]["kernel"]
    )
    assert np.any(kernel[..., 2:, :])
    with pytest.raises(UsageError):
        ridl_start.started(net, jnp.asarray(example), str(tmp_path / "none"))


def test_the_classifier_begins_with_scaled_features(config, inputs, built):
    given, _, init, _ = built
    x = inputs["train"].x
    net = ridl.network(given, x.shape[-1])
    state = init(jax.random.key(0))
    before = {"params": state.learned, "batch_stats": state.stats}
    after = ridl_start.balanced(net, before, x)
    told = jax.jit(
        lambda variables: net.apply(variables, x, mutable=["intermediates"])
    )
    (_, more), (answers, same) = told(before), told(after)
    deep = np.asarray(more["intermediates"][ridl.DEEP][0], np.float64)
    radiomic = np.asarray(more["intermediates"]["global"][0])
    np.testing.assert_array_equal(same["intermediates"][ridl.DEEP][0], deep)
    # The layers as they were drawn, of features that are standardised.
    alive = deep.std(0) > 0
    assert alive.any()
    scaled = np.where(
        alive,
        (deep - deep.mean(0)) / np.where(alive, deep.std(0, ddof=1), 1),
        deep - deep.mean(0),
    )
    drawn = jax.tree.map(np.asarray, state.learned["net"])
    hidden, head = drawn["hidden"], drawn["head"]
    y = np.concatenate([scaled, radiomic], -1) @ hidden["kernel"]
    y = np.maximum(y + hidden["bias"], 0) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(answers[:, 1], y[:, 0], rtol=2e-3, atol=2e-3)
    # A run begins so if its config has it.
    given = ridl.parse(config({"model.balance": True}))
    recipe = ridl.build(given, x[:1], 2, 1, splits=inputs)
    found = jax.jit(recipe.init)(jax.random.key(5)).learned["net"]
    fresh = jax.jit(net.init)(jax.random.key(0), jnp.asarray(x[:1]))
    expected = ridl_start.balanced(net, fresh, x)["params"]["net"]
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_volumes_are_mirrored(inputs):
    first = batch(inputs)
    keys = jax.random.split(jax.random.key(0), 20)
    found = np.stack([ridl.flips(key, first).x[0] for key in keys])
    x = first.x[0]
    ways = [
        np.flip(x, [a for a in range(3) if bits >> a & 1]) for bits in range(8)
    ]
    seen = {
        next(i for i, way in enumerate(ways) if np.array_equal(way, one))
        for one in found
    }
    # 20 draws of 8 equal chances leave fewer than 4 seen once in 10^5.
    assert len(seen) >= 4


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"radiomics.local": "glcm_Idnn"}, "glcm_Idn"),
        ({"radiomics.names": ("original_glcm_Id_",)}, "original_glcm_Id"),
        ({"radiomics.select": "lassoo"}, "lasso"),
        ({"radiomics.radii": (0,)}, "radiomics.radii"),
        ({"losses.rows": 3}, "losses.rows"),
        ({"losses.decay": 0.0}, "losses.decay"),
        ({"model.widths": (4, 4)}, "model.widths"),
        ({"data.name": "digits"}, "data.name"),
    ],
)
def test_bad_configs_are_named(config, changes, told):
    with pytest.raises(UsageError, match=told):
        ridl.parse(config(changes))


def test_volumes_without_a_region_are_refused(config, splits):
    given = ridl.parse(config()).radiomics
    train = splits["train"]
    empty = train._replace(x=train.x * [1.0, 0.0])
    with pytest.raises(UsageError, match="region of volume 0"):
        radiomic_inputs.add(given, {**splits, "train": empty})
    flat = train._replace(x=train.x[:, 0])
    with pytest.raises(UsageError, match=r"\[N, Z, Y, X, 2\]"):
        radiomic_inputs.add(given, {**splits, "train": flat})
    three = train._replace(classes=("a", "b", "c"))
    with pytest.raises(UsageError, match="3 classes"):
        radiomic_inputs.add(given, {**splits, "train": three})
