"""Radiomics-informed deep learning of volumes: RIDL, arXiv:2308.06933.

Radiomics enters a network in two places, as maps beside its first features and
as numbers beside its last, and a loss keeps what it learns apart from what
radiomics tells already (`learn.decorrelate`). It also reconstructs its input.
Every part can be left out: no maps (`radiomics.radii` empty), no numbers
(`radiomics.most` 0), no de-correlation or reconstruction (their weights 0); and
the network starts from one that saw no radiomics (`model.start`).

Letters: B batch, Z, Y, X axes of a volume, C channels, L local maps, G global
features, F deep features.
"""

from collections.abc import Callable, Mapping
import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.data import phantom_volumes
from jaxedge.learn import decorrelate
from jaxedge.models.radiomics_net import GLOBAL, LOCAL, VOLUME, RadiomicsNet
from jaxedge.recipes import (
    classifier,
    optimizers,
    radiomic_inputs,
    ridl_start,
    settings,
    supervised,
)
from jaxedge.recipes.recipe import Recipe
from jaxedge.recipes.supervised import TERMS

# What the network tells besides its answers, for pictures.
DEEP = ridl_start.DEEP
RECONSTRUCTION, DECORRELATION = "reconstruction", "decorrelation"
_BANK = "bank"
_BALANCED = 64  # Examples by which deep features are scaled.
# Of the levels between the first and the last (ridl 3).
_DILATIONS = RadiomicsNet.dilations


class Volumes(NamedTuple):
    """Which volumes.

    Attributes:
        name: "phantom_volumes", made on the spot, or "volume_folder", files.
        fold: of cross-validation: the test part, the next one validates.
        size: Z, Y and X of a volume, or of what is cut out around a region.
        cue: of phantoms, what their class depends on.
        n: of phantoms, how many of all folds; None is their module's number.
        seed: of phantoms.
        label: of files, number of the region in the masks.
        resample: of files, whether masks on another grid are put onto their
            image's.
    """

    name: str
    fold: int = 0
    size: tuple[int, ...] = phantom_volumes.SIZE
    cue: str = "both"
    n: int | None = None
    seed: int = 0
    label: int = 1
    resample: bool = False

    def check(self) -> None:
        """Raises UsageError for a data set that has no volumes."""
        checks.choice("data.name", self.name, tuple(_OPTIONS))

    @property
    def options(self) -> dict[str, Any]:
        """Of `jaxedge.data.load`, which checks them."""
        return {name: getattr(self, name) for name in _OPTIONS[self.name]}


_OPTIONS = {
    "phantom_volumes": ("fold", "size", "cue", "n", "seed"),
    "volume_folder": ("fold", "size", "label", "resample"),
}


class Model(NamedTuple):
    """The network.

    Attributes:
        widths: channels of its levels, at least 3.
        dropout: rate behind its levels.
        start: folder of a finished run without radiomics, whose weights it
            starts from; but for the classifier, which is drawn anew, and what
            a layer has for radiomics. None draws all.
        balance: whether the classifier begins as if deep features had mean 0
            and deviation 1, see `ridl_start`; all weights that are drawn are
            then drawn from a fixed key.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    dropout: float = 0.3
    start: str | None = None
    balance: bool = False

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        if len(self.widths) < 3:
            raise checks.UsageError(
                f"model.widths is {self.widths}, but must have 3 numbers at"
                " least, the channels of each level."
            )
        for width in self.widths:
            checks.whole("model.widths", width, 1)
        checks.in_range("model.dropout", self.dropout, 0, 0.999)


class Losses(NamedTuple):
    """The section `losses`: weights of what is minimised beside the labels.

    Attributes:
        reconstruct: of the reconstructions.
        coarse: share of all but the finest of them.
        coarse_drop: by which that share is multiplied after each of
            `coarse_epochs`.
        coarse_epochs: see `coarse_drop`.
        decorrelate: of the correlation of deep and radiomic features.
        rows: examples over which it is taken.
        decay: weight of an example that is one step older.
        squared: whether correlations count by their squares.
        begin: epoch from which on it counts, the first being 0.
    """

    reconstruct: float = 1.0
    coarse: float = 0.33
    coarse_drop: float = 0.8
    coarse_epochs: tuple[int, ...] = (10, 20)
    decorrelate: float = 2.0
    rows: int = 25
    decay: float = 0.99
    squared: bool = False
    begin: int = 2

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        for name in ("reconstruct", "coarse", "decorrelate"):
            checks.in_range(f"losses.{name}", getattr(self, name), 0)
        checks.in_range(
            "losses.coarse_drop", self.coarse_drop, 0, 1, open_low=True
        )
        for epoch in self.coarse_epochs:
            checks.whole("losses.coarse_epochs", epoch, 1)
        checks.whole("losses.rows", self.rows, 2)
        checks.in_range("losses.decay", self.decay, 0, 1, open_low=True)
        checks.whole("losses.begin", self.begin)


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: Volumes
    model: Model
    radiomics: radiomic_inputs.Radiomics
    losses: Losses
    optimizer: optimizers.Optimizer
    train: settings.Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    given = settings.unpack_sections(Settings, config)
    if given.train.batch > given.losses.rows:
        raise checks.UsageError(
            f"train.batch is {given.train.batch}, but losses.rows is"
            f" {given.losses.rows}; a batch must fit into these."
        )
    return given


def prepare(
    given: Settings, splits: Mapping[str, data.Source]
) -> tuple[dict[str, data.Source], int]:
    """Volumes with their radiomics, see `radiomic_inputs.add`."""
    found = radiomic_inputs.add(given.radiomics, splits)
    return found, len(found["train"].y)


class Informed(nn.Module):
    """A network of volumes with radiomics, whose losses need what it does.

    Attributes:
        net: the network.
        rows: of the bank over which correlations are taken.
        decay: weight of a row that is one step older.
        squared: whether correlations count by their squares.
        reconstructs: whether it is trained to reconstruct.
        decorrelates: whether correlations are taken.
    """

    net: RadiomicsNet
    rows: int = 25
    decay: float = 0.99
    squared: bool = False
    reconstructs: bool = True
    decorrelates: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """Scores of two classes, [B, 2].

        Args:
            x: [B, Z, Y, X, 2 + L + G], from `radiomic_inputs.add`.
            train: whether losses are told, in `TERMS`.
            key: read key, consumed.
        """
        volume, local, radiomic = radiomic_inputs.apart(x, self.net.local_maps)
        inputs = {VOLUME: volume, LOCAL: local, GLOBAL: radiomic}
        told = self.net(
            inputs,
            train=train,
            key=key,
            reconstruct=train and self.reconstructs,
        )
        self.sow("intermediates", DEEP, told.deep_BxF)
        self.sow("intermediates", GLOBAL, radiomic)
        if train and self.reconstructs:
            fine, coarse = _reconstruction(told.reconstructions, volume)
            self.sow(TERMS, "fine", fine)
            self.sow(TERMS, "coarse", coarse)
        if self.decorrelates:
            self._decorrelate(told.deep_BxF, radiomic, train)
        zeros = jnp.zeros_like(told.logits_B)
        return jnp.stack([zeros, told.logits_B], -1)

    def _decorrelate(
        self, deep_BxF: jax.Array, radiomic_BxG: jax.Array, train: bool
    ) -> None:
        """Keeps the last examples, and tells how correlated they are."""
        bank = self.variable(
            "batch_stats",
            _BANK,
            decorrelate.empty,
            self.rows,
            deep_BxF.shape[-1],
            radiomic_BxG.shape[-1],
        )
        if not train or self.is_initializing():
            return
        last = decorrelate.push(
            bank.value,
            deep_BxF.astype(jnp.float32),
            radiomic_BxG.astype(jnp.float32),
        )
        value = decorrelate.loss(
            last.deep_BxF,
            last.radiomic_BxG,
            last.ages_B,
            decay=self.decay,
            squared=self.squared,
            valid_B=last.filled_B,
        )
        self.sow(TERMS, DECORRELATION, value)
        bank.value = jax.lax.stop_gradient(last)


def _reconstruction(
    found: tuple[jax.Array, ...], volume: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of the finest level, and of all others together (ridl 4)."""
    image, region = volume[..., 0], volume[..., 1]

    def error(level: jax.Array) -> jax.Array:
        level = level.astype(jnp.float32)
        missed = jnp.abs(level[..., 0] - image).mean()
        # Cross-entropy of sigmoids, without overflow.
        logit = level[..., 1]
        entropy = jax.nn.softplus(logit) - region * logit
        return missed + entropy.mean()

    errors = [error(level) for level in found]
    rest = sum(errors[:-1], start=jnp.zeros(()))
    return errors[-1], rest


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
    splits: Mapping[str, data.Source] | None = None,
    **how: Any,
) -> Recipe:
    """The recipe of a config.

    Args:
        given: from `parse`.
        example: [1, ...] inputs, from `prepare`.
        classes: 2.
        steps_per_epoch: for schedules.
        data_root: not looked at.
        chip: programs the chip of `train.hardware` "one_chip".
        splits: from `prepare`, by whose training split deep features are
            balanced; without them they are not.
        **how: further arguments of `classifier.assemble`.

    Raises:
        UsageError: for a run to start from that is missing or of another
            network.
    """
    del data_root
    example = jnp.asarray(example)
    model = network(given, example.shape[-1])
    start = None
    if given.model.start is not None:
        start = ridl_start.started(model, example, given.model.start)
    if given.model.balance and splits is not None:
        if start is None:
            start = jax.jit(model.init)(jax.random.key(0), example)
        start = ridl_start.balanced(model, start, splits["train"].x[:_BALANCED])
    return classifier.assemble(
        given,
        supervised.weights_rule(),
        example,
        classes,
        steps_per_epoch,
        chip,
        model=model,
        start=start,
        augment=flips,
        terms=terms(given.losses, model, steps_per_epoch),
        **how,
    )


def network(given: Settings, channels: int) -> Informed:
    """The network of a config, for volumes of so many channels."""
    local = len(given.radiomics.radii)
    radiomic = channels - radiomic_inputs.CHANNELS - local
    levels = len(given.model.widths) - 2
    return Informed(
        RadiomicsNet(
            local,
            radiomic,
            given.model.widths,
            _DILATIONS[:levels] + _DILATIONS[-1:] * (levels - len(_DILATIONS)),
            given.model.dropout,
        ),
        given.losses.rows,
        given.losses.decay,
        given.losses.squared,
        given.losses.reconstruct > 0,
        given.losses.decorrelate > 0 and radiomic > 0,
    )


def terms(
    given: Losses, model: Informed, steps_per_epoch: int
) -> supervised.Terms:
    """Weights of what the network tells in training, of the steps done."""

    def epoch(step: jax.Array) -> jax.Array:
        return step // max(steps_per_epoch, 1)

    def coarse(step: jax.Array) -> jax.Array:
        ends = jnp.array(given.coarse_epochs, jnp.int32)
        dropped = (epoch(step) >= ends).sum()
        share = given.coarse * given.coarse_drop**dropped
        return given.reconstruct * share

    def apart(step: jax.Array) -> jax.Array:
        return jnp.where(epoch(step) >= given.begin, given.decorrelate, 0.0)

    found: dict[str, Callable[[jax.Array], jax.Array]] = {}
    if model.reconstructs:
        found["fine"] = lambda step: jnp.float32(given.reconstruct)
        found["coarse"] = coarse
    if model.decorrelates:
        found[DECORRELATION] = apart
    return found


def flips(key: jax.Array, batch: Any) -> Any:
    """Every volume mirrored along each axis, or not, at random."""
    x = batch.x
    for axis in (1, 2, 3):
        turned = jax.random.bernoulli(
            stream(key, "flip", axis), 0.5, (len(x), 1, 1, 1, 1)
        )
        x = jnp.where(turned, jnp.flip(x, axis), x)
    return batch._replace(x=x)


__all__ = [
    "Informed",
    "Losses",
    "Model",
    "Settings",
    "Volumes",
    "build",
    "flips",
    "network",
    "parse",
    "prepare",
    "terms",
]
