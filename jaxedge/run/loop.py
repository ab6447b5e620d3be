"""One loop for every recipe: learn, evaluate, save, resume exactly."""

from collections.abc import Callable, Mapping
import contextlib
import itertools
import signal
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.core.trees import path_name
from jaxedge.recipes.recipe import Recipe, add, mean
from jaxedge.run import hosts
from jaxedge.run.checkpoint import Checkpoints
from jaxedge.run.metrics import Writer
from jaxedge.run.sharing import Sharing

# Numbers of the inputs of a batch of an evaluation, at most.
_EVALUATED = 2**22


class Plan(NamedTuple):
    """How long to train and when to look.

    Attributes:
        epochs: passes over the training split; 0 keeps the initial state.
        batch: examples a step.
        evaluate_every: epochs between evaluations; the last always has one.
        checkpoint_every: epochs between checkpoints; an evaluation that is
            the best so far and the last epoch always leave one.
        evaluate_batch: examples a batch of an evaluation.
        devices: that train, see `sharing.Sharing`.
    """

    epochs: int
    batch: int
    evaluate_every: int = 1
    checkpoint_every: int = 1
    evaluate_batch: int = 500
    devices: str = "one"


class Progressed(NamedTuple):
    """What a checkpoint holds: a resume goes on as if nothing had happened.

    Attributes:
        state: the recipe's state.
        sums: training sums of the epoch under way.
        best: best selection metric so far, [].
        chosen: what the choice of the examples remembers, see `Subset`;
            nothing where all of them are seen.
    """

    state: Any
    sums: Any
    best: jax.Array
    chosen: Any = ()


class Preempted(Exception):
    """The process was asked to stop; everything is saved."""


class DivergedError(RuntimeError):
    """The loss or the state is no number any more."""


class Stop:
    """A request to stop that SIGTERM makes and the loop looks at."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def listening(self):
        """Listens to SIGTERM; in a thread, where Python cannot, does not."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def ask(number: int, frame: Any) -> None:
            del number, frame
            self.asked = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)


def train(
    recipe: Recipe,
    splits: Mapping[str, data.Source],
    plan: Plan,
    key: jax.Array,
    checkpoints: Checkpoints,
    open_writer: Callable[[int], Writer],
    stop: Stop | None = None,
    record: Callable[[int, Mapping[str, Any]], None] | None = None,
) -> Any:
    """Trains to the end, from the newest checkpoint if there is one.

    Args:
        recipe: what to train.
        splits: "train", and "select", on which the best epoch is chosen; and
            "watch", if the metrics of another are to be written as well.
        plan: how long.
        key: of the run; parameters and batch order are streams of it.
        checkpoints: where states are kept; the best is found there.
        open_writer: opens the metrics, given the step that was restored (-1
            for a new run), after which rows are written anew.
        stop: checked at every step.
        record: (epoch, memory) -> None, told which examples were chosen.

    Returns:
        The best state by the selection metric; the initial one if there is
        no epoch.

    Raises:
        Preempted: after saving, when `stop` was asked.
        DivergedError: when a loss is NaN or infinite, or the state holds a
            NaN; names the step.
    """
    source = splits["train"]
    subset, rounds = recipe.subset, recipe.rounds
    size = plan.batch if rounds is None else rounds.size
    sharing = Sharing(plan.devices, size)
    per_epoch = steps_per_epoch(recipe, source, plan.batch)
    update = jax.jit(
        recipe.update, donate_argnums=0, out_shardings=sharing.everywhere
    )
    review = jax.jit(recipe.review)
    broken = jax.jit(_nan_leaves)
    evaluate = evaluator(recipe, plan.evaluate_batch, sharing)
    trial = jax.jit(recipe.trial or recipe.finish)
    # One program: a large network has hundreds of shapes.
    state = sharing.state(jax.jit(recipe.init)(stream(key, "init")))
    order = stream(key, "order")

    def batches_of(epoch: int, part: np.ndarray | None) -> Any:
        if rounds is not None:
            return rounds.batches(source, order, epoch, part)
        return data.epoch(source, plan.batch, order, epoch, part)

    def put(batch: Any) -> Any:
        return sharing.batch(batch, None if rounds is None else size)

    first = next(batches_of(0, None))
    if not plan.epochs:
        return hosts.local(_begun(recipe, state, put(first)))
    zero = _zero_sums(recipe, state, first)
    chosen = () if subset is None else subset.init(source)
    new = Progressed(state, zero, jnp.float32(-jnp.inf), chosen)
    like = jax.eval_shape(lambda: new)
    done, (state, sums, best, chosen) = checkpoints.latest(like) or (-1, new)
    hosts.check_same("the step from which they go on", done)
    state, sums = sharing.state((state, sums))
    writer = open_writer(done)
    step = max(done, 0)
    if done < 0:
        state = _begun(recipe, state, put(first))

    def save(step: int, metrics: Mapping[str, float] | None) -> None:
        checkpoints.save(step, Progressed(state, sums, best, chosen), metrics)

    try:
        with _bar(plan.epochs * per_epoch, step) as tick:
            for epoch in range(step // per_epoch, plan.epochs):
                part = None
                if subset is not None:
                    # A choice is part of the next checkpoint: one that was
                    # made before the process ended is not made again.
                    if epoch % subset.every == 0 and step == epoch * per_epoch:
                        tick(step, "choosing examples")
                        choosing = stream(key, "chosen", epoch)
                        chosen = subset.choose(
                            state, chosen, source, epoch, choosing
                        )
                        if record is not None:
                            record(epoch, chosen)
                        # Of the first step that sees them: a resume from the
                        # checkpoint before it chooses once more.
                        writer.write(
                            step + 1,
                            {
                                "phase": "choose",
                                "epoch": epoch + 1,
                                "rows": _count(chosen["rows"]),
                                "read": int(chosen["read"]),
                            },
                        )
                    part = np.asarray(chosen["rows"])
                for batch in itertools.islice(
                    batches_of(epoch, part), step - epoch * per_epoch, None
                ):
                    if _stopped(stop):
                        # A state that is lost must not become the newest.
                        _check_state(jax.device_get(broken(state)), step)
                        save(step, None)
                        raise Preempted(f"stopped at step {step}")
                    state, new_sums = update(state, put(batch))
                    sums = add(sums, new_sums)
                    step += 1
                    tick(step)
                # Decisions are the first process's: each may have a state of
                # its own, and round otherwise.
                row = hosts.agree_numbers(mean(sums))
                _check_loss(row, step)
                _check_state(hosts.agree(jax.device_get(broken(state))), step)
                writer.write(
                    step, {"phase": "train", "epoch": epoch + 1, **row}
                )
                sums = zero
                last = epoch + 1 == plan.epochs
                metrics, better = None, False
                if last or (epoch + 1) % plan.evaluate_every == 0:
                    metrics = evaluate(trial(state), splits["select"])
                    metrics = hosts.agree_numbers(metrics)
                    state = review(state, metrics)
                    score = metrics[recipe.score]
                    better = score > float(best)
                    best = jnp.fmax(best, jnp.float32(score))
                    writer.write(
                        step, {"phase": "valid", "epoch": epoch + 1, **metrics}
                    )
                    if "watch" in splits:
                        seen = evaluate(trial(state), splits["watch"])
                        writer.write(
                            step, {"phase": "test", "epoch": epoch + 1, **seen}
                        )
                    tick(step, f"{recipe.score} {score:.4f}")
                if last or better or (epoch + 1) % plan.checkpoint_every == 0:
                    save(step, metrics)
    finally:
        checkpoints.wait()
        writer.close()
    chosen = checkpoints.best(like)
    assert chosen is not None  # The last epoch has left one.
    return chosen[1].state


def steps_per_epoch(recipe: Recipe, source: data.Source, batch: int) -> int:
    """Updates of an epoch."""
    if recipe.rounds is not None:
        return recipe.rounds.steps
    subset = recipe.subset
    rows = len(source.y) if subset is None else subset.rows
    return rows // batch


def _count(rows: np.ndarray) -> int:
    """How many examples were chosen."""
    rows = np.asarray(rows)
    return int(rows.sum()) if rows.dtype == bool else len(rows)


def evaluator(
    recipe: Recipe, batch: int, sharing: Sharing | None = None
) -> Callable[[Any, data.Source], dict[str, float]]:
    """A function (variables, source) -> metrics that compiles once.

    Args:
        recipe: how a batch is evaluated.
        batch: examples at once, at most; large examples are fewer.
        sharing: where they go; None is one device.
    """
    one = jax.jit(recipe.evaluate)
    put = jax.device_put if sharing is None else sharing.batch

    def evaluate(variables: Any, source: data.Source) -> dict[str, float]:
        fitting = max(_EVALUATED // source.x[0].size, 1)
        size = min(batch, len(source.y), fitting)
        total = None
        for part in data.in_order(source, size):
            sums = one(variables, put(part))
            total = sums if total is None else add(total, sums)
        assert total is not None  # Sources are not empty.
        return mean(total, recipe.measure)

    return evaluate


def _stopped(stop: Stop | None) -> bool:
    """Whether a process was asked to stop: all of them stop at once."""
    return hosts.any_of(stop is not None and stop.asked)


def _begun(recipe: Recipe, state: Any, batch: data.Batch) -> Any:
    """The state once it has seen its first batch."""
    if recipe.begin is None:
        return state
    return jax.jit(recipe.begin)(state, batch)


def _zero_sums(recipe: Recipe, state: Any, batch: data.Batch) -> Any:
    """Sums of no batch."""
    shapes = jax.eval_shape(recipe.update, state, batch)[1]
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def _check_loss(row: Mapping[str, float], step: int) -> None:
    if not abs(row.get("loss", 0.0)) < float("inf"):
        raise DivergedError(
            f"the loss is {row['loss']} after step {step}; lower"
            " config.optimizer.learning_rate, or look for a zero in the"
            " hardware's ranges. The last sound checkpoint is kept."
        )


def _nan_leaves(state: Any) -> dict[str, jax.Array]:
    """For each floating array, by its path, whether it holds a NaN."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        path_name(path): jnp.isnan(leaf).any()
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def _check_state(broken: Mapping[str, Any], step: int) -> None:
    """Scores may turn NaN while the loss, through a mask, stays finite."""
    names = [name for name, nan in broken.items() if nan]
    if names:
        raise DivergedError(
            f"the state holds NaN after step {step}, first in {names[0]}; lower"
            " config.optimizer.learning_rate, or look for a zero in the"
            " hardware's ranges. The last sound checkpoint is kept."
        )


@contextlib.contextmanager
def _bar(total: int, start: int):
    """A progress bar that costs nothing between its ten updates a second."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, transient=False) as progress:
        task = progress.add_task("train", total=total, note="")
        progress.update(task, completed=start)
        shown = time.monotonic()

        def tick(step: int, note: str = "") -> None:
            nonlocal shown
            late = time.monotonic() - shown > 0.1
            if note:
                progress.update(task, completed=step, note=note)
            elif late or step == total:
                progress.update(task, completed=step)
                shown = time.monotonic()

        yield tick
