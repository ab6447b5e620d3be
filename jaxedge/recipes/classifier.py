"""Weights that are trained by gradient, on ideal hardware or on its chips.

The plain recipe: what differs from system to system is the hardware.
"""

from collections.abc import Callable
import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.recipes import optimizers, scores, settings, supervised
from jaxedge.recipes.recipe import Recipe


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Data
    model: settings.Model
    optimizer: optimizers.Optimizer
    train: settings.Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    return settings.unpack_sections(Settings, config)


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
    **how: Any,
) -> Recipe:
    """The recipe of a config.

    Args:
        given: from `parse`.
        example: [1, ...] inputs of the data set.
        classes: number of classes of the data set.
        steps_per_epoch: for the learning-rate schedule.
        data_root: not looked at; this recipe reads no files.
        chip: programs the chip of `train.hardware` "one_chip".
        **how: further arguments of `assemble`.
    """
    del data_root
    rule = supervised.weights_rule()
    return assemble(given, rule, example, classes, steps_per_epoch, chip, **how)


def assemble(
    given: Any,
    rule: supervised.Rule,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    chip: jax.Array | None,
    *,
    model: nn.Module | None = None,
    start: Any = None,
    augment: supervised.Augment | None = None,
    rates: Callable[[Any], Any] | None = None,
    optimiser: Callable[..., Any] | None = None,
    **how: Any,
) -> Recipe:
    """A network that learns by a rule.

    Args:
        given: settings with the sections of `Settings`.
        rule: what is learned.
        example: as for `build`, and so are the next three.
        classes: number of classes.
        steps_per_epoch: for the schedule.
        chip: programs the one chip.
        model: None makes that of `given.model`.
        start: variables to begin with; None draws them.
        augment: as for `supervised.make`; None is that of `given.data`.
        rates: as for `optimizers.make`.
        optimiser: rates -> an optax transformation; None is that of the config.
        **how: further arguments of `supervised.make`.
    """
    return supervised.make(
        model or settings.make_model(given.model, classes, example.shape[1:]),
        jnp.asarray(example),
        rule,
        optimiser(rates)
        if optimiser
        else optimizers.make(
            given.optimizer, given.train.epochs, steps_per_epoch, rates
        ),
        supervised.place(
            given.train.hardware,
            settings.make_plan(given.hardware),
            given.train.input_ranges,
            chip,
        ),
        start,
        score=scores.get(given.train.score, classes),
        augment=augment or supervised.crops(given.data.crop, example.shape[1:]),
        average=given.optimizer.average,
        dtype=given.train.dtype,
        **how,
    )


__all__ = ["Settings", "assemble", "build", "parse"]
