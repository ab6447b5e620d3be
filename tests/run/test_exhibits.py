"""Tests of what is kept of a network's answers, counted again in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from sklearn import metrics

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.recipes import supervised
from jaxedge.recipes.recipe import Recipe, ratios
from jaxedge.run import exhibits, study

KEY = jax.random.key(7)
CLASSES = ("a", "b", "c", "d")
NOISE = 0.7


def forward(variables, x, key=None):
    """The inputs are the scores; a chip has a gain a class, and noise."""
    shown = x[..., -len(variables["gain"]) :]
    out = shown * jnp.broadcast_to(variables["gain"], shown.shape)
    if key is None:
        return out
    return out + NOISE * jax.random.normal(key, out.shape)


def evaluate(variables, batch, key=None):
    return supervised.cross_entropy(forward(variables, batch.x, key), batch)


def unused(*args):
    raise AssertionError("pictures neither learn nor initialise")


RECIPE = Recipe(unused, unused, unused, evaluate, unused, forward, unused)


def pair(classes=4):
    gains = np.linspace(0.2, 1.5, classes, dtype=np.float32)
    return exhibits.Pair({"gain": jnp.ones(classes)}, {"gain": gains})


def source(x, y, classes=CLASSES):
    return data.make_source(
        np.asarray(x, np.float32), y, classes=classes, name="s", split="test"
    )


def collect(given, batch=10, recipe=RECIPE):
    frames = study.frames(given, batch)
    labels = len(given.classes)
    return exhibits.collect(recipe, pair(labels), frames, given.classes, KEY)


@pytest.fixture(scope="module")
def flat():
    rng = np.random.default_rng(0)
    return source(rng.normal(size=(23, 4)), rng.integers(0, 4, 23))


def test_answers_are_counted_as_sklearn_counts_them(flat):
    found = collect(flat)  # Frames of 10: the last has 7 rows of padding.
    assert set(found) == {"confusion/ideal", "confusion/chip", "classes"}
    assert found["classes"].tolist() == list(CLASSES)
    labels = range(4)
    np.testing.assert_array_equal(
        found["confusion/ideal"],
        metrics.confusion_matrix(flat.y, flat.x.argmax(1), labels=labels),
    )
    # The noise of a chip is that of the study: a stream of each frame.
    noise = [
        jax.random.normal(stream(KEY, "read", i), (10, 4)) for i in range(3)
    ]
    scores = flat.x * pair().chip["gain"] + NOISE * np.concatenate(noise)[:23]
    np.testing.assert_array_equal(
        found["confusion/chip"],
        metrics.confusion_matrix(flat.y, scores.argmax(1), labels=labels),
    )
    assert (found["confusion/chip"] != found["confusion/ideal"]).any()


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, (5, 6, 8))
    y[:, :2] = data.IGNORED
    return source(rng.normal(size=(5, 6, 8, 2)), y, ("no", "yes"))


def test_images_keep_probabilities_and_scores(masks, monkeypatch):
    found = collect(masks, batch=2)
    assert found["images/rows"].tolist() == [0, 2, 4]
    rows = found["images/rows"]
    np.testing.assert_array_equal(found["images/x"], masks.x[rows])
    np.testing.assert_array_equal(found["images/y"], masks.y[rows])
    probability = scipy.special.softmax(masks.x[rows].astype(float), -1)[..., 1]
    np.testing.assert_allclose(found["images/ideal"], probability, rtol=1e-5)
    for i, row in enumerate(rows):
        known = masks.y[row] >= 0
        right = (masks.x[row].argmax(-1) == masks.y[row])[known].mean()
        assert found["images/ideal_score"][i] == pytest.approx(right)
    # A chip's probability is the one whose answers its score judges.
    answers = found["images/chip"] > 0.5
    right = (answers == found["images/y"])[:, 2:].mean((1, 2))
    np.testing.assert_allclose(found["images/chip_score"], right, rtol=1e-5)
    assert not any(name.startswith("confusion") for name in found)
    monkeypatch.setattr(exhibits, "SIDE", 4)
    cut = collect(masks, batch=2)
    np.testing.assert_array_equal(cut["images/y"], masks.y[rows, 1:5, 2:6])
    assert cut["images/chip"].shape == (3, 4, 4)


def test_images_of_many_classes_keep_answers(masks):
    x = np.random.default_rng(2).normal(size=(2, 6, 8, 4))
    found = collect(source(x, np.maximum(masks.y[:2], 0)))
    np.testing.assert_array_equal(found["images/ideal"], x.argmax(-1))


def test_parts_of_point_sets_are_a_few_points():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(9, 2000, 3 + 4))
    given = source(x, rng.integers(0, 4, (9, 2000)))
    found = collect(given, batch=4)
    assert found["clouds/rows"].tolist() == [0, 2, 5, 8]
    chosen = np.linspace(0, 1999, 1024).astype(int)
    rows = found["clouds/rows"][:, None]
    np.testing.assert_array_equal(found["clouds/x"], given.x[rows, chosen, :3])
    np.testing.assert_array_equal(found["clouds/y"], given.y[rows, chosen])
    np.testing.assert_array_equal(
        found["clouds/ideal"], given.x[rows, chosen, 3:].argmax(-1)
    )
    # Of all points, not of those that are kept.
    right = (given.x[..., 3:].argmax(-1) == given.y).mean(1)[rows[:, 0]]
    np.testing.assert_allclose(found["clouds/ideal_score"], right, rtol=1e-6)
    assert sum(array.nbytes for array in found.values()) < 2e5


def pooled(variables, x, key=None):
    """An answer a set, from the sums over all of its axes but the first."""
    mean = x.reshape(len(x), -1).sum(1, keepdims=True)
    return forward(variables, mean * jnp.arange(4.0)[None], key)


SETS = RECIPE._replace(
    forward=pooled,
    evaluate=lambda variables, batch, key=None: supervised.cross_entropy(
        pooled(variables, batch.x, key), batch
    ),
)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((30, 3), True),
        ((30, 6), True),  # with normals
        ((30, 40), False),  # a spectrogram
        ((8, 8, 3), False),  # an image, whatever the network makes of it
        ((3,), False),
    ],
)
def test_point_sets_are_told_from_other_inputs(shape, drawn):
    x = np.random.default_rng(4).normal(size=(6, *shape))
    found = collect(source(x, np.arange(6) % 4), recipe=SETS)
    assert found["confusion/chip"].sum() == 6
    assert any(name.startswith("clouds") for name in found) == drawn
    if drawn:
        sums = x.reshape(6, -1).sum(1)[found["clouds/rows"]]
        np.testing.assert_array_equal(
            found["clouds/ideal"], np.where(sums > 0, 3, 0)
        )
        assert found["clouds/x"].shape == (4, 30, 3)


def test_what_cannot_be_drawn_is_left_out(flat):
    many = source(flat.x, flat.y, tuple(map(str, range(65))))
    frames = study.frames(many, 10)
    assert exhibits.collect(RECIPE, pair(65), frames, many.classes, KEY) == {}
    # An output that is none of its classes, such as an image.
    other = RECIPE._replace(forward=lambda variables, x, key=None: x[:, :2])
    assert collect(flat, recipe=other) == {}
    # A label a position of what is neither an image nor a point set.
    y = np.zeros((23, 4), int)
    odd = RECIPE._replace(
        forward=lambda variables, x, key=None: jnp.zeros((*x.shape, 4))
    )
    assert collect(flat._replace(y=y), recipe=odd) == {}


def test_the_score_is_the_recipes(masks):
    def measure(sums):
        return ratios(sums) | {"halved": sums["accuracy"] / sums["count"] / 2}

    other = RECIPE._replace(measure=measure, score="halved")
    ideal = collect(masks)["images/ideal_score"]
    found = collect(masks, recipe=other)["images/ideal_score"]
    np.testing.assert_allclose(found, ideal / 2, rtol=1e-6)
