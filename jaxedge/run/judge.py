"""A small network that judges made pairs, taught by the real ones of a run.

Nothing is downloaded: a classifier (`models.pair_classifier`) learns the labels
of real pairs, both modalities as channels, and what its last layer sees are the
features in which sets of pairs are compared. Where a data set has one class
only, it learns how pairs were mirrored instead, in the manner of
arXiv:1803.07728, whose images are turned. Distances of such features compare
what one judge has seen, and nothing else.

Letters: N pairs, H height, W width, F features, K classes.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxedge import data
from jaxedge.core import checks, keys
from jaxedge.core.keys import stream
from jaxedge.models.pair_classifier import PairClassifier

LABELS, MIRRORS = "labels", "mirrors"
_MIRRORS = ("as it is", "left to right", "upside down", "both")
_AT_ONCE = 250  # Pairs of a batch that are not learned from.


class Lessons(NamedTuple):
    """How a judge learns; all numbers are ours.

    Attributes:
        epochs: passes over the pairs, of which the last one's network counts.
        batch: pairs a step.
        rate: of Adam.
    """

    epochs: int = 20
    batch: int = 32
    rate: float = 1e-3


class Judge(NamedTuple):
    """A network that was taught.

    Attributes:
        variables: of `PairClassifier`.
        classes: K.
        pairs: by how many it was taught.
        task: "labels" of the data set, or "mirrors".
    """

    variables: Any
    classes: int
    pairs: int
    task: str


def train(
    key: jax.Array, source: data.Source, lessons: Lessons | None = None
) -> Judge:
    """Teaches a network; the same key and pairs give the same network.

    Args:
        key: of its start and of the order of pairs.
        source: x [N, H, W, 2], all of them pairs.
        lessons: how; None takes the defaults.

    Raises:
        UsageError: for inputs that are no pairs, or fewer than 2.
    """
    keys.check_key(key)
    _check(source)
    task = MIRRORS if np.ptp(source.y) == 0 else LABELS
    return _train(key, source, task, lessons or Lessons())


def _train(
    key: jax.Array, source: data.Source, task: str, lessons: Lessons
) -> Judge:
    known = _asked(source, task)
    classes = len(known.classes)
    begin, step, _, _ = _programs(classes)
    state = begin(stream(key, "judge"), known.x[:1])
    size = min(lessons.batch, len(known.y))
    # On a CPU the gradient of a convolution is slow inside of a scan.
    for epoch in range(lessons.epochs):
        for batch in data.epoch(known, size, stream(key, "order"), epoch):
            state = step(state, batch.x, batch.y, lessons.rate)
    return Judge(state[0], classes, len(known.y), task)


def features(judge: Judge, x_NxHxWx2: np.ndarray) -> np.ndarray:
    """What the last layer of a judge sees of pairs, [N, F] float32."""
    _, _, look, _ = _programs(judge.classes)
    return by_batch(functools.partial(look, judge.variables), x_NxHxWx2)


def accuracy(judge: Judge, source: data.Source) -> float:
    """The share of the pairs of a source whose class a judge finds."""
    known = _asked(source, judge.task)
    _, _, _, answer = _programs(judge.classes)
    said = by_batch(functools.partial(answer, judge.variables), known.x)
    return float((said == known.y).mean())


def synthetic_accuracy(
    key: jax.Array,
    x_NxHxWx2: np.ndarray,
    y_N: np.ndarray,
    test: data.Source,
    lessons: Lessons | None = None,
) -> float:
    """Accuracy on real pairs of a network that made pairs have taught.

    Nothing is chosen by the real pairs: the last epoch's network counts.
    Compare with `accuracy` of a judge that as many real pairs have taught, with
    the same key and lessons.

    Args:
        key: as of `train`.
        x_NxHxWx2: made pairs.
        y_N: the classes that they were made of.
        test: real pairs, with the names of the classes.
        lessons: as of `train`.

    Raises:
        UsageError: for made pairs that are none, or labels that do not fit.
    """
    made = data.make_source(
        np.asarray(x_NxHxWx2, np.float32),
        y_N,
        classes=test.classes,
        name=f"made of {test.name}",
        split="train",
    )
    _check(made)
    judge = _train(key, made, LABELS, lessons or Lessons())
    return accuracy(judge, test)


def by_batch(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """What a function makes of some rows at a time, all of one program.

    Args:
        function: from rows of every array to one result a row.
        *arrays: [N, ...]; the last rows are filled up with row 0.
    """
    count = len(arrays[0])
    size = min(_AT_ONCE, count)
    found = []
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        rows[rows >= count] = 0
        found.append(np.asarray(function(*(a[rows] for a in arrays))))
    return np.concatenate(found)[:count]


@functools.cache
def _programs(classes: int) -> tuple[Any, Any, Any, Any]:
    """Functions that begin, learn, tell features, and answer."""
    model = PairClassifier(classes)

    def moves(rate: Any) -> optax.GradientTransformation:
        return optax.adam(rate)

    @jax.jit
    def begin(key, x):
        variables = {"params": model.init(key, x)["params"]}
        return variables, moves(0.0).init(variables)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, x, y, rate):
        variables, moments = state

        def loss(variables):
            logits = model.apply(variables, x)
            apart = optax.softmax_cross_entropy_with_integer_labels(
                logits,  # type: ignore[arg-type]
                y,
            )
            return apart.mean()

        slope = jax.grad(loss)(variables)
        change, moments = moves(rate).update(slope, moments)
        return optax.apply_updates(variables, change), moments

    @jax.jit
    def look(variables, x):
        return model.apply(variables, x, method="features")

    @jax.jit
    def answer(variables, x):
        return jnp.argmax(model.apply(variables, x), -1)  # type: ignore[arg-type]

    return begin, step, look, answer


def _asked(source: data.Source, task: str) -> data.Source:
    """A source with the question that a judge answers as its labels."""
    if task == LABELS:
        return source._replace(aux=None)
    turn_N = np.arange(len(source.y), dtype=np.int32) % len(_MIRRORS)
    x = source.x.copy()
    x[turn_N % 2 == 1] = x[turn_N % 2 == 1, :, ::-1]
    x[turn_N >= 2] = x[turn_N >= 2, ::-1]
    return source._replace(x=x, y=turn_N, classes=_MIRRORS, aux=None)


def _check(source: data.Source) -> None:
    where = f"{source.name}/{source.split}"
    if source.x.ndim != 4 or source.x.shape[-1] != 2:
        raise checks.UsageError(
            f"the inputs of {where} have shape {source.x.shape}, but a judge"
            " takes pairs of images [N, H, W, 2]."
        )
    if len(source.y) < 2:
        raise checks.UsageError(
            f"{where} has {len(source.y)} pair, but a judge learns from 2 at"
            " least; give more pairs."
        )
    paired = (source.aux or {}).get("paired")
    if paired is not None and not np.all(paired):
        raise checks.UsageError(
            f"{int((paired == 0).sum())} of {len(paired)} rows of {where} are"
            " no pairs; leave them out with rows(aux['paired'] > 0), or load"
            " the data set with pairs=1.0."
        )
