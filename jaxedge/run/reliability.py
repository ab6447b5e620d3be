"""How far a classifier's probabilities can be trusted, ideal and on a chip.

Letters: F frames, B batch, N examples, K classes, M bins, T points of a curve.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core.keys import stream
from jaxedge.learn import calibration
from jaxedge.recipes.recipe import Recipe
from jaxedge.run.exhibits import PLACES, Pair
from jaxedge.run.frames import Frames

Array = np.ndarray | jax.Array

BINS = 15
# Odd: the surest half ends at one of them.
POINTS = 199


class Answers(NamedTuple):
    """What a network says of examples, [N] each.

    Attributes:
        confidence: the probability of the class that is answered.
        right: 1 where that is the label, else 0.
        brier: the sum over classes of (p - y)^2.
        surprise: -ln of the probability of the label.
    """

    confidence: Array
    right: Array
    brier: Array
    surprise: Array


def collect(
    recipe: Recipe,
    pair: Pair,
    test: Frames,
    classes: int,
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """The arrays of what is drawn of probabilities; none where there are none.

    Args:
        recipe: how the network answers.
        pair: the network.
        test: what the chips of a study read.
        classes: K.
        key: of the chip, read as in the study.

    Returns:
        For labels one an example, and K outputs for each, "reliability/softmax"
        [], whether probabilities are the softmax of the outputs, and what
        `measure` finds, "reliability/ideal/..." and "reliability/chip/...". A
        place where some probability is no finite number is left out.
    """
    if test.y.ndim != 2 or not _tells(recipe, pair.ideal, test, classes):
        return {}
    arrays = {"softmax": np.array(recipe.probability is None)}
    for place, variables in zip(PLACES, pair, strict=True):
        noise = key if place == "chip" else None
        said = read(recipe, variables, test, noise)
        if len(said.right) and np.isfinite(said.confidence).all():
            found = measure(said)
            arrays |= {f"{place}/{name}": a for name, a in found.items()}
    return {f"reliability/{name}": a for name, a in arrays.items()}


def read(
    recipe: Recipe, variables: Any, test: Frames, key: jax.Array | None
) -> Answers:
    """What a network says of the examples that count.

    Args:
        recipe: how the network answers.
        variables: of the network.
        test: frames of labels one an example; padding and negative labels do
            not count.
        key: of a chip, read as in a study; None reads without noise.
    """
    # A program of its own, which whoever else wants outputs shares.
    forward = jax.jit(recipe.forward)
    found = []
    for i, (x, y) in enumerate(zip(*test[:2], strict=True)):
        noise = None if key is None else stream(key, "read", i)
        outputs = forward(variables, x, noise)
        found.append(_answers(recipe.probability, outputs, y))
    counts = np.ravel((test.weight > 0) & (test.y >= 0))
    rows = zip(*jax.device_get(found), strict=True)
    return Answers(*(np.concatenate(row)[counts] for row in rows))


@functools.partial(jax.jit, static_argnums=0)
def _answers(
    probability: Callable | None, out_BxK: jax.Array, y_B: jax.Array
) -> Answers:
    out_BxK = out_BxK.astype(jnp.float32)
    if probability is None:
        # Finite where the probability itself is rounded to 0.
        log_BxK = jax.nn.log_softmax(out_BxK)
        p_BxK = jnp.exp(log_BxK)
    else:
        p_BxK = probability(out_BxK)
        log_BxK = jnp.log(p_BxK)
    known_B = jnp.maximum(y_B, 0)
    chosen = jnp.take_along_axis(log_BxK, known_B[:, None], axis=1)
    return Answers(
        # A division may be rounded up.
        jnp.minimum(p_BxK.max(1), 1),
        # Of the outputs, which are not equal where evidence is.
        (out_BxK.argmax(1) == y_B).astype(jnp.float32),
        jax.vmap(calibration.brier)(p_BxK, known_B),
        -chosen[:, 0],
    )


def measure(said: Answers) -> dict[str, np.ndarray]:
    """How far some answers can be trusted, and when.

    Args:
        said: of one example at least, finite but for `surprise`.

    Returns:
        "examples" [], N; "weight", "confidence" and "accuracy" of `BINS` bins
        of confidence, [M] each, see `calibration.reliability`; "coverage" and
        "risk", points of `calibration.risk_coverage` for the loss of 1 of a
        wrong answer, [T] each, T at most `POINTS`; and [] each "ece", "brier",
        "nll", "aurc" and "auroc", of telling right from wrong answers by their
        confidence, NaN where there are no such or no others.
    """
    found = jax.device_get(_measured(*said))
    rows = np.linspace(0, len(said.right) - 1, POINTS).astype(int)
    chosen = np.unique(rows)
    found |= {name: found[name][chosen] for name in ("coverage", "risk")}
    return {"examples": np.array(len(said.right)), **found}


@jax.jit
def _measured(
    confidence_N: jax.Array,
    right_N: jax.Array,
    brier_N: jax.Array,
    surprise_N: jax.Array,
) -> dict[str, jax.Array]:
    scored = (confidence_N, right_N)
    bins = calibration.reliability(*scored, bins=BINS)
    curve = calibration.risk_coverage(confidence_N, 1 - right_N)
    return {
        "weight": bins.weight,
        "confidence": bins.confidence,
        "accuracy": bins.accuracy,
        "coverage": curve.coverage,
        "risk": curve.risk,
        "ece": calibration.expected_calibration_error(*scored, bins=BINS),
        "brier": brier_N.mean(),
        "nll": surprise_N.mean(),
        "aurc": calibration.aurc(confidence_N, 1 - right_N),
        "auroc": calibration.auroc(*scored),
    }


def _tells(recipe: Recipe, variables: Any, test: Frames, classes: int) -> bool:
    """Whether the network has an output a class for every example."""
    found = jax.eval_shape(recipe.forward, variables, test.x[0])
    shape = (test.y.shape[1], classes)
    return getattr(found, "shape", None) == shape and classes > 1
