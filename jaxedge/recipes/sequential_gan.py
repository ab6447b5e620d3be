"""Images of two modalities, made one after the other: arXiv:2308.14066.

A first generator makes images of the simpler modality from normal vectors, a
second one the other modality from these. Known pairs teach both by what they
reconstruct, and unpaired images by a critic a modality; either alone is the
supervised and the unsupervised variant (`recipes.adversarial`).

Which modality comes first is the config's, or chosen by a measure of complexity
(`features.complexity`); the paper's own is unknown.

Letters: N rows, B batch, H height, W width, K classes.
"""

from collections.abc import Iterator, Mapping
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data, models
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.features import complexity
from jaxedge.models.gan import Pair
from jaxedge.recipes import adversarial, gan_scores, settings
from jaxedge.recipes.adversarial import Batch
from jaxedge.recipes.gan_settings import Gan as Gan
from jaxedge.recipes.gan_settings import Model as Model
from jaxedge.recipes.gan_settings import Optimizer as Optimizer
from jaxedge.recipes.gan_settings import Pairs as Pairs
from jaxedge.recipes.gan_settings import Settings as Settings
from jaxedge.recipes.gan_settings import Train as Train
from jaxedge.recipes.gan_settings import parse as parse
from jaxedge.recipes.recipe import Recipe, Rounds

# Images by which modalities are compared, of each as many as there are.
COMPARED = 500


def prepare(
    given: Settings, splits: Mapping[str, data.Source]
) -> tuple[dict[str, data.Source], int]:
    """Splits in the order in which modalities are made, their rows numbered.

    Args:
        given: from `parse`.
        splits: "train" and others, of `data.paired`.

    Returns:
        The splits, and rows of the training split.

    Raises:
        UsageError: for inputs that are no pairs of images, or a training split
            without what a schedule needs.
    """
    for split, source in splits.items():
        _check(source, split)
    train = splits["train"]
    if given.gan.schedule != "unsupervised":
        _check_some(train, "paired", "gan.schedule='unsupervised'")
    if given.gan.unpaired == "pairs":
        _check_some(train, "paired", "gan.unpaired='own'")
    for name in ("has_first", "has_second"):
        _check_some(train, name, "a larger data.pairs")
    swap = order(given.gan, train)
    return {
        split: _ordered(source, swap) for split, source in splits.items()
    }, len(train.y)


def order(given: Gan, train: data.Source) -> bool:
    """Whether the modalities change places, by the training images.

    Raises:
        UsageError: where a measure does not tell which is simpler.
    """
    if given.order == "given":
        return False
    aux = train.aux or {}
    images = [
        train.x[aux[name] > 0][:COMPARED, ..., channel]
        for channel, name in enumerate(("has_first", "has_second"))
    ]
    # Equally many: some measures grow with their number.
    count = min(map(len, images))
    first, second = (
        complexity.measure(each[:count], given.complexity) for each in images
    )
    if first == second:
        raise checks.UsageError(
            f"gan.complexity is {given.complexity!r}, by which both modalities"
            f" of {train.name} have {first:.6g}; take another measure, or"
            " gan.order='given'."
        )
    return (second < first) == (given.order == "simpler_first")


def _ordered(source: data.Source, swap: bool) -> data.Source:
    aux = dict(source.aux or {})
    aux["row"] = np.arange(len(source.y), dtype=np.int32)
    if not swap:
        return source._replace(aux=aux)
    names = ("has_first", "has_second")
    aux |= {a: aux[b] for a, b in zip(names, names[::-1], strict=True)}
    return source._replace(x=source.x[..., ::-1].copy(), aux=aux)


def network(given: Settings, image: tuple[int, ...], classes: int) -> Pair:
    """The networks of a config, for images of a shape."""
    model = given.model
    labels = classes if given.gan.conditional else 0
    shared: dict[str, Any] = {
        "sides": (image[0], image[1]),
        "latent": model.latent + labels,
        "labels": labels,
        "encodes": given.gan.schedule != "unsupervised",
        "noise": model.noise,
        "critics": (
            ("latent",)
            if given.gan.schedule == "supervised"
            else ("first", "second")
            + (("joint",) if given.gan.joint != "none" else ())
        ),
        **{
            name: getattr(model, name)
            for name in (
                "convs", "dense", "critic_dense", "latent_dense",
                "first_dense", "first_up", "down", "second_up",
            )
        },
    }  # fmt: skip
    if model.name == "plain":
        return models.PlainGan(**shared)
    return models.SequentialGan(
        **shared, shared=model.shared, shared_features=model.shared_features
    )


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
    splits: Mapping[str, data.Source] | None = None,
) -> Recipe:
    """The recipe of a config.

    Args:
        given: from `parse`.
        example: [1, H, W, 2] inputs, from `prepare`.
        classes: K.
        steps_per_epoch: not looked at: an epoch has `train.steps`.
        data_root: not looked at.
        chip: not looked at.
        splits: from `prepare`; not looked at.

    Raises:
        UsageError: for networks that do not fit the images.
    """
    del steps_per_epoch, data_root, chip, splits
    example = jnp.asarray(example)
    model = network(given, example.shape[1:], classes)
    plan = _plan(given, model)
    start = example[..., :1]
    if not model.encodes:
        start = jnp.zeros((1, model.latent))
    # Raises for sides that the networks do not make.
    jax.eval_shape(model.init, jax.random.key(0), start)

    def labels(y: Any) -> jax.Array:
        return jax.nn.one_hot(y, model.labels)

    def evaluate(variables: Any, batch: Any, key: Any = None) -> Any:
        return gan_scores.judge(model, variables, batch, labels(batch.y), key)

    def forward(
        variables: Any, x: jax.Array, key: Any = None, **apply: Any
    ) -> Any:
        # Of no known class: as likely of each.
        even = jnp.full((len(x), model.labels), 1 / max(model.labels, 1))
        return gan_scores.translated(
            model, variables, x[..., :1], even, key, **apply
        )

    return Recipe(
        init=lambda key: adversarial.init(plan, key, start),
        update=lambda state, batch: adversarial.update(plan, state, batch),
        finish=lambda state: {"params": adversarial.makers(state)},
        evaluate=evaluate,
        review=lambda state, metrics: adversarial.review(plan, state),
        forward=forward,
        summary=_summary,
        measure=gan_scores.measure,
        score=given.train.score,
        rounds=Rounds(
            given.train.steps,
            given.train.batch,
            lambda source, key, epoch, part: batches(
                given, model.labels, source, key, epoch
            ),
        ),
    )


def _plan(given: Settings, model: Pair) -> adversarial.Plan:
    optimizer, gan = given.optimizer, given.gan
    ideal = given.train.hardware == "ideal"
    return adversarial.Plan(
        model=model,
        schedule=gan.schedule,
        rate=optimizer.learning_rate,
        b1=optimizer.b1,
        b2=optimizer.b2,
        critic_rate=optimizer.critic,
        adversarial_rate=optimizer.adversarial,
        pair_rate=optimizer.pairs,
        penalty=gan.penalty,
        warmup=gan.warmup,
        compat=gan.compat,
        joint=gan.joint,
        pairs=gan.pairs,
        given=gan.given,
        every=gan.every,
        repeats=gan.repeats,
        average=optimizer.average,
        rollbacks=gan.rollbacks,
        design=None if ideal else settings.make_plan(given.hardware),
    )


def _summary(state: adversarial.State) -> dict[str, jax.Array]:
    return {
        "rollbacks": state.broken,
        "last_rollback": state.last,
        "rate_factor": state.factor,
    }


def batches(
    given: Settings, classes: int, source: data.Source, key: Any, epoch: int
) -> Iterator[Batch]:
    """The batches of an epoch, a function of (key, epoch) alone.

    Each kind of rows is dealt in passes of its own, in an order that is drawn
    for every pass; few pairs come up more often than many unpaired images.

    Args:
        given: from `parse`.
        classes: of labels, 0 for none.
        source: the training split, from `prepare`.
        key: of the order.
        epoch: which, from 0.
    """
    aux = source.aux or {}
    rows = {
        name: np.flatnonzero(aux[kind])
        for name, kind in (
            ("pair", "paired"),
            ("first", "has_first"),
            ("second", "has_second"),
        )
    }
    alone = given.gan.unpaired == "pairs" or given.gan.schedule == "supervised"
    steps, size = given.train.steps, given.train.batch
    dealt = {
        name: _dealt(found, steps * size, stream(key, name), epoch)
        for name, found in rows.items()
        if name == "pair" or not alone
    }
    if alone:
        dealt |= {"first": dealt["pair"], "second": dealt["pair"]}
    for step in range(steps):
        at = {
            name: order[step * size : (step + 1) * size]
            for name, order in dealt.items()
        }
        parts = {
            "pair": slice(0, 2),
            "first": slice(0, 1),
            "second": slice(1, 2),
        }
        found: dict[str, Any] = {}
        for name, channels in parts.items():
            found[name] = source.x[at[name]][..., channels]
            found[f"{name}_y"] = _one_hot(source.y[at[name]], classes)
        yield Batch(**found)


def _dealt(
    rows: np.ndarray, count: int, key: jax.Array, epoch: int
) -> np.ndarray:
    """So many rows, one pass after another from where the last epoch ended."""
    if not len(rows):  # Of a schedule that does not look at them.
        return np.zeros(count, int)
    start = epoch * count
    passes = range(start // len(rows), (start + count - 1) // len(rows) + 1)
    order = np.concatenate(
        [
            np.asarray(
                jax.random.permutation(stream(key, "pass", p), len(rows))
            )
            for p in passes
        ]
    )
    begin = start - passes[0] * len(rows)
    return rows[order[begin : begin + count]]


def _one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    return (y[:, None] == np.arange(classes)).astype(np.float32)


def _check(source: data.Source, split: str) -> None:
    where = f"{source.name}/{split}"
    if source.x.ndim != 4 or source.x.shape[-1] != 2:
        raise checks.UsageError(
            f"the inputs of {where} have shape {source.x.shape}, but must be"
            " pairs of images [N, H, W, 2]."
        )
    missing = [
        name
        for name in ("paired", "has_first", "has_second")
        if name not in (source.aux or {})
    ]
    if missing:
        raise checks.UsageError(
            f"{where} does not tell which rows are pairs: its aux lacks"
            f" {', '.join(missing)}; make it with data.paired.make."
        )


def _check_some(train: data.Source, name: str, remedy: str) -> None:
    if not (train.aux or {})[name].any():
        raise checks.UsageError(
            f"no training row of {train.name} is {name!r}; choose {remedy}."
        )


__all__ = [
    "Gan",
    "Model",
    "Optimizer",
    "Pairs",
    "Settings",
    "Train",
    "batches",
    "build",
    "network",
    "order",
    "parse",
    "prepare",
]
