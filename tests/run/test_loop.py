"""Tests of the loop: what it runs, keeps and reports, and exact resume."""

import json
import os
import signal
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.recipes.recipe import Recipe, Subset
from jaxedge.run import loop, metrics
from jaxedge.run.checkpoint import Checkpoints

ROWS, BATCH, EPOCHS = 23, 5, 4
PER_EPOCH = ROWS // BATCH  # 4: the last three rows of an order are dropped
STEPS = EPOCHS * PER_EPOCH


class State(NamedTuple):
    step: jax.Array
    key: jax.Array
    w: jax.Array
    reviews: jax.Array


def make_recipe(table=None):
    """Noisy softmax regression whose every step depends on key and step.

    Args:
        table: accuracies by epoch to report instead of the real ones.
    """

    def init(key):
        w = 0.1 * jax.random.normal(stream(key, "w"), (3, 4))
        return State(jnp.int32(0), key, w, jnp.float32(0))

    def sums(w, batch):
        logp = jax.nn.log_softmax(batch.x @ w)
        loss = -jnp.take_along_axis(logp, batch.y[:, None], 1)[:, 0]
        right = (logp.argmax(1) == batch.y).astype(jnp.float32)
        return {
            "count": batch.weight.sum(),
            "loss": (loss * batch.weight).sum(),
            "accuracy": (right * batch.weight).sum(),
        }

    def update(state, batch):
        def mean(w):
            parts = sums(w, batch)
            return parts["loss"] / parts["count"], parts

        slope, parts = jax.grad(mean, has_aux=True)(state.w)
        noise = jax.random.normal(
            stream(state.key, "noise", state.step), state.w.shape
        )
        w = state.w - 0.3 * slope + 0.05 * noise
        state = state._replace(step=state.step + 1, w=w)
        return state, parts | {"steps/total": jnp.float32(1)}

    def finish(state):
        return {"w": state.w, "epoch": state.step // PER_EPOCH}

    def evaluate(variables, batch, key=None):
        found = sums(variables["w"], batch)
        if table is not None:
            accuracy = jnp.array((0.0, *table))[variables["epoch"]]
            found["accuracy"] = accuracy * found["count"]
        return found

    def review(state, metrics):
        reviews = state.reviews + metrics["accuracy"]
        return state._replace(reviews=reviews)

    def forward(variables, x, key=None):
        return x @ variables["w"]

    return Recipe(
        init=init,
        update=update,
        finish=finish,
        evaluate=evaluate,
        review=review,
        forward=forward,
        summary=lambda state: {},
    )


RECIPE = make_recipe()


def make_splits(rows=ROWS):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    y = (x @ rng.normal(size=(3, 4))).argmax(1)
    names = ("a", "b", "c", "d")
    return {
        split: data.make_source(x, y, classes=names, name="toy", split=split)
        for split in ("train", "select")
    }


SPLITS = make_splits()


class Run:
    """A folder and the arguments of a training in it."""

    def __init__(self, folder, recipe=RECIPE, plan=None, seed=0):
        self.folder, self.recipe = folder, recipe
        self.plan = plan or loop.Plan(EPOCHS, BATCH, evaluate_batch=7)
        self.key = jax.random.key(seed)
        self.opened: list[int] = []

    def train(self, stop: Any = None):
        checkpoints = Checkpoints(self.folder / "checkpoints", "accuracy")
        try:
            return loop.train(
                self.recipe, SPLITS, self.plan, self.key, checkpoints,
                self.writer, stop,
            )  # fmt: skip
        finally:
            checkpoints.close()

    def writer(self, step):
        self.opened.append(step)
        return metrics.Jsonl(self.folder / "metrics.jsonl", step)

    def steps(self):
        """Steps with a checkpoint on disk."""
        return sorted(
            int(path.name)
            for path in (self.folder / "checkpoints").iterdir()
            if path.name.isdigit()
        )

    def rows(self, phase=None):
        rows = metrics.read(self.folder / "metrics.jsonl")
        return [row for row in rows if phase in (None, row["phase"])]

    def latest(self):
        """The newest checkpoint, as (step, bits of its leaves)."""
        checkpoints = Checkpoints(self.folder / "checkpoints", "accuracy")
        state = self.recipe.init(self.key)
        batch = next(data.in_order(SPLITS["train"], BATCH))
        sums = jax.eval_shape(self.recipe.update, state, batch)[1]
        like = loop.Progressed(state, sums, jnp.float32(0))
        found = checkpoints.latest(like)
        checkpoints.close()
        assert found is not None
        return found[0], bits(found[1])


def bits(tree):
    """Every leaf as bytes."""
    return [
        np.asarray(
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_no_epoch_keeps_the_initial_state(run):
    run.plan = loop.Plan(0, BATCH)
    found = run.train()
    assert bits(found) == bits(jax.jit(RECIPE.init)(stream(run.key, "init")))
    # Nothing was learned, so there is nothing to keep or to tell.
    assert run.opened == [] and run.steps() == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted, its result and its metrics."""
    run = Run(tmp_path_factory.mktemp("whole"))
    state = run.train()
    text = (run.folder / "metrics.jsonl").read_bytes()
    return bits(state), run.latest(), text


# What a run does.


def test_training_learns_and_counts(run):
    state = run.train()
    train, valid = run.rows("train"), run.rows("valid")
    ends = [PER_EPOCH * (epoch + 1) for epoch in range(EPOCHS)]
    for rows in (train, valid):
        assert [row["step"] for row in rows] == ends
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert train[-1]["loss"] < train[0]["loss"]
    # A total is not divided by the count; every epoch starts from zero.
    assert [row["steps"] for row in train] == [PER_EPOCH] * EPOCHS
    assert run.opened == [-1]
    best = max(range(EPOCHS), key=lambda e: (valid[e]["accuracy"], e))
    assert int(state.step) == ends[best]


def test_metrics_are_those_of_numpy(run):
    state = run.train()
    last = {row["step"]: row for row in run.rows("valid")}[int(state.step)]
    x, y = SPLITS["select"].x, SPLITS["select"].y
    logits = x.astype(np.float64) @ np.asarray(state.w, np.float64)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert last["accuracy"] == pytest.approx((logp.argmax(1) == y).mean())
    assert last["loss"] == pytest.approx(-logp[np.arange(ROWS), y].mean())


@pytest.mark.parametrize(
    ("table", "chosen"),
    [
        ((0.1, 0.9, 0.3, 0.5), 2),
        ((0.9, 0.1, 0.1, 0.1), 1),
        ((0.1, 0.2, 0.3, 0.4), 4),
        ((0.5, 0.7, 0.7, 0.1), 3),  # of equals the latest
        ((0.0, 0.0, 0.0, 0.0), 4),
    ],
)
def test_the_best_state_is_returned(tmp_path, table, chosen):
    state = Run(tmp_path, make_recipe(table)).train()
    assert int(state.step) == chosen * PER_EPOCH
    # The state is reviewed with its own evaluation before it is kept.
    np.testing.assert_allclose(state.reviews, sum(table[:chosen]), rtol=1e-6)


@pytest.mark.parametrize(
    ("plan", "table", "saved", "evaluated"),
    [
        # Every checkpoint: the two latest and the best are kept.
        (loop.Plan(4, BATCH), (0.9, 0.1, 0.1, 0.1), [1, 3, 4], [1, 2, 3, 4]),
        # Only improvements and the last.
        (loop.Plan(4, BATCH, 1, 9), (0.2, 0.1, 0.3, 0.1), [3, 4], [1, 2, 3, 4]),
        # Epoch 3 goes unseen; the last is always evaluated.
        (loop.Plan(4, BATCH, 2, 9), (0.9, 0.1, 0.9, 0.2), [2, 4], [2, 4]),
        (loop.Plan(3, BATCH, 9, 9), (0.9, 0.1, 0.9), [3], [3]),
        # Saved without an evaluation, so never the best.
        (loop.Plan(4, BATCH, 4, 1), (0.9, 0.9, 0.9, 0.1), [3, 4], [4]),
    ],
)  # fmt: skip
def test_a_plan_is_kept(tmp_path, plan, table, saved, evaluated):
    run = Run(tmp_path, make_recipe(table), plan)
    run.train()
    assert run.steps() == [PER_EPOCH * epoch for epoch in saved]
    assert [row["epoch"] for row in run.rows("valid")] == evaluated


def test_another_seed_is_another_run(tmp_path, whole):
    run = Run(tmp_path, seed=1)
    assert bits(run.train()) != whole[0]


def test_an_evaluator_does_not_count_padding():
    evaluate = loop.evaluator(RECIPE, 7)
    variables = {"w": jnp.ones((3, 4)).at[:, 2].set(2.0), "epoch": 0}
    whole = loop.evaluator(RECIPE, ROWS)(variables, SPLITS["select"])
    parts = evaluate(variables, SPLITS["select"])
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)


# Compilations.


def test_epochs_after_the_first_compile_nothing(run, compilations):
    by_row = []

    def writer(step):
        jsonl = metrics.Jsonl(run.folder / "metrics.jsonl", step)
        write = jsonl.write

        def counting(step, scalars):
            write(step, scalars)
            by_row.append(len(names))

        jsonl.write = counting
        return jsonl

    run.writer = writer
    with compilations() as names:
        run.train()
    assert len(by_row) == 2 * EPOCHS
    # The evaluation at the end of the first epoch is compiled after row 1.
    assert set(by_row[2:]) == {by_row[2]}


def test_a_resumed_run_compiles_nothing_new(tmp_path, compilations, stop_at):
    first = Run(tmp_path / "first")
    with pytest.raises(loop.Preempted):
        first.train(stop_at(6))
    first.train()
    second = Run(tmp_path / "second")
    with pytest.raises(loop.Preempted):
        second.train(stop_at(6))
    with compilations() as names:
        second.train()
    assert not names


# Exact resume.


@pytest.mark.parametrize(
    "stops",
    [
        [0],  # before the first step
        [1],
        [PER_EPOCH - 1],
        [PER_EPOCH],  # between two epochs, all of it written
        [PER_EPOCH + 2],
        [STEPS - 1],
        [3, 0, 0, 2],  # again and again, also without a step between
        [1] * (STEPS - 1),  # at every step
    ],
)
def test_a_stopped_run_ends_as_one_that_was_not(run, whole, stops, stop_at):
    done = 0
    for steps in stops:
        done += steps
        with pytest.raises(loop.Preempted, match=f"stopped at step {done}"):
            run.train(stop_at(steps))
        assert run.steps()[-1] == done
    state = run.train()
    assert bits(state) == whole[0]
    assert run.latest() == whole[1]
    assert (run.folder / "metrics.jsonl").read_bytes() == whole[2]
    assert run.opened == [-1, *np.cumsum(stops)]


@pytest.mark.parametrize("stop", [1, PER_EPOCH, PER_EPOCH + 1])
def test_a_stop_between_rare_checkpoints_is_exact_too(tmp_path, stop, stop_at):
    # The stop leaves a checkpoint where an undisturbed run has none: it must
    # not be taken for the best.
    plan = loop.Plan(4, BATCH, 1, 9)
    recipe = make_recipe((0.5, 0.5, 0.5, 0.5))
    whole = Run(tmp_path / "whole", recipe, plan)
    expected = bits(whole.train())
    run = Run(tmp_path / "run", recipe, plan)
    with pytest.raises(loop.Preempted):
        run.train(stop_at(stop))
    assert bits(run.train()) == expected
    assert run.rows() == whole.rows()


def chosen_recipe():
    """Half of the examples, chosen by the state at every second epoch."""

    def init(source):
        return {"rows": np.zeros(10, np.int32), "read": np.zeros((), np.int32)}

    def choose(state, memory, source, epoch, key):
        noise = jax.random.normal(key, len(source.y))
        score = np.asarray(source.x @ np.asarray(state.w)).sum(1) + noise
        rows = np.sort(np.argsort(-score)[:10]).astype(np.int32)
        return {"rows": rows, "read": np.int32(23 * (epoch // 2 + 1))}

    return RECIPE._replace(subset=Subset(10, 2, init, choose))


@pytest.mark.parametrize("stops", [[0], [1], [4], [5, 0, 1], [1] * 7])
def test_a_stopped_choice_of_examples_is_the_same(tmp_path, stops, stop_at):
    """In the middle of two epochs of a choice, or between two choices."""
    whole = Run(tmp_path / "whole", chosen_recipe())
    expected = bits(whole.train())
    choices = whole.rows("choose")
    # Two steps an epoch; a choice is told with the first step that sees it.
    told = [(row["step"], row["epoch"], row["read"]) for row in choices]
    assert told == [(1, 1, 23), (5, 3, 46)]
    run = Run(tmp_path / "run", chosen_recipe())
    for steps in stops:
        with pytest.raises(loop.Preempted):
            run.train(stop_at(steps))
    assert bits(run.train()) == expected
    assert run.rows() == whole.rows()


def test_an_epoch_sees_what_was_chosen(tmp_path):
    seen, recipe = [], chosen_recipe()
    run = Run(tmp_path, recipe)
    checkpoints = Checkpoints(tmp_path / "checkpoints", "accuracy")
    loop.train(
        recipe, SPLITS, run.plan, run.key, checkpoints, run.writer,
        record=lambda epoch, memory: seen.append((epoch, memory["rows"])),
    )  # fmt: skip
    checkpoints.close()
    assert [epoch for epoch, _ in seen] == [0, 2]
    # By hand, from the state that the run began with.
    state = recipe.init(stream(run.key, "init"))
    key = stream(run.key, "chosen", 0)
    assert recipe.subset is not None
    want = recipe.subset.choose(state, {}, SPLITS["train"], 0, key)["rows"]
    np.testing.assert_array_equal(seen[0][1], want)
    order = stream(run.key, "order")
    batches = data.epoch(SPLITS["train"], BATCH, order, 0, want)
    x = np.concatenate([batch.x for batch in batches])
    np.testing.assert_array_equal(
        np.unique(x, axis=0), np.unique(SPLITS["train"].x[want], axis=0)
    )


def test_what_data_tells_is_found_once(tmp_path, stop_at):
    """With the first batch, before the first step and not after a resume."""

    def begin(state, batch):
        return state._replace(w=state.w + batch.x.sum())

    run = Run(tmp_path, RECIPE._replace(begin=begin))
    with pytest.raises(loop.Preempted):
        run.train(stop_at(0))
    order = stream(run.key, "order")
    first = next(data.epoch(SPLITS["train"], BATCH, order, 0))
    want = RECIPE.init(stream(run.key, "init")).w + first.x.sum()
    checkpoints = Checkpoints(tmp_path / "checkpoints", "accuracy")
    batch = next(data.in_order(SPLITS["train"], BATCH))
    state = RECIPE.init(run.key)
    sums = jax.eval_shape(RECIPE.update, state, batch)[1]
    like = loop.Progressed(state, sums, jnp.float32(0))
    found = checkpoints.latest(like)
    checkpoints.close()
    assert found is not None
    np.testing.assert_allclose(found[1].state.w, want, rtol=1e-5)
    whole = Run(tmp_path / "whole", RECIPE._replace(begin=begin))
    assert bits(run.train()) == bits(whole.train())


def test_a_finished_run_trains_no_further(run, whole, stop_at):
    run.train()
    # A stop is looked at before every step: here at none.
    assert bits(run.train(stop_at(0))) == whole[0]
    assert (run.folder / "metrics.jsonl").read_bytes() == whole[2]
    assert run.opened == [-1, STEPS]


def damage(folder):
    (folder / "state" / "manifest.ocdbt").write_bytes(b"")


def test_a_damaged_latest_is_trained_again(run, whole, caplog, stop_at):
    with pytest.raises(loop.Preempted):
        run.train(stop_at(2 * PER_EPOCH + 1))
    damage(run.folder / "checkpoints" / str(2 * PER_EPOCH + 1))
    state = run.train()
    assert run.opened == [-1, 2 * PER_EPOCH]
    assert bits(state) == whole[0]
    assert run.latest() == whole[1]
    assert (run.folder / "metrics.jsonl").read_bytes() == whole[2]
    assert "damaged" in caplog.text


def test_a_run_of_damaged_checkpoints_starts_over(run, whole, caplog):
    run.train()
    for folder in (run.folder / "checkpoints").iterdir():
        damage(folder)
    assert bits(run.train()) == whole[0]
    assert run.opened == [-1, -1]
    assert (run.folder / "metrics.jsonl").read_bytes() == whole[2]


def test_metrics_of_lost_steps_are_written_once(run, whole, stop_at):
    # A kill after a row and before its checkpoint: the row is there twice
    # unless the resumed run drops it.
    with pytest.raises(loop.Preempted):
        run.train(stop_at(PER_EPOCH + 1))
    with (run.folder / "metrics.jsonl").open("a") as file:
        row = {"step": 2 * PER_EPOCH, "phase": "train", "loss": 9.0}
        file.write(json.dumps(row) + '\n{"step": 8, "pha')
    run.train()
    assert (run.folder / "metrics.jsonl").read_bytes() == whole[2]


# Divergence.


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_loss_that_is_no_number_ends_the_run(run, value):
    def update(state, batch):
        state, sums = RECIPE.update(state, batch)
        bad = jnp.where(state.step > PER_EPOCH, value, 0.0)
        return state, sums | {"loss": sums["loss"] + bad}

    run.recipe = RECIPE._replace(update=update)
    message = rf"loss is -?(nan|inf) after step {2 * PER_EPOCH}.*learning_rate"
    with pytest.raises(loop.DivergedError, match=message) as caught:
        run.train()
    assert "\n" not in str(caught.value)
    assert run.steps() == [PER_EPOCH]  # the last sound one
    assert [row["epoch"] for row in run.rows()] == [1, 1]


def test_a_state_that_is_no_number_ends_the_run(run):
    """Behind a mask the loss stays finite while the scores are not."""

    def update(state, batch):
        state, sums = RECIPE.update(state, batch)
        bad = jnp.where(state.step > PER_EPOCH, jnp.nan, 0.0)
        return state._replace(reviews=state.reviews + bad), sums

    run.recipe = RECIPE._replace(update=update)
    message = rf"NaN after step {2 * PER_EPOCH}, first in reviews.*_rate"
    with pytest.raises(loop.DivergedError, match=message):
        run.train()
    assert run.steps() == [PER_EPOCH]


def test_a_stop_does_not_save_a_state_that_is_no_number(run, stop_at):
    def update(state, batch):
        state, sums = RECIPE.update(state, batch)
        bad = jnp.where(state.step > PER_EPOCH + 1, jnp.nan, 0.0)
        return state._replace(reviews=state.reviews + bad), sums

    run.recipe = RECIPE._replace(update=update)
    with pytest.raises(loop.DivergedError, match="first in reviews"):
        run.train(stop_at(PER_EPOCH + 3))
    assert run.steps() == [PER_EPOCH]


def test_a_selection_metric_that_is_no_number_is_passed_over(run):
    recipe = make_recipe((0.2, jnp.nan, 0.6, 0.4))
    run.recipe = recipe._replace(review=lambda state, metrics: state)
    assert int(run.train().step) == 3 * PER_EPOCH


# SIGTERM within a process; `test_kill` sends it to one.


def test_sigterm_asks_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    stop = loop.Stop()
    with stop.listening() as listening:
        assert listening is stop and not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_handler_comes_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), loop.Stop().listening():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_runs_without_listening():
    found = []

    def work():
        with loop.Stop().listening() as stop:
            found.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_watched_split_is_written_and_chooses_nothing(tmp_path):
    recipe, run = make_recipe(), Run(tmp_path / "run")
    plain = bits(Run(tmp_path / "plain", recipe).train())
    other = make_splits(11)["select"]
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", "accuracy")
    state = loop.train(
        recipe, {**SPLITS, "watch": other}, run.plan, run.key, checkpoints,
        run.writer,
    )  # fmt: skip
    checkpoints.close()
    assert bits(state) == plain
    told = run.rows("test")
    assert [row["epoch"] for row in told] == [1, 2, 3, 4]
    # By hand, for the state that was kept.
    w, epoch = np.asarray(state.w), int(state.step) // PER_EPOCH
    right = (other.x @ w).argmax(1) == other.y
    np.testing.assert_allclose(
        told[epoch - 1]["accuracy"], right.mean(), rtol=1e-6
    )
