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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data, models
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.features import complexity
from jaxedge.learn import wasserstein
from jaxedge.models.gan import Pair
from jaxedge.recipes import adversarial, gan_scores, settings
from jaxedge.recipes.adversarial import Batch
from jaxedge.recipes.recipe import Recipe, Rounds

ORDERS = ("given", "simpler_first", "simpler_last")
# Images by which modalities are compared, of each as many as there are.
COMPARED = 500

_FILES = ("side", "windows", "slices", "table", "unpaired", "pairs", "seed")
_OPTIONS = {
    "joint_pairs": ("rho", "side", "n", "pairs", "seed"),
    "sarcoma_pairs": ("modalities", "side", "pairs", "seed"),
    **{
        name: ("modalities", *_FILES)
        for name in ("brats", "ixi", "prostatex", "pair_folder")
    },
}


class Pairs(NamedTuple):
    """Which pairs of images; a data set takes the fields that it has.

    Attributes:
        name: "joint_pairs", made on the spot; "sarcoma_pairs"; "brats", "ixi",
            "prostatex" or "pair_folder", files as their owners have them.
        pairs: share of the training patients (or rows) whose pairs are known,
            in (0, 1]; of the others one modality each is given.
        seed: of that choice, and of what is made.
        side: pixels of an image, along each side.
        modalities: the two, the first one in front; None takes the data set's.
        rho: of "joint_pairs", correlation of the two modalities.
        n: of "joint_pairs", how many of each split; None takes the data set's.
        windows: of files, see `data.pair_folder`.
        slices: of files, how many of a volume.
        table: of files, (file, column of ids, column of labels); None has none.
        unpaired: of files, whether there may be some without a partner.
    """

    name: str
    pairs: float = 1.0
    seed: int = 0
    side: int = 64
    modalities: tuple[str, ...] | None = None
    rho: float = 0.8
    n: int | None = None
    windows: tuple[Any, ...] | None = None
    slices: int = 1
    table: tuple[str, ...] | None = None
    unpaired: bool = False

    def check(self) -> None:
        """Raises UsageError for a data set that has no pairs."""
        checks.choice("data.name", self.name, tuple(_OPTIONS))

    @property
    def options(self) -> dict[str, Any]:
        """Of `jaxedge.data.load`, which checks them."""
        found = {name: getattr(self, name) for name in _OPTIONS[self.name]}
        return {k: v for k, v in found.items() if v is not None}


class Model(NamedTuple):
    """The networks (`models.gan`).

    Attributes:
        name: "sequential", the paper's, or "plain", of its two other variants.
        latent: numbers of a normal vector, without its label.
        shared: of "sequential", whether both generators share two layers.
        convs: outputs of the convolutions of encoder and critics.
        dense: units of the encoder's layers behind these.
        critic_dense: units of the critics'.
        latent_dense: units of the critic of latent vectors.
        noise: normal numbers that the second generator sees beside an image;
            the paper's sees none, and makes one image of each.
        shared_features: of "sequential", outputs of the shared layers.
        first_dense: units of the first generator's first layers.
        first_up: outputs of its doublings.
        down: outputs of the convolutions of the second generator.
        second_up: outputs of its doublings.
    """

    name: str = "sequential"
    latent: int = 128
    shared: bool = True
    convs: tuple[int, ...] = (64, 128)
    dense: tuple[int, ...] = (1024,)
    critic_dense: tuple[int, ...] = (1024, 128)
    latent_dense: tuple[int, ...] = (128, 1024)
    shared_features: tuple[int, int] = (512, 256)
    first_dense: tuple[int, ...] = (128, 1024)
    first_up: tuple[int, ...] = (128,)
    down: tuple[int, ...] = (64, 128, 256, 512, 512)
    second_up: tuple[int, ...] = (128, 64)
    noise: int = 0

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("model.name", self.name, ("sequential", "plain"))
        checks.whole("model.latent", self.latent, 1)
        checks.whole("model.noise", self.noise)
        for name, value in self._asdict().items():
            for width in value if isinstance(value, tuple) else ():
                checks.whole(f"model.{name}", width, 1)


class Gan(NamedTuple):
    """How the networks are taught.

    Attributes:
        schedule: "semi", by pairs and by critics; "supervised", by pairs, and a
            critic of latent vectors; "unsupervised", by critics.
        order: which modality is made first: that in front ("given"), or that
            which `complexity` finds "simpler_first" or "simpler_last".
        complexity: a name of `features.complexity`, of the training images. The
            paper's is unknown.
        conditional: whether images are made of a class, which critics see too.
            The released code makes all classes alike.
        unpaired: which images critics see as real: those of all rows ("own"),
            or the very pairs ("pairs"), as in the released code.
        penalty: weight of the gradient penalty.
        warmup: steps in which it rises to that.
        compat: "released" repeats the released code's slip in the penalty, with
            all classes alike.
        joint: whether a critic sees both modalities of known pairs together,
            "beside" what these teach the second generator directly, or
            "instead" of it; or "none", as in the paper.
        pairs: how known pairs teach the second generator: by the mean
            difference ("l1"), as in the paper, or by the energy score of two
            images of one ("energy"), which needs `model.noise`.
        every: steps from one turn of the generators to the next.
        repeats: turns of the second generator in it.
        rollbacks: how often training goes back to the last sound evaluation,
            with half the rate, where a number is none any more; then it fails.
    """

    schedule: str = "semi"
    order: str = "given"
    complexity: str = "pca_participation"
    conditional: bool = False
    unpaired: str = "own"
    penalty: float = 10.0
    warmup: int = 0
    compat: str | None = None
    joint: str = "none"
    pairs: str = "l1"
    every: int = 3
    repeats: int = 2
    rollbacks: int = 3

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("gan.schedule", self.schedule, adversarial.SCHEDULES)
        checks.choice("gan.order", self.order, ORDERS)
        checks.choice("gan.complexity", self.complexity, complexity.names())
        checks.choice("gan.unpaired", self.unpaired, ("own", "pairs"))
        checks.in_range("gan.penalty", self.penalty, 0)
        checks.whole("gan.warmup", self.warmup)
        if self.compat is not None:
            checks.choice("gan.compat", self.compat, wasserstein.COMPAT)
        checks.choice("gan.joint", self.joint, adversarial.JOINT)
        if self.joint != "none" and self.schedule != "semi":
            raise checks.UsageError(
                f"gan.joint is {self.joint!r}, but only gan.schedule='semi' has"
                f" both critics and pairs, not {self.schedule!r}; choose"
                " 'none'."
            )
        checks.choice("gan.pairs", self.pairs, adversarial.PAIRS)
        checks.whole("gan.every", self.every, 1)
        checks.whole("gan.repeats", self.repeats, 1)
        checks.whole("gan.rollbacks", self.rollbacks)


class Optimizer(NamedTuple):
    """Adam, one a loss, so that losses weigh by their rates.

    Attributes:
        learning_rate: constant.
        b1: memory of the slope.
        b2: memory of its square.
        critic: rate of the critics over `learning_rate`.
        adversarial: of generators against critics, likewise.
        pairs: of what pairs teach, likewise.
        average: share of before in a moving average of the generators, which
            are those in the end; 0 keeps none.
    """

    learning_rate: float = 1e-4
    b1: float = 0.0
    b2: float = 0.9
    critic: float = 1.0
    adversarial: float = 1.0
    pairs: float = 1.0
    average: float = 0.0

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        for name in ("learning_rate", "critic", "adversarial", "pairs"):
            value = getattr(self, name)
            checks.in_range(f"optimizer.{name}", value, 0, open_low=True)
        for name in ("b1", "b2", "average"):
            value = getattr(self, name)
            checks.in_range(f"optimizer.{name}", value, 0, 0.99999)


class Train(NamedTuple):
    """How long and on what.

    Attributes:
        epochs: of `steps` steps.
        steps: of an epoch, a multiple of `gan.every`.
        batch: images of each kind a step.
        evaluate_every: epochs between evaluations.
        checkpoint_every: epochs between checkpoints.
        select_on: split that chooses the best epoch; it needs pairs.
        score: by which: "fidelity", of what is made of normal vectors, or
            "ssim", of the second modality made of the first
            (`recipes.gan_scores`).
        hardware: "ideal", or "fresh_chips": images are made on a new chip in
            every turn; critics are ideal.
        devices: that train: "one", or "all", which share every batch.
        watch: whether evaluations write the metrics of the test split too.
    """

    epochs: int
    steps: int
    batch: int
    evaluate_every: int
    checkpoint_every: int
    select_on: str = "valid"
    score: str = "fidelity"
    hardware: str = "ideal"
    devices: str = "one"
    watch: bool = False

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.whole("train.epochs", self.epochs)
        for name in ("steps", "batch", "evaluate_every", "checkpoint_every"):
            checks.whole(f"train.{name}", getattr(self, name), 1)
        checks.choice("train.select_on", self.select_on, ("valid", "test"))
        checks.choice("train.score", self.score, gan_scores.SCORES)
        checks.choice("train.hardware", self.hardware, ("ideal", "fresh_chips"))
        checks.choice("train.devices", self.devices, ("one", "all"))


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: Pairs
    model: Model
    gan: Gan
    optimizer: Optimizer
    train: Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    given = settings.unpack_sections(Settings, config)
    steps, every = given.train.steps, given.gan.every
    if given.gan.schedule != "supervised" and steps % every:
        raise checks.UsageError(
            f"train.steps is {steps}, but generators have a turn every {every}"
            f" steps (gan.every); choose a multiple, such as"
            f" {-(-steps // every) * every}."
        )
    if given.gan.compat is not None and given.gan.conditional:
        # Labels are channels, which would be slopes of 0 there.
        raise checks.UsageError(
            f"gan.compat is {given.gan.compat!r}, which repeats code without"
            " classes, but gan.conditional is True; choose one of them."
        )
    if given.gan.pairs == "energy" and not given.model.noise:
        raise checks.UsageError(
            "gan.pairs is 'energy', but model.noise is 0, so that all images of"
            " one are the same; give it numbers, such as 4, or choose 'l1'."
        )
    return given


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
