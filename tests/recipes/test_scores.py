import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.recipes import scores, supervised
from jaxedge.recipes.recipe import add


def pixels(seed):
    """Logits and labels of a segmentation, with padding and ignored pixels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(-1, 2, (4, 5, 6))
    # Few values, so that no two of them share a bin.
    logits = np.round(rng.normal(size=(4, 5, 6, 2)) + y[..., None] * [0, 1])
    weight = np.array([1, 1, 1, 0], np.float32)
    batch = data.Batch(np.zeros(0), jnp.asarray(y), jnp.asarray(weight))
    return jnp.asarray(logits, jnp.float32), batch


def evaluated(name, logits, batch):
    score = scores.get(name, 2)
    more = score.sums(logits, batch.y, supervised.label_weights(batch))
    return score, supervised.cross_entropy(logits, batch) | more


@pytest.mark.parametrize("name", scores.SCORES)
def test_a_score_is_among_its_metrics(name):
    score, sums = evaluated(name, *pixels(0))
    found = score.measure(sums)
    assert score.name == name
    assert {"accuracy", "loss", name} <= set(found)
    assert all(0 <= found[key] <= 1 for key in found if key != "loss")


def test_areas_are_of_the_pixels_that_count():
    cases = [pixels(seed) for seed in (0, 1)]
    score, first = evaluated("roc_auc", *cases[0])
    _, second = evaluated("roc_auc", *cases[1])
    found = score.measure(add(first, second))
    y = np.concatenate([np.asarray(b.y)[:3] for _, b in cases]).ravel()
    logits = np.concatenate([np.asarray(z)[:3] for z, _ in cases])
    surer = (logits[..., 1] - logits[..., 0]).ravel()[y >= 0]
    y = y[y >= 0]
    precision, recall, _ = metrics.precision_recall_curve(y, surer)
    expected = {
        "roc_auc": metrics.roc_auc_score(y, surer),
        "pr_auc": metrics.auc(recall, precision),
        "average_precision": metrics.average_precision_score(y, surer),
        "sensitivity": (surer[y == 1] >= 0).mean(),
        "dice": metrics.f1_score(y, surer >= 0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    assert found["accuracy"] != found["roc_auc"]


def test_areas_are_of_two_classes():
    with pytest.raises(UsageError, match="'dice'.*2 classes.*data set has 10"):
        scores.get("dice", 10)
    with pytest.raises(UsageError, match="Did you mean 'roc_auc'"):
        scores.get("roc", 2)
    assert scores.get("accuracy", 10).name == "accuracy"
