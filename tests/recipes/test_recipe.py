import jax.numpy as jnp
import pytest

from jaxedge import recipes
from jaxedge.core.checks import UsageError
from jaxedge.recipes import recipe


def test_sums_become_means_and_totals_stay():
    part = {"count": 4.0, "loss": 2.0, "accuracy": 3.0, "flips/total": 10.0}
    part = {name: jnp.float32(value) for name, value in part.items()}
    assert recipe.mean(part) == {"loss": 0.5, "accuracy": 0.75, "flips": 10.0}
    both = recipe.add(part, part | {"count": jnp.float32(12)})
    assert recipe.mean(both) == {
        "loss": 0.25,
        "accuracy": 0.375,
        "flips": 20.0,
    }
    assert all(isinstance(v, float) for v in recipe.mean(part).values())


def test_get_finds_recipes_by_name():
    module = recipes.get("edge_pruning")
    assert module is recipes.edge_pruning
    with pytest.raises(UsageError, match="mean 'edge_pruning'"):
        recipes.get("edge_prunning")
    with pytest.raises(UsageError, match="recipe 5. Known: classifier, deplm"):
        recipes.get(5)


def test_every_recipe_can_be_parsed_and_built():
    for name in recipes.RECIPES:
        module = recipes.get(name)
        assert callable(module.parse) and callable(module.build)
        assert module.Settings._fields


def test_metrics_need_not_be_means():
    sums = {"count": jnp.float32(2), "bins": jnp.array([1.0, 4.0])}
    found = recipe.mean(
        recipe.add(sums, sums), lambda sums: {"spread": jnp.ptp(sums["bins"])}
    )
    assert found == {"spread": 6.0}
