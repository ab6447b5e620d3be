"""What a chip does before it is tested: it sets its ranges, and learns."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.hardware import calibration
from jaxedge.recipes.recipe import Recipe
from jaxedge.recipes.settings import Design
from jaxedge.run import sweeps


def settled(recipe: Recipe, key: jax.Array, chip: Any, test: Any) -> Any:
    """Variables of a programmed chip, once it has set its ranges and learned.

    Args:
        recipe: says whether it learns.
        key: of the chip.
        chip: variables with its parameters.
        test: `study.Frames`, with samples and lessons if it needs any.
    """
    if test.samples is not None:
        params = calibration.fit(
            chip["params"],
            lambda params: recipe.forward(
                {**chip, "params": params}, test.samples
            ),
        )
        chip = {**chip, "params": params}
    if recipe.adapt is not None:
        chip = recipe.adapt(chip, test.lessons, stream(key, "lessons"))
    return chip


def check_lessons(recipe: Recipe, source: data.Source | None) -> None:
    """Raises UsageError if chips are to learn from more than there is."""
    if recipe.adapt is None:
        return
    if source is None or len(source.y) < recipe.lessons:
        have = 0 if source is None else len(source.y)
        raise checks.UsageError(
            f"chips learn from {recipe.lessons} examples, but there are {have};"
            " lower learn.chip_examples."
        )


def calibrated(spec: Design, swept: Sequence[sweeps.Sweep] = ()) -> bool:
    """Whether some chips of a study set the ranges of their converters."""
    return bool(calibration.asked(spec)) or any(
        sweep.field in calibration.ASKS.get(type(spec), ()) for sweep in swept
    )
