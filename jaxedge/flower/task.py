"""What server and clients know of a run: its config, and a few facts.

Both sides make their keys, their networks and their schedules of it, so that
messages hold only what one side cannot know.
"""

from collections.abc import Mapping
import json
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.recipes import federated, rounds
from jaxedge.recipes.recipe import Recipe
from jaxedge.run.chips import first_chip


class Facts(NamedTuple):
    """Of data that a server never sees.

    Attributes:
        shape: of one example.
        dtype: of the examples.
        labels: shape of one example's labels: () is one label.
        classes: the name of each label.
        rows: training examples of all clients.
    """

    shape: tuple[int, ...]
    dtype: str
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    rows: int


class Task(NamedTuple):
    """A run, resolved on one side of it.

    Attributes:
        config: plain.
        given: the recipe's settings.
        facts: of the data.
        names: of the clients.
        plan: how clients and server work together.
        recipe: what is trained.
        key: of the training.
    """

    config: Mapping[str, Any]
    given: federated.Settings
    facts: Facts
    names: tuple[str, ...]
    plan: rounds.Plan
    recipe: Recipe
    key: jax.Array


def of_job(resolved: Any) -> Task:
    """The task of a checked config, by whoever has the data of all clients.

    Args:
        resolved: from `run.job.resolve`.

    Raises:
        UsageError: for another recipe than "federated", or one that begins
            with examples of all clients.
    """
    _check_recipe(resolved.config)
    train = resolved.splits["train"]
    facts = Facts(
        tuple(train.x.shape[1:]),
        train.x.dtype.name,
        tuple(train.y.shape[1:]),
        tuple(train.classes),
        len(train.y),
    )
    return make(resolved.config, facts, resolved.splits)


def make(
    config: Mapping[str, Any],
    facts: Facts,
    splits: Mapping[str, data.Source] | None = None,
) -> Task:
    """The task of a config.

    Args:
        config: plain, of a checked one.
        facts: of the data.
        splits: what is here of it; None is nothing.

    Raises:
        UsageError: as `of_job`.
    """
    _check_recipe(config)
    given = federated.parse(ConfigDict(_tuples(config)))
    key = jax.random.key(config["seed"])
    plan, recipe = federated.assemble(
        given,
        np.zeros((1, *facts.shape), facts.dtype),
        len(facts.classes),
        facts.rows // given.train.batch,
        None,
        first_chip(stream(key, "study")),
        {"train": _nothing(given, facts)} if splits is None else splits,
    )
    if recipe.begin is not None:
        raise checks.UsageError(
            "this config begins with what layers see of the first examples of"
            " all clients, which a server of a deployment does not have; set"
            " quantize and train.input_ranges so that nothing is found from"
            " data, or simulate it with `jaxedge run`."
        )
    names = tuple(federated.names(given))
    train = stream(key, "train")
    return Task(config, given, facts, names, plan, recipe, train)


def write(task: Task) -> str:
    """The task as text, for a message of Flower."""
    content = {"config": task.config, "facts": task.facts._asdict()}
    return json.dumps(content)


def read(text: str, splits: Mapping[str, data.Source] | None = None) -> Task:
    """The task of a text, see `make`."""
    content = json.loads(text)
    facts = Facts(**_tuples(content["facts"]))
    return make(content["config"], facts, splits)


def _check_recipe(config: Mapping[str, Any]) -> None:
    if config["recipe"] != "federated":
        raise checks.UsageError(
            f"config.recipe is {config['recipe']!r}, but clients of Flower run"
            " 'federated'; what each of them learns is federated.recipe."
        )


def _nothing(given: federated.Settings, facts: Facts) -> data.Source:
    """A training split without an example."""
    return data.Source(
        np.zeros((0, *facts.shape), facts.dtype),
        np.zeros((0, *facts.labels), np.int32),
        facts.classes,
        given.data.name,
        "train",
        {"site": np.zeros(0, np.int32)},
    )


def _tuples(value: Any) -> Any:
    """Tuples where JSON had to write lists."""
    if isinstance(value, Mapping):
        return {name: _tuples(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(entry) for entry in value)
    return value
