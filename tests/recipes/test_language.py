"""A language model as a recipe: what it learns, and where it runs."""

from pathlib import Path
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data, hardware
from jaxedge.core.checks import UsageError
from jaxedge.recipes import language
from jaxedge.recipes.recipe import mean
from jaxedge.run import loop, metrics
from jaxedge.run.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("compile_quickly")

ROOT = Path(__file__).resolve().parents[2]
TEXT = {"recipe": "language", "train.epochs": 6}


@pytest.fixture(scope="module")
def made(recipe):
    return recipe(TEXT, steps_per_epoch=4)


def cycles(split, n=32):
    """Windows of 0, 1, 2, 0, ..., whose next token is always known."""
    tokens = (np.arange(n)[:, None] + np.arange(6)) % 3
    x, y = (tokens[:, i : i + 5].astype(np.int32) for i in (0, 1))
    return data.Source(x, y, ("a", "b", "c"), "cycles", split)


SPLITS = {split: cycles(split) for split in ("train", "select")}


class StopAt:
    """Asks to stop when it is looked at for the n-th time."""

    def __init__(self, looks):
        self.looks = looks

    @property
    def asked(self):
        self.looks -= 1
        return self.looks < 0


def train(recipe, folder, stop=None):
    checkpoints = Checkpoints(folder / "checkpoints", recipe.score)
    try:
        return loop.train(
            recipe,
            SPLITS,
            loop.Plan(6, 8),
            jax.random.key(3),
            checkpoints,
            lambda step: metrics.Jsonl(folder / "metrics.jsonl", step),
            stop,  # type: ignore
        )
    finally:
        checkpoints.close()


def test_it_learns_and_resumes_as_if_nothing_had_happened(made, tmp_path):
    whole = train(made, tmp_path / "whole")
    with pytest.raises(loop.Preempted):
        train(made, tmp_path / "cut", StopAt(9))
    again = train(made, tmp_path / "cut")
    for a, b in zip(
        jax.tree.leaves(whole.learned),
        jax.tree.leaves(again.learned),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    rows = metrics.read(tmp_path / "cut" / "metrics.jsonl")
    assert rows == metrics.read(tmp_path / "whole" / "metrics.jsonl")
    valid = [row for row in rows if row["phase"] == "valid"]
    # Three tokens: chance is a third, a perplexity of 3.
    assert valid[-1]["accuracy"] == 1 and valid[-1]["perplexity"] < 1.5
    for row in valid:
        assert row["perplexity"] == pytest.approx(np.exp(row["loss"]))


def test_metrics_are_those_of_the_tokens(made, windows):
    batch = windows(0)
    batch = batch._replace(weight=batch.weight.at[3:].set(0))

    @jax.jit
    def look(key):
        variables = made.finish(made.init(key))
        sums = made.evaluate(variables, batch)
        return made.forward(variables, batch.x), sums

    logits, sums = look(jax.random.key(0))
    logits = np.asarray(logits, np.float64)
    told = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    each = np.take_along_axis(told, np.asarray(batch.y)[..., None], -1)[:3]
    right = logits.argmax(-1)[:3] == np.asarray(batch.y)[:3]
    assert sums["count"] == 3 * 5
    found = mean(sums, made.measure)
    assert found == {
        "loss": pytest.approx(-each.mean(), rel=1e-5),
        "accuracy": pytest.approx(right.mean()),
        "perplexity": pytest.approx(np.exp(-each.mean()), rel=1e-5),
    }


def test_every_product_is_on_hardware_and_no_table(recipe):
    made = recipe(
        {
            **TEXT,
            "train.hardware": "fresh_chips",
            "train.input_ranges": True,
            "hardware.device": "sram_wang2023",
            "hardware.macro": {"lsb_units": 5, "clip_rate": 0.001},
        }
    )
    state = jax.eval_shape(made.init, jax.random.key(0))
    # Seven matrices of the layer, and the head.
    params = jax.eval_shape(made.finish, state)["params"]
    leaves = jax.tree.leaves(params, is_leaf=hardware.is_weight)
    assert sum(isinstance(a, hardware.Ranged) for a in leaves) == 8
    assert params["embedding"].shape == (3, 8)


@pytest.mark.parametrize("variant", ["shakespeare", "wikitext", "quick"])
def test_every_variant_of_the_config_can_be_built(variant):
    module = runpy.run_path(str(ROOT / "configs" / "language.py"))
    assert variant in module["VARIANTS"]
    given = language.parse(module["get_config"](variant))
    tokens = np.zeros((1, given.data.length), np.int32)
    made = language.build(given, tokens, given.data.vocabulary, 10)
    learned = jax.eval_shape(made.init, jax.random.key(0)).learned
    count = sum(a.size for a in jax.tree.leaves(learned))
    assert count == (18_736 if variant == "quick" else 1_066_112)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model.heads": 3}, "model.width is 8, model.heads 3 and"),
        ({"model.kv_heads": 3}, "model.kv_heads 3, but the width"),
        ({"model.depth": 0}, "model.depth is 0"),
        ({"data.name": "digits"}, "unknown data.name 'digits'. Known: tiny"),
        ({"data.vocabulary": 255}, "data.vocabulary is 255"),
        ({"data.length": 0}, "data.length is 0"),
        ({"data.crop": 3}, "field data. 'crop'. Known: length, name, voc"),
        ({"train.score": "dice"}, "train.score is 'dice'.*at 'accuracy'"),
    ],
)
def test_bad_fields_are_named(config, changes, match):
    with pytest.raises(UsageError, match=match):
        language.parse(config({**TEXT, **changes}))


def test_a_config_says_what_is_loaded(config):
    given = language.parse(config(TEXT))
    assert given.data.options == {"vocabulary": 256, "length": 5}
    assert given.train.score == "accuracy" and given.optimizer.every == "step"
    tokens = jnp.zeros((1, 5), jnp.int32)
    made = language.build(given, tokens, 256, 2)
    shapes = jax.eval_shape(made.init, jax.random.key(0)).learned
    assert shapes["head"]["kernel"].shape == (8, 256)
