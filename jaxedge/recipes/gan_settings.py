"""The sections of a config of `recipes.sequential_gan`."""

from typing import Any, NamedTuple

from jaxedge.core import checks
from jaxedge.features import complexity
from jaxedge.learn import wasserstein
from jaxedge.recipes import adversarial, gan_scores, settings

ORDERS = ("given", "simpler_first", "simpler_last")
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
        given: what it makes these of: reconstructions of the first image
            ("made"), as in the released code, or that image itself ("real").
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
    given: str = "made"
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
        checks.choice("gan.given", self.given, adversarial.GIVEN)
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


__all__ = [
    "ORDERS",
    "Gan",
    "Model",
    "Optimizer",
    "Pairs",
    "Settings",
    "Train",
    "parse",
]
