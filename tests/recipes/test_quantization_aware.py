"""Tests of the recipe of low-bit networks: teachers, parts, starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import make_source, teacher
from jaxedge.learn import coreset
from jaxedge.models import arrays
from jaxedge.recipes import coresets, quantization_aware, teaching

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(24, 4, 4, 1)).astype(np.float32)
Y = np.arange(24) % 3
SPLITS = {
    split: make_source(
        X[rows], Y[rows], classes=tuple("abc"), name="toy", split=split
    )
    for split, rows in (("train", slice(0, 18)), ("valid", slice(18, 24)))
}


def parsed(config, changes=()):
    changes = {"recipe": "quantization_aware", **dict(changes)}
    return quantization_aware.parse(config(changes))


def built(config, changes=(), steps=2):
    given = parsed(config, changes)
    splits, _ = quantization_aware.prepare(given, SPLITS)
    recipe = quantization_aware.build(given, X[:1], 3, steps, splits=splits)
    return recipe, splits


# Who teaches.


def test_stored_crops_become_examples_with_the_teachers_targets():
    """Each of them by hand, from the arrays on the host."""
    count, crops, k = 4, 3, 2
    boxes = np.tile(np.float32([0, 0, 1, 1]), (count, crops, 1))
    boxes[:, 1] = [0.5, 0, 0.5, 1]
    flips = np.zeros((count, crops), bool)
    flips[:, 2] = True
    index = np.tile(np.uint16([[0, 1], [1, 2], [2, 0]]), (count, 1, 1))
    value = np.tile(
        np.float16([[0.5, 0.25], [0.75, 0.125], [0.5, 0.375]]), (count, 1, 1)
    )
    batch = data.Batch(
        X[:count],
        Y[:count].astype(np.int32),
        np.float32([1, 1, 1, 0]),
        {"boxes": boxes, "flips": flips, "index": index, "value": value},
    )
    given = teaching.Distill("stored", crops=crops)
    augment = teaching.by_store((4, 4), 3, given, None)
    found = jax.jit(augment)(jax.random.key(0), batch)
    assert found.x.shape == (12, 4, 4, 1) and found.aux is None
    np.testing.assert_array_equal(found.y, np.repeat(batch.y, crops))
    np.testing.assert_array_equal(found.weight, np.repeat(batch.weight, crops))
    # All stored crops of an image, each once, in any order.
    seen = 0
    for row, (x, target) in enumerate(
        zip(np.asarray(found.x), np.asarray(found.target), strict=True)
    ):
        image = X[row // crops]
        kind = int(target.argmax())
        want = np.zeros(3)
        want[:] = 1 - np.float32(value[0, kind]).sum()
        want[index[0, kind]] = value[0, kind]
        np.testing.assert_allclose(target, want, atol=1e-6)
        if kind == 0:
            np.testing.assert_allclose(x, image, atol=1e-6)
        if kind == 2:
            np.testing.assert_allclose(x, image[:, ::-1], atol=1e-6)
        seen += 10 ** (kind)
    assert seen == 444 and k == index.shape[-1]


def test_a_network_teaches_what_it_sees():
    def network(x):
        return jnp.stack(
            [x.sum((1, 2, 3)), x.max((1, 2, 3)), x.min((1, 2, 3))], -1
        )

    given = teaching.Distill("net", share=0.75, temperature=2.0)
    batch = data.Batch(X[:4], Y[:4].astype(np.int32), np.ones(4, np.float32))
    augment = teaching.by_network(network, given, None)
    found = jax.jit(augment)(jax.random.key(0), batch)
    logits = np.float64(network(X[:4])) / 2
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    want = 0.75 * p + 0.25 * np.eye(3)[Y[:4]]
    np.testing.assert_allclose(found.target, want, rtol=1e-5)


def test_a_store_is_opened_checked_and_learned_from(config, tmp_path):
    weights = RNG.normal(size=(16, 3)).astype(np.float32)
    folder = tmp_path / "teacher"
    teacher.write(
        folder,
        SPLITS["train"],
        lambda x: x.reshape(len(x), -1) @ weights,
        crops=2,
        k=2,
        key=jax.random.key(1),
        scale=(0.5, 1.0),
    )
    changes = {"distill.teacher": str(folder), "distill.crops": 2}
    recipe, splits = built(config, changes)
    batch = next(data.epoch(splits["train"], 6, jax.random.key(0), 0))
    assert batch.aux["boxes"].shape == (6, 2, 4)
    state, sums = jax.jit(recipe.update)(recipe.init(jax.random.key(0)), batch)
    assert sums["count"] == 12 and np.isfinite(sums["objective"])
    assert abs(float(sums["objective"] - sums["loss"])) > 1e-3
    with pytest.raises(UsageError, match="crops is 3, but .* holds 2"):
        built(config, {**changes, "distill.crops": 3})
    other = SPLITS["train"].rows(np.arange(17))
    with pytest.raises(UsageError, match="images: 18 there, 17 here"):
        quantization_aware.prepare(
            parsed(config, changes), {**SPLITS, "train": other}
        )


# Where weights start.


def test_a_run_starts_from_the_network_of_another(config, tmp_path):
    full, _ = built(config, {"quantize.weights": None, "quantize.inputs": None})
    state = full.init(jax.random.key(3))
    variables = full.finish(state)
    arrays.save(tmp_path / arrays.FILE, variables)
    recipe, _ = built(config, {"model.start": str(tmp_path)})
    own = recipe.init(jax.random.key(0)).learned.own
    jax.tree.map(np.testing.assert_array_equal, own, variables["params"])
    with pytest.raises(UsageError, match="mean has shape"):
        built(config, {"model.start": str(tmp_path), "model.widths": (7,)})


# Which examples.


@pytest.mark.parametrize("method", ["random", "adaptive", "forgetting"])
def test_choices_are_those_of_the_method(config, tmp_path, method):
    """By hand, from the logits of both networks."""
    full, _ = built(config, {"quantize.weights": None, "quantize.inputs": None})
    start = full.finish(full.init(jax.random.key(3)))
    arrays.save(tmp_path / arrays.FILE, start)
    recipe, splits = built(
        config,
        {
            "model.start": str(tmp_path),
            "coreset.method": method,
            "coreset.fraction": 0.5,
            "coreset.every": 1,
        },
    )
    train, subset = splits["train"], recipe.subset
    assert subset is not None and subset.rows == 9
    state = recipe.init(jax.random.key(0))
    assert recipe.begin is not None
    state = jax.jit(recipe.begin)(
        state, next(data.epoch(train, 6, jax.random.key(0), 0))
    )
    memory, key = subset.init(train), jax.random.key(5)
    for epoch in (0, 1):
        memory = subset.choose(state, memory, train, epoch, key)
    now = np.asarray(recipe.forward(recipe.finish(state), train.x))
    then = np.asarray(full.forward(start, train.x))
    right = now.argmax(1) == train.y
    evidence = coreset.Evidence(
        train.y,
        logits_q=now,
        logits_fp=then,
        correct_T=np.stack([right, right]),
    )
    want = coreset.choose(method, evidence, 0.5, key=key, progress=1 / 3)
    np.testing.assert_array_equal(memory["rows"], want)
    # Both networks over all examples: one twice, the other once.
    read = {"random": 0, "adaptive": 3 * 18, "forgetting": 2 * 18}
    assert memory["read"] == read[method]


def test_features_are_what_the_last_layer_is_fed(config):
    recipe, splits = built(config)
    given = parsed(config)
    model, _ = quantization_aware.network(
        given.model, jnp.asarray(X[:1]), 3, None
    )
    variables = model.init(jax.random.key(0), X[:1])
    seen = coresets.observer(model.apply)(variables, splits["train"])
    kernel = np.float64(variables["params"]["Dense_1"]["kernel"])
    np.testing.assert_allclose(
        seen.features @ kernel, seen.logits, rtol=1e-4, atol=1e-5
    )
    assert seen.features.shape == (18, 6) and recipe.subset is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"coreset.method": "adaptive", "coreset.fraction": 0.5},
         "model.start is None"),
        ({"coreset.fraction": 0.5}, "coreset.method is 'all'"),
        ({"coreset.method": "el2n", "coreset.fraction": 0.01}, "fraction"),
        ({"coreset.method": "eln"}, "unknown coreset.method 'eln'"),
        ({"coreset.schedule": "papers"}, "Did you mean 'paper'"),
        ({"distill.share": 1.5}, "distill.share is 1.5"),
        ({"distill.teacher": "runs/none"}, "runs/none"),
        ({"augment.pad": "zeros"}, "unknown augment.pad"),
        ({"model.name": "vitt"}, "Did you mean 'vit'"),
        ({"model.name": "resnet20_cifar10_akamaster"}, "has its own"),
        ({"train.input_ranges": True, "train.hardware": "fresh_chips"},
         "choose one of them"),
        ({"data.crop": 3}, "does not look at it"),
    ],
)  # fmt: skip
def test_bad_configs(config, changes, message):
    with pytest.raises(UsageError, match=message):
        built(config, changes)
