"""Tests of checkpoints: what comes back, what is kept, what is passed over."""

import logging
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxedge.run import checkpoint
from jaxedge.run.checkpoint import Checkpoints


class State(NamedTuple):
    """All kinds of leaves that a recipe may carry."""

    weights: jax.Array
    key: jax.Array
    rest: Any


def tree(i):
    """The state of step `i`; no two are alike."""
    rng = np.random.default_rng(i)
    return State(
        weights=jnp.asarray(rng.normal(size=(30, 7)), jnp.float32),
        key=jax.random.fold_in(jax.random.key(5), i),
        rest={
            "step": jnp.int32(i),
            "mask": jnp.asarray(rng.integers(0, 2, 9), bool),
            "half": jnp.asarray(rng.normal(size=4), jnp.bfloat16),
            "keys": jax.random.split(jax.random.key(i), 3),
            "nan": jnp.array([jnp.nan, -0.0, jnp.inf]),
            "none": None,
            "empty": (),
            "list": [jnp.float32(i), (jnp.arange(3),)],
        },
    )


LIKE = jax.eval_shape(lambda: tree(0))


def assert_same(a, b):
    """Structure, dtypes and bits agree."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def save(folder, accuracies):
    """Saves steps 1, 2, ... with these accuracies."""
    checkpoints = Checkpoints(folder, "accuracy")
    for step, accuracy in enumerate(accuracies, 1):
        metrics = None if accuracy is None else {"accuracy": accuracy}
        checkpoints.save(step, tree(step), metrics)
    checkpoints.close()


def reopened(folder):
    """(latest, best) as a new process finds them."""
    checkpoints = Checkpoints(folder, "accuracy")
    found = checkpoints.latest(LIKE), checkpoints.best(LIKE)
    checkpoints.close()
    return found


def assert_found(folder, latest, best):
    for found, step in zip(reopened(folder), (latest, best), strict=True):
        assert found is not None and found[0] == step
        assert_same(found[1], tree(step))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 1 (the best), 2 and 3; do not write here."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    save(folder, [0.9, 0.5, 0.6])
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of `saved`."""
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def test_nothing_saved_is_none(tmp_path):
    assert reopened(tmp_path / "a" / "b") == (None, None)


def test_a_tree_comes_back(tmp_path):
    save(tmp_path, [0.5])
    assert_found(tmp_path, 1, 1)


def test_a_relative_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("relative", [0.5])
    assert_found("relative", 1, 1)
    assert (tmp_path / "relative" / "1").is_dir()


@pytest.mark.parametrize("at_once", [True, False])
def test_latest_and_best_outlive_many_saves(tmp_path, at_once):
    accuracies = [0.1, 0.3, 0.8, 0.2, None, 0.7, 0.79, 0.1, 0.0, None]
    checkpoints = Checkpoints(tmp_path, "accuracy")
    for step, accuracy in enumerate(accuracies, 1):
        metrics = None if accuracy is None else {"accuracy": accuracy}
        checkpoints.save(step, tree(step), metrics)
        if not at_once:  # every save by a process of its own
            checkpoints.close()
            checkpoints = Checkpoints(tmp_path, "accuracy")
    checkpoints.close()
    assert_found(tmp_path, 10, 3)
    steps = {int(path.name) for path in tmp_path.iterdir()}
    assert steps == {3, 9, 10}


def test_of_equal_metrics_the_latest_is_best(tmp_path):
    save(tmp_path, [0.1, 0.8, 0.8, 0.2, 0.2])
    assert_found(tmp_path, 5, 3)


def test_what_has_no_metric_is_never_best(tmp_path):
    save(tmp_path, [0.0, None, None, None])
    assert_found(tmp_path, 4, 1)


def test_a_step_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path, "accuracy")
    checkpoints.save(1, tree(1), {"accuracy": 0.5})
    # At once and after it is on disk; a loop asked to stop does both.
    checkpoints.save(1, tree(2), None)
    checkpoints.wait()
    checkpoints.save(1, tree(3), {"accuracy": 0.9})
    checkpoints.close()
    assert_found(tmp_path, 1, 1)


def test_a_donated_state_is_saved_as_it_was(tmp_path):
    add = jax.jit(lambda a: a + 1, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, "accuracy")
    state = jnp.zeros((1000, 1000))
    for step in range(4):
        checkpoints.save(step, {"a": state}, {"accuracy": -step})
        for _ in range(5):
            state = add(state)
    like = jax.eval_shape(lambda: {"a": state})
    for found, step in (
        (checkpoints.latest(like), 3),
        (checkpoints.best(like), 0),
    ):
        assert found is not None and found[0] == step
        assert (np.asarray(found[1]["a"]) == 5 * step).all()
    checkpoints.close()


def test_a_restored_key_draws_as_before(folder):
    found = reopened(folder)[0]
    assert found is not None
    np.testing.assert_array_equal(
        jax.random.normal(found[1].key, (3,)),
        jax.random.normal(tree(3).key, (3,)),
    )


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def delete(path):
    path.unlink()


def other_json(path):
    path.write_bytes(b'{"a": [1]}')


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def warnings_of(caplog):
    """Of this module alone: asyncio tells late of reads of another test."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == checkpoint.__name__
        and record.levelno == logging.WARNING
    ]


@pytest.mark.parametrize("step", [3, 1])
@pytest.mark.parametrize("damage", [truncate, empty, flip, delete, other_json])
def test_damage_to_any_file_costs_one_checkpoint(
    saved, tmp_path, damage, step, caplog
):
    """Either the right state of that step comes back or that of another."""
    for i, file in enumerate(files(saved / str(step))):
        copy = tmp_path / str(i)
        shutil.copytree(saved, copy)
        target = copy / file.relative_to(saved)
        if target.stat().st_size == 0 and damage in (truncate, flip, empty):
            continue
        damage(target)
        caplog.clear()
        latest, best = reopened(copy)
        name = target.relative_to(copy)
        assert latest is not None and best is not None, name
        assert latest[0] in ((3, 2) if step == 3 else (3,)), name
        assert best[0] in ((1,) if step == 3 else (1, 3)), name
        for number, state in (latest, best):
            assert_same(state, tree(number))
        if (latest[0], best[0]) != (3, 1):
            warned = warnings_of(caplog)
            assert any(f"checkpoint {step} of" in text for text in warned), name
            assert all("\n" not in text for text in warned)


def test_a_damaged_latest_can_be_saved_again(folder):
    truncate(folder / "3" / "state" / "manifest.ocdbt")
    checkpoints = Checkpoints(folder, "accuracy")
    found = checkpoints.latest(LIKE)
    assert found is not None and found[0] == 2
    checkpoints.save(3, tree(3), {"accuracy": 0.6})
    checkpoints.close()
    assert_found(folder, 3, 1)


def test_a_damaged_best_gives_way_to_the_next(folder, caplog):
    truncate(folder / "1" / "state" / "manifest.ocdbt")
    assert_found(folder, 3, 3)
    assert "checkpoint 1 of" in caplog.text


def replace_state(folder, step, state):
    """Another sound state in place of a step's: only the digest tells."""
    shutil.rmtree(folder / str(step) / "state")
    host = jax.device_get(checkpoint._plain(state))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / str(step) / "state", host)


def test_the_digest_catches_a_silent_change(folder, caplog):
    replace_state(folder, 3, tree(3))
    assert_found(folder, 3, 1)  # the replacement as such does no harm
    changed = tree(3)._replace(weights=tree(3).weights.at[4, 2].add(1e-6))
    replace_state(folder, 3, changed)
    assert_found(folder, 2, 1)
    assert "differ from their digest" in caplog.text


def test_half_written_folders_are_passed_over(folder, caplog):
    # What a kill leaves: a folder under orbax's temporary name.
    for name in ("4.orbax-checkpoint-tmp", "5.orbax-checkpoint-tmp-123"):
        shutil.copytree(folder / "3", folder / name)
        shutil.rmtree(folder / name / "state")
    (folder / "notes.txt").write_text("not a checkpoint")
    assert_found(folder, 3, 1)
    assert not warnings_of(caplog)
    checkpoints = Checkpoints(folder, "accuracy")
    checkpoints.save(4, tree(4), {"accuracy": 0.7})
    checkpoints.close()
    assert_found(folder, 4, 1)


@pytest.mark.parametrize("lost", ["state", "digest", "everything"])
def test_a_step_without_its_parts_is_passed_over(folder, lost, caplog):
    shutil.copytree(folder / "3", folder / "5")
    if lost == "everything":
        shutil.rmtree(folder / "5")
        (folder / "5").mkdir()
    else:
        shutil.rmtree(folder / "5" / lost)
    assert_found(folder, 3, 1)
    assert "checkpoint 5 of" in caplog.text


def test_all_damaged_is_none(folder, caplog):
    for step in (1, 2, 3):
        truncate(folder / str(step) / "state" / "manifest.ocdbt")
    assert reopened(folder) == (None, None)
    for step in (1, 2, 3):
        assert f"checkpoint {step} of" in caplog.text
    save(folder, [0.4])
    assert_found(folder, 1, 1)


def test_warnings_are_one_line(folder, caplog):
    flip(folder / "3" / "state" / "manifest.ocdbt")
    reopened(folder)
    (text,) = warnings_of(caplog)
    assert "\n" not in text and len(text) < 500
    assert str(folder) in text and "the one before it" in text


def test_the_digest_tells_trees_apart():
    base = {"a": np.arange(6, dtype=np.float32), "b": np.float32(0)}
    others = [
        {**base, "a": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {**base, "a": np.arange(6, dtype=np.int32)},
        {**base, "b": np.float32(-0.0)},
        {**base, "b": np.float64(0)},
        {"a": base["a"][::-1], "b": base["b"]},
    ]
    assert checkpoint.digest(base) == checkpoint.digest(
        jax.tree.map(np.copy, base)
    )
    found = {checkpoint.digest(tree) for tree in [base, *others]}
    assert len(found) == 1 + len(others)


@pytest.mark.parametrize("clean", [False, True])
def test_half_written_checkpoints_go_when_asked(folder, clean):
    half = folder / "9.orbax-checkpoint-tmp-1"
    half.mkdir()
    (half / "part").write_text("x")
    checkpoints = Checkpoints(folder, "accuracy", clean=clean)
    checkpoints.save(99, {"w": np.ones(3)}, {"accuracy": 0.0})
    checkpoints.close()
    assert half.exists() != clean
