"""A data set as every chip of a study reads it: frames of one size."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.recipes.recipe import Recipe


class Frames(NamedTuple):
    """A test set as frames of one size: x [F, B, ...], y and weight [F, B].

    `aux`, by name [F, B], is what else an evaluation knows of the examples.
    `x` may be what `Recipe.prepare` made of it. `samples`, [B, ...], are what
    a chip sets the ranges of its converters with; None sets none. `lessons`,
    frames of the training set, are what it learns from where the recipe has
    chips learn.
    """

    x: Any
    y: Any
    weight: Any
    samples: jax.Array | None = None
    lessons: Any = None
    aux: Any = None


def frames(source: data.Source, batch: int) -> Frames:
    """Stacks a source into frames; padding weighs 0."""
    size = min(batch, len(source.y))
    rows = [
        Frames(b.x, b.y, b.weight, aux=b.aux)
        for b in data.in_order(source, size)
    ]
    return jax.tree.map(lambda *a: jnp.asarray(np.stack(a)), *rows)


def prepared(recipe: Recipe, test: Frames) -> Frames:
    """Frames, and their lessons, of inputs as the recipe prepares them."""
    if recipe.prepare is None:
        return test
    find = jax.jit(functools.partial(jax.lax.map, recipe.prepare))
    lessons = test.lessons
    if lessons is not None:
        lessons = lessons._replace(x=find(lessons.x))
    return test._replace(x=find(test.x), lessons=lessons)
