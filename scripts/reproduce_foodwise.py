"""FoodWise's grader on chips, and what review teaches it; called by
`scripts/reproduce`.

All plates are synthetic. `foodwise_grader` tells accuracy, and how well doubts
tell errors, on every mode of the macro; `foodwise_rounds` lets plates of
canteens that it has not seen be labelled, in the order of the review queue and
at random.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import json
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from reproduce_tables import shown, slug, spread
from scipy import stats

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.data import plates
from jaxedge.foodwise.grading import (
    experiment,
    grader,
    judged,
    learning,
    ordering,
)
from jaxedge.hardware import energy
from jaxedge.run import canvas, loop, workdir

CHIPS = 20
EXACT = ("float", "int4")  # Designs that are no circuit.
# What is told -> its heading.
SCORES = {
    "accuracy": "accuracy (%)",
    "certain_80": "of the surest 80 %",
    "certain_60": "of the surest 60 %",
    "caught": "errors in the least sure 20 %",
}
TRAINED = {"on chips": "grader", "without chips": "float"}
# What the issue asks of a chip.
TARGETS = {"accuracy": 0.93, "certain_80": 0.97}
# Of the rounds of review.
ROUNDS, INITIAL, BUDGET, POOL, TESTED, PASSES = 3, 20, 30, 400, 1000, 6
EACH = 4  # Canteens a seed.
QUEUE, RANDOM = "review queue", "random"


class Entry(NamedTuple):
    """An experiment: the title of its page."""

    title: str


ENTRIES = {
    "foodwise_grader": Entry("The plate grader on simulated chips"),
    "foodwise_rounds": Entry("Three rounds of review of an unseen canteen"),
}


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All rows of an entry; goes on where it was stopped.

    Args:
        name: a key of `ENTRIES`.
        seeds: of weights, chips in training, and plates.
        rest: no further flags.
        folder: where finished rows are kept.
        stop: looked at between rows.

    Returns:
        "runs", a row each.

    Raises:
        UsageError: for further flags.
    """
    if rest:
        raise checks.UsageError(
            f"{name} takes no flag {rest[0]}; it has --seeds=N alone."
        )
    rows = _grader if name == "foodwise_grader" else _rounds
    return {"title": ENTRIES[name].title, "runs": rows(seeds, folder, stop)}


def _kept(folder: Path, name: str, stop: loop.Stop, make: Any) -> Any:
    """A row that was found before, or is found and kept."""
    path = folder / f"{slug(name)}.json"
    if path.exists():
        return json.loads(path.read_text("utf-8"))
    if stop.asked:
        raise loop.Preempted("stopped between two rows")
    print(name, flush=True)
    found = make()
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_json(path, found)
    return json.loads(path.read_text("utf-8"))


def _grader(seeds: int, folder: Path, stop: loop.Stop) -> list[Any]:
    rows = []
    for seed in range(seeds):
        for label in TRAINED:
            rows += _kept(
                folder,
                f"grader {label} seed {seed}",
                stop,
                lambda label=label, seed=seed: _on_designs(label, seed),
            )
    return rows


def _on_designs(label: str, seed: int) -> list[dict[str, Any]]:
    """One network on every design."""
    base = learning.made_up(seed)
    start = time.process_time()
    config = experiment.config(TRAINED[label])
    variables = learning.fit(base["train"], config, seed)
    seconds = time.process_time() - start
    rows = []
    for design in learning.DESIGNS:
        key = stream(jax.random.key(seed), "chips")
        parts = {split: base[split] for split in ("valid", "test")}
        seen = learning.on_chips(variables, design, parts, key, CHIPS)
        y = base["test"].y_N
        found = [judged.scores(alpha, y) for alpha in seen["test"]]
        rows.append(
            {
                "seed": seed,
                "trained": label,
                "design": design,
                "seconds": seconds,
                "joules": _joules(variables, design),
                **{k: [row[k] for row in found] for k in SCORES},
                **_answers(seen, base),
            }
        )
    return rows


def _answers(seen: Mapping[str, Any], base: Mapping[str, Any]) -> Any:
    """What is answered from the threshold on that was chosen by "valid"."""
    alpha, y = seen["valid"], base["valid"].y_N
    chosen = judged.threshold(
        alpha.reshape(-1, alpha.shape[-1]),
        np.tile(y, len(alpha)),
        grader.ACCURACY,
    )
    told = judged.doubts(seen["test"]) <= chosen.u
    right = seen["test"].argmax(-1) == base["test"].y_N
    return {
        "coverage": float(told.mean()),
        "answered": float(right[told].mean()) if told.any() else None,
    }


def _joules(variables: Any, design: str) -> float | None:
    """Of one photo on macros, their conversions with the products alone."""
    if design in EXACT:
        return None
    chip = learning.programmed(variables, design, jax.random.key(0))
    costs = energy.Costs()
    layers = chip["params"]
    return float(
        sum(
            energy.layer(name, layers[name]["kernel"], 1, costs).joules_array
            for name in layers
        )
    )


def _rounds(seeds: int, folder: Path, stop: loop.Stop) -> list[Any]:
    rows = []
    for seed in range(seeds):
        base = functools.cache(functools.partial(_unshifted, seed))
        for turn in range(EACH):
            canteen = 1 + (EACH * seed + turn) % (plates.CANTEENS - 1)
            found = _kept(
                folder,
                f"rounds seed {seed} canteen {canteen}",
                stop,
                functools.partial(_reviewed, base, seed, canteen),
            )
            rows += found
    return rows


def _unshifted(seed: int) -> tuple[learning.Labelled, Any]:
    """Plates of the standard canteen, and a network that knows these alone."""
    found = plates.read("train", seed=seed)
    base = learning.Labelled(found.x, found.y)
    return base, _taught(base, seed)


def _taught(learned: learning.Labelled, seed: int) -> Any:
    config: Any = experiment.config("float")
    config.train.epochs = PASSES
    return learning.fit(learned, config, seed)


def _reviewed(
    base: Callable[[], Any], seed: int, canteen: int
) -> list[dict[str, Any]]:
    """Accuracy of an unseen canteen after each round, of both methods."""
    known, network = base()
    new: dict[str, Any] = {"canteen": canteen, "seed": seed}
    pool = plates.read("train", n=POOL, **new)
    test = plates.read("test", n=TESTED, **new)
    key = stream(jax.random.key(seed), "canteen", canteen)
    chance = np.random.RandomState([seed, canteen])
    first = np.zeros(POOL, bool)
    first[chance.permutation(POOL)[:INITIAL]] = True
    begun = _retaught(known, pool, first, seed)
    start = [_accuracy(n, test, key) for n in (network, begun)]
    rows = []
    for method in (QUEUE, RANDOM):
        labelled, network, curve = first.copy(), begun, start.copy()
        for _ in range(ROUNDS):
            left = np.flatnonzero(~labelled)
            order = chance.permutation(len(left))
            if method == QUEUE:
                alpha = _on_one(network, pool.x[left], key)
                order = ordering.order_review(alpha, pool.x[left])
            labelled[left[order[:BUDGET]]] = True
            network = _retaught(known, pool, labelled, seed)
            curve.append(_accuracy(network, test, key))
        row = {"seed": seed, "canteen": canteen, "method": method}
        mean = float(np.mean(curve[-ROUNDS:]))
        rows.append({**row, "curve": curve, "mean": mean})
    return rows


def _retaught(
    known: learning.Labelled, pool: Any, labelled: np.ndarray, seed: int
) -> Any:
    """A network of the standard plates and of what was labelled, weighed."""
    own = np.flatnonzero(labelled)
    often = grader.times(["canteen"] * len(own), len(known.y_N))
    rows = np.repeat(own, often)
    reviewed = learning.Labelled(pool.x[rows], pool.y[rows])
    return _taught(learning.together([known, reviewed]), seed)


def _on_one(network: Any, x: np.ndarray, key: jax.Array) -> np.ndarray:
    """Dirichlet parameters on exact hardware, [N, K]."""
    parts = {"all": learning.Labelled(x, np.zeros(len(x), np.int32))}
    return learning.on_chips(network, "float", parts, key, 1)["all"][0]


def _accuracy(network: Any, test: Any, key: jax.Array) -> float:
    alpha = _on_one(network, test.x, stream(key, "test"))
    return float((alpha.argmax(1) == test.y).mean())


def paired(rows: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """What the queue gains over chance: mean over seeds and 95 % interval.

    Of each seed the mean over its canteens is one number.
    """

    def mean(method: str, seed: int) -> float:
        own = [r for r in rows if (r["method"], r["seed"]) == (method, seed)]
        return float(np.mean([r["mean"] for r in own]))

    seeds = sorted({r["seed"] for r in rows})
    gain = np.array([mean(QUEUE, s) - mean(RANDOM, s) for s in seeds])
    if len(gain) < 2:
        return None
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1)
    half, middle = half / np.sqrt(len(gain)), gain.mean()
    found = {"mean": middle, "low": middle - half, "high": middle + half}
    return {name: float(value) for name, value in found.items()}


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    make = _grader_page if name == "foodwise_grader" else _rounds_page
    return [*make(content["runs"]), "", f"![{name}]({name}.svg)"]


def _grader_page(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        f"Synthetic plates; photos will be harder. Means over {CHIPS} chips of"
        " each of the seeds and, in brackets, the sd of the seeds' means and"
        " the mean sd of the chips of one, %; float and int4 have no chips."
        f" `answered` is the share of plates on which the grader says something"
        f" and how much of that is right, by a threshold that asks for"
        f" {grader.ACCURACY:.0%} on the validation split. Energy is that of the"
        ' conversions, at the 137.5 TOPS/W of arXiv:2307.05944. "float" of a'
        " network that was trained on chips lacks the limits of its inputs,"
        " which it learned there, and so is another function.",
        "",
        "| trained | on | accuracy | surest 80 % | surest 60 % | errors in the"
        " least sure 20 % | answered | right of it | pJ a photo |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for trained, design in _rows_of(rows):
        own = _own(rows, trained, design)
        told = [_apart(own, k, design not in EXACT) for k in SCORES]
        told += [
            shown(spread([r[k] for r in own]), 100)
            for k in ("coverage", "answered")
        ]
        joules = own[0]["joules"]
        told.append("-" if joules is None else f"{1e12 * joules:.0f}")
        lines.append(f"| {trained} | {design} | {' | '.join(told)} |")
    short = [
        f"{design} {trained}"
        for trained, design in _rows_of(rows)
        if any(
            r["answered"] is None or r["answered"] < grader.ACCURACY
            for r in _own(rows, trained, design)
        )
    ]
    missed = [
        f"{design} {trained} ({SCORES[k]}, {100 * mean:.2f})"
        for trained, design in _rows_of(rows)
        for k, target in TARGETS.items()
        if (mean := _mean(_own(rows, trained, design), k)) < target
    ]
    return [
        *lines,
        "",
        f"Asked for: accuracy of {TARGETS['accuracy']:.0%}, and"
        f" {TARGETS['certain_80']:.0%} of the surest 80 %."
        f" Below: {'; '.join(missed) if missed else 'none'}. Of what is"
        f" answered, {grader.ACCURACY:.0%} is not reached on the test plates,"
        f" in one seed at least, by {'; '.join(short) or 'none'}: the threshold"
        " is the last that the validation plates allow.",
    ]


def _apart(rows: Sequence[Mapping[str, Any]], what: str, chips: bool) -> str:
    """Mean, sd of the seeds' means, and mean sd of the chips of a seed."""
    by_seed = [np.array(r[what], float) for r in rows]
    means = [np.nanmean(values) for values in by_seed]
    sd = [f"{100 * np.std(means, ddof=1):.2f}"] if len(means) > 1 else []
    if chips:
        within = np.mean([np.nanstd(v, ddof=1) for v in by_seed])
        sd.append(f"{100 * within:.2f}")
    text = f"{100 * np.mean(means):.2f}"
    return f"{text} ({', '.join(sd)})" if sd else text


def _mean(rows: Sequence[Mapping[str, Any]], what: str) -> float:
    return float(np.nanmean(np.concatenate([r[what] for r in rows])))


def _rows_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((r["trained"], r["design"]) for r in rows))


def _own(rows: Sequence[Any], trained: str, design: str) -> list[Any]:
    return [
        r for r in rows if r["trained"] == trained and r["design"] == design
    ]


def _rounds_page(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        f"Synthetic plates. A network that knows the standard canteen alone is"
        f" shown {POOL} plates of another one, of which people label {INITIAL}"
        f" at random, the same for both methods, and then {BUDGET} a round;"
        f" after each it is taught anew and tested on {TESTED} others of that"
        f" canteen, all of it without chips, in {PASSES} passes.",
        "",
        "| seed | canteen | labelled | before | at random |"
        + "".join(f" round {i + 1} |" for i in range(ROUNDS))
        + " mean of the rounds |",
        "|--:|--:|---|--:|--:|" + "--:|" * (ROUNDS + 1),
    ]
    for row in rows:
        told = [f"{100 * a:.1f}" for a in (*row["curve"], row["mean"])]
        lines.append(
            f"| {row['seed']} | {row['canteen']} | {row['method']} |"
            f" {' | '.join(told)} |"
        )
    found = paired(rows)
    if found is None:
        return lines
    low, mean, high = (100 * found[k] for k in ("low", "mean", "high"))
    verdict = (
        "more than chance would tell"
        if low > 0
        else "which chance could do as well"
        if high > 0
        else "worse than random"
    )
    return [
        *lines,
        "",
        f"The queue gains {mean:+.1f} points over labelling at random, mean of"
        f" the rounds, paired by seed; 95 % interval {low:+.1f} to {high:+.1f}:"
        f" {verdict}.",
        "",
        "This protocol is the second: 20 labels a round at 2 canteens a seed,"
        " read on a chip, had shown +0.4 (-0.9 to +1.6) before, with some of"
        " the same plates. Canteens recur over seeds.",
    ]


_COLOURS = {QUEUE: canvas.VERMILION, RANDOM: canvas.INK}


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """Chips of every design, or curves of the rounds."""
    rows = content["runs"]
    if name == "foodwise_grader":
        _draw_chips(rows, path)
    else:
        _draw_rounds(rows, path)


def _draw_chips(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    fig, axes = canvas.figure(8.4, 3.6, columns=2)
    kinds = [(t, d) for t, d in _rows_of(rows) if d != "float"]
    for ax, what in zip(axes, ("accuracy", "caught"), strict=True):
        for place, (trained, design) in enumerate(kinds):
            own = _own(rows, trained, design)
            y = 100 * np.concatenate([r[what] for r in own])
            colour = canvas.BLUE if trained == "on chips" else canvas.INK
            first = design == "int4"
            ax.plot(
                np.full(len(y), place), y, "o", color=colour, ms=3, alpha=0.4,
                label=f"trained {trained}" if first else None,
            )  # fmt: skip
        ax.set_xticks(range(len(kinds)), [d for _, d in kinds], rotation=60)
        ax.set_ylabel(SCORES[what])
    canvas.legend(axes[0])
    canvas.save(fig, path)


def _draw_rounds(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    fig, (ax,) = canvas.figure(6, 3.8)
    x = [0, *(INITIAL + BUDGET * np.arange(ROUNDS + 1))]
    for method, colour in _COLOURS.items():
        curves = [r["curve"] for r in rows if r["method"] == method]
        for curve in curves:
            ax.plot(x, 100 * np.array(curve), color=colour, lw=0.6, alpha=0.4)
        ax.plot(
            x, 100 * np.mean(curves, 0), "o-", color=colour, lw=1.8,
            label=method,
        )  # fmt: skip
    ax.set_xlabel("labelled plates of the canteen")
    ax.set_ylabel("accuracy there, %")
    canvas.legend(ax)
    canvas.save(fig, path)


__all__ = ["ENTRIES", "draw", "page", "paired", "reproduce"]
