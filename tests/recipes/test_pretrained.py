import jax
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError

UNFOLDED = {"model.fold": False}


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_it_starts_from_the_published_arrays_whatever_the_key(tuned, published):
    recipe = tuned(UNFOLDED)
    for seed in (0, 1):
        state = recipe.init(jax.random.key(seed))
        found = recipe.finish(state)
        assert jax.tree.structure(found) == jax.tree.structure(published[1])
        jax.tree.map(np.testing.assert_array_equal, found, published[1])


def test_a_folded_network_says_the_same(tuned, batch):
    key = jax.random.key(0)
    plain, folded = tuned(UNFOLDED), tuned()
    variables = [r.finish(r.init(key)) for r in (plain, folded)]
    assert len(leaves(variables[1])) < len(leaves(variables[0]))
    want, got = (
        r.forward(v, batch(0).x)
        for r, v in zip((plain, folded), variables, strict=True)
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_only_kernels_are_put_on_the_chip(tuned):
    recipe = tuned()
    params = recipe.finish(recipe.init(jax.random.key(0)))["params"]
    spec = hardware.crossbar.Spec(hardware.devices.get("ideal"))
    chip = hardware.deploy(jax.random.key(1), params, spec)
    assert hardware.is_weight(chip["Unit_0"]["Conv_0"]["kernel"])
    assert not hardware.is_weight(chip["Unit_0"]["Conv_0"]["bias"])


def test_tuning_lowers_the_loss_on_chips(tuned, batch):
    recipe = tuned(
        {
            "train.hardware": "fresh_chips",
            "hardware.overrides": {"program_noise": 0.05},
            "optimizer.learning_rate": 0.05,
        }
    )
    state, update = recipe.init(jax.random.key(0)), jax.jit(recipe.update)
    losses = []
    for _ in range(30):
        state, sums = update(state, batch(0))
        losses.append(float(sums["loss"]))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_statistics_move_where_they_are_kept(tuned, batch):
    recipe = tuned(UNFOLDED)
    state = recipe.init(jax.random.key(0))
    after, _ = jax.jit(recipe.update)(state, batch(0))
    for a, b in zip(leaves(state.stats), leaves(after.stats), strict=True):
        assert (a != b).all()


def test_a_missing_file_or_root_is_named(tuned, monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="no checkpoint .*absent.npz"):
        tuned({"model.path": str(tmp_path / "absent.npz")})
    monkeypatch.delenv("JAXEDGE_DATA", raising=False)
    with pytest.raises(UsageError, match="'small' needs a data root; give --d"):
        tuned({"model.path": None})
    monkeypatch.setenv("JAXEDGE_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="checkpoints/small.npz"):
        tuned({"model.path": None})


def test_an_unknown_checkpoint_is_named(tuned):
    with pytest.raises(UsageError, match="unknown model.checkpoint 'smal'"):
        tuned({"model.checkpoint": "smal"})


def test_a_network_for_other_data_is_refused(tuned):
    with pytest.raises(UsageError, match=r"takes inputs.*\(32, 32, 3\).*digit"):
        tuned({"model.checkpoint": "resnet20_cifar10_akamaster"})
