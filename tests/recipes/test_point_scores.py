"""Metrics of sets and of points against loops in numpy (deplm 6)."""

import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.recipes import point_scores
from jaxedge.recipes.recipe import add, mean

# Two categories of parts 0-1 and 2-4.
PARTS = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], bool)
SETS, POINTS = 12, 9


def drawn():
    """Answers that are often right, some ignored points, one ignored set."""
    rng = np.random.default_rng(0)
    category = rng.integers(0, 2, SETS)
    start = np.where(category, 2, 0)[:, None]
    y = start + rng.integers(0, 2, (SETS, POINTS)) * (1 + (start > 0))
    logits = rng.normal(size=(SETS, POINTS, 5)) + 1.5 * np.eye(5)[y]
    y = np.where(rng.random(y.shape) < 0.2, data.IGNORED, y)
    y[3] = data.IGNORED
    weight = np.ones(SETS)
    weight[-1] = 0  # Padding.
    return logits.astype(np.float32), y, weight.astype(np.float32), category


def by_hand(logits, y, weight, category):
    """The four metrics of the paper's code, one set after the other."""
    right, seen = np.zeros(5), np.zeros(5)
    overlaps = {0: [], 1: []}
    for s in range(SETS):
        known = y[s] >= 0
        if not weight[s] or not known.any():
            continue
        parts = np.flatnonzero(PARTS[category[s]])
        said = parts[logits[s][:, parts].argmax(-1)][known]
        true = y[s][known]
        for c in range(5):
            seen[c] += (true == c).sum()
            right[c] += ((true == c) & (said == c)).sum()
        found = []
        for part in parts:
            either = ((true == part) | (said == part)).sum()
            both = ((true == part) & (said == part)).sum()
            found.append(both / either if either else 1.0)
        overlaps[category[s]].append(np.mean(found))
    with np.errstate(invalid="ignore"):
        by_class = np.nanmean(right / seen)
    return {
        "accuracy": right.sum() / seen.sum(),
        "class_accuracy": by_class,
        "class_iou": np.mean([np.mean(v) for v in overlaps.values()]),
        "instance_iou": np.mean(np.concatenate([*overlaps.values()])),
    }


def test_the_metrics_of_points():
    logits, y, weight, category = drawn()

    halves = [
        point_scores.of_points(
            logits[part],
            data.Batch(np.zeros(0), jnp.asarray(y[part]), weight[part]),
            jnp.asarray(PARTS),
            category[part],
        )
        for part in (slice(0, 6), slice(6, None))
    ]
    found = mean(add(*halves), point_scores.measure)
    expected = by_hand(logits, y, weight, category)
    assert 0.3 < expected["instance_iou"] < 0.95  # Neither all nor nothing.
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    # Part 3 is in no label: the paper's code divides by 0 there.
    assert not (y == 3).any()


def test_a_part_that_is_nowhere_counts_as_found():
    """One set, all of part 0, all right: part 1 is in neither."""
    y = jnp.zeros((1, 4), jnp.int32)
    batch = data.Batch(np.zeros(0), y, np.ones(1, np.float32))
    logits = jnp.eye(5)[jnp.zeros((1, 4), int)]
    sums = point_scores.of_points(
        logits, batch, jnp.asarray(PARTS), jnp.zeros(1, int)
    )
    found = mean(sums, point_scores.measure)
    assert found["instance_iou"] == found["accuracy"] == 1


def test_the_metrics_of_sets():
    rng = np.random.default_rng(1)
    y = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    said = np.array([0, 0, 1, 1, 0, 2, 2, 0])
    weight = np.ones(8, np.float32)
    weight[-1] = 0
    logits = 9 * np.eye(4)[said] + rng.normal(size=(8, 4))
    batch = data.Batch(np.zeros(0), jnp.asarray(y), weight)
    sums = point_scores.of_sets(jnp.asarray(logits, jnp.float32), batch)
    found = mean(sums, point_scores.measure)
    np.testing.assert_allclose(found["accuracy"], 5 / 7, rtol=1e-6)
    # Class 3 has no example.
    by_class = np.mean([2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(found["class_accuracy"], by_class, rtol=1e-6)
    assert set(found) == {"loss", "accuracy", "class_accuracy"}
