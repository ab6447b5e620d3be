"""A language model that learns to tell the next token of a text.

A LLaMA-shaped decoder, trained by gradient as every classifier is: its classes
are the tokens, and it has one answer a position.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models.transformer import Decoder
from jaxedge.recipes import optimizers, scores, settings, supervised
from jaxedge.recipes.recipe import Recipe


class Model(NamedTuple):
    """The decoder; see `jaxedge.models.transformer`.

    Attributes:
        width: of a token, an even multiple of `heads`.
        hidden: width of the feed-forward parts.
        depth: layers.
        heads: of the attention.
        kv_heads: with keys of their own, a divisor of `heads`.
    """

    width: int
    hidden: int
    depth: int
    heads: int
    kv_heads: int

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        for name, value in self._asdict().items():
            checks.whole(f"model.{name}", value, 1)
        if self.width % (2 * self.heads) or self.heads % self.kv_heads:
            raise checks.UsageError(
                f"model.width is {self.width}, model.heads {self.heads} and"
                f" model.kv_heads {self.kv_heads}, but the width must be an"
                " even multiple of the heads, these one of the heads of keys."
            )


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Text
    model: Model
    optimizer: optimizers.Optimizer
    train: settings.Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    given = settings.unpack_sections(Settings, config)
    settings.check_unused("train.score", given.train)
    return given


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
) -> Recipe:
    """The recipe of a config.

    Its evaluations find loss (nats a token), perplexity and accuracy, the share
    of the next tokens that are told right.

    Args:
        given: from `parse`.
        example: [1, T] tokens, int32.
        classes: number of tokens of the vocabulary.
        steps_per_epoch: for the learning-rate schedule.
        data_root: not looked at; this recipe reads no files.
        chip: programs the chip of `train.hardware` "one_chip".
    """
    del data_root
    return supervised.make(
        Decoder(classes, *given.model),
        jnp.asarray(example),
        supervised.weights_rule(),
        optimizers.make(given.optimizer, given.train.epochs, steps_per_epoch),
        supervised.place(
            given.train.hardware,
            settings.make_plan(given.hardware),
            given.train.input_ranges,
            chip,
        ),
        score=scores.NEXT_TOKEN,
        average=given.optimizer.average,
        dtype=given.train.dtype,
    )


__all__ = ["Model", "Settings", "build", "parse"]
