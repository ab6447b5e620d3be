"""What teaches a sequential GAN, side by side; called by `scripts/reproduce`.

The same few known pairs teach networks with and without critics of unpaired
images, and critics teach without pairs; for each also the other modality first.
All are judged on the same test pairs, and nothing is chosen by these.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from reproduce_tables import shown, slug, spread, trained

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.data import joint_pairs
from jaxedge.learn import fidelity, information
from jaxedge.models import arrays
from jaxedge.run import (
    canvas,
    job,
    judge,
    loop,
    main,
    pair_maker,
    synthesis_figures,
    workdir,
)

CONFIG = "configs/sequential_gan.py"
# Entry -> words of the config.
ENTRIES = {"sequential_joint": "joint", "sequential_sarcoma": "sarcoma"}
ROW = "row.json"


class Setting(NamedTuple):
    """One row: words of the config, and flags."""

    words: str
    flags: Sequence[str] = ()


SEMI = "semi-supervised"
# Ours, see docs/synthesis.md.
_ENERGY = (
    "--config.gan.pairs=energy",
    "--config.gan.given=real",
    "--config.model.noise=8",
)
_GENTLE = (
    "--config.gan.every=1",
    "--config.gan.repeats=1",
    "--config.optimizer.adversarial=0.2",
)
SETTINGS = {
    SEMI: Setting("semi"),
    "supervised": Setting("supervised"),
    "unsupervised": Setting("unsupervised"),
    "semi-supervised, other order": Setting("semi,reversed"),
    "semi-supervised, energy score": Setting("semi", (*_ENERGY, *_GENTLE)),
    "supervised, energy score": Setting("supervised", _ENERGY),
}
# What is told -> its heading, digits, and whether more is better.
SCORES = {
    "information_off": ("mutual information off by (%)", 1, False),
    "rho": ("correlation", 3, None),
    "frechet": ("Frechet, coarse pixels", 3, False),
    "fid": ("FID", 2, False),
    "kid": ("KID", 3, False),
    "ssim": ("SSIM of the second", 3, True),
    "made_accuracy": ("accuracy, taught by made pairs (%)", 1, True),
}
MADE = 2000  # Pairs that a measure is of.
SHOWN = 10  # And those that are looked at, of the first seed.
SAMPLE = "made.npz"
_RESULTS = Path(__file__).parent.parent / "docs" / "results"


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All settings over seeds; goes on where it was stopped.

    Args:
        name: a key of `ENTRIES`.
        seeds: other weights, and other rows whose pairs are known.
        rest: further flags of every run; `--only=A;B` keeps the rows whose
            labels are these.
        folder: where the runs are kept.
        stop: looked at at every step.

    Returns:
        "runs", a row a run, and "real", what real pairs teach.
    """
    only = [a.removeprefix("--only=") for a in rest if a.startswith("--only=")]
    wanted = only[-1].split(";") if only else list(SETTINGS)
    rest = [a for a in rest if not a.startswith("--only=")]
    for label in wanted:
        checks.choice("--only", label, tuple(SETTINGS))
    rows, real = [], {}
    for seed in range(seeds):
        for label in wanted:
            print(f"{name}: seed {seed}, {label}", flush=True)
            words = f"{ENTRIES[name]},{SETTINGS[label].words}"
            flags = [
                f"--config={CONFIG}:{words}",
                f"--config.seed={seed}",
                f"--config.data.seed={seed}",
                *SETTINGS[label].flags,
                *rest,
            ]
            place = folder / f"{slug(label)}-{seed}"
            found = _run(flags, place, stop)
            # The same for all rows of a seed.
            real[seed] = {"seed": seed, **found.pop("real")}
            rows.append({"seed": seed, "row": label, **found})
    _grid(name, wanted, folder)
    return {"runs": rows, "real": [*real.values()]}


def _run(flags: Sequence[str], folder: Path, stop: loop.Stop) -> dict[str, Any]:
    """Trains, measures the best state, and keeps both."""
    options = main.parse([*flags, f"--workdir={folder}"])
    if (folder / ROW).exists():  # A finished run is not measured again.
        workdir.check(folder, workdir.plain(options.config), study=False)
        return json.loads((folder / ROW).read_text("utf-8"))
    resolved = job.resolve(options.config, options.data_root)
    found, state = trained(resolved, folder, stop)
    variables = jax.jit(resolved.recipe.finish)(state)
    arrays.save(folder / arrays.FILE, variables)
    row = {
        **{k: found["test"][k] for k in ("frechet", "ssim", "mae")},
        **_measured(resolved, variables, options.data_root, folder),
        "curve": _curve(folder),
        "rollbacks": int(state.broken),
        "seconds": found["seconds"]["train"],
    }
    workdir.write_json(folder / ROW, row)
    return row


def _curve(folder: Path) -> list[list[float]]:
    """Step and Frechet distance of every evaluation."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        [row["step"], round(row["frechet"], 5)]
        for row in rows
        if row["phase"] == "valid"
    ]


def _measured(
    resolved: job.Job, variables: Any, data_root: str | None, folder: Path
) -> dict[str, Any]:
    """What made pairs are worth; a few of them are kept in the folder."""
    given, train = resolved.given, resolved.splits["train"]
    test = resolved.splits["test"]
    known, swapped = pair_maker.known_pairs(given, train, data_root)
    maker = pair_maker.network(given, resolved.splits)
    # Classes as of the test pairs, in their order: of any part as many.
    y = np.resize(test.y, MADE)
    made = maker.pairs(variables, maker.vectors(np.arange(MADE), y))
    if swapped:  # One judge for both orders: modalities as the data have them.
        made = made[..., ::-1].copy()
        known = known._replace(x=known.x[..., ::-1].copy())
        test = test._replace(x=test.x[..., ::-1].copy())
        train = train._replace(x=train.x[..., ::-1].copy())
    np.savez(folder / SAMPLE, made=made[:SHOWN], real=test.x[:SHOWN])
    if given.data.name == "joint_pairs":
        return {**_related(made, given.data.rho), "real": {}}
    key = stream(jax.random.key(given.data.seed), "judge")
    judged = judge.train(key, known)
    features = judge.features(judged, test.x)
    # As many as there are real ones.
    few = made[: len(test.y)]
    found = {
        "fid": float(fidelity.fid(features, judge.features(judged, few))),
        "kid": float(fidelity.mmd(features, judge.features(judged, made))),
        "swapped": swapped,
    }
    aux = train.aux or {}
    pairs = train.rows(np.flatnonzero(aux["paired"]))
    real = {
        "all": judge.accuracy(judged, test),
        "known": judge.accuracy(judge.train(key, pairs), test),
        "pairs": len(pairs.y),
        "of": len(known.y),
    }
    if maker.model.labels:
        # As many as all real pairs: lessons of one length.
        count = len(known.y)
        found["made_accuracy"] = judge.synthetic_accuracy(
            key, made[:count], y[:count], test
        )
    return {**found, "real": real}


def _grid(name: str, labels: Sequence[str], folder: Path) -> None:
    """Pairs of the first seed's networks, a line a modality."""
    lines = {}
    for label in labels:
        with np.load(folder / f"{slug(label)}-0" / SAMPLE) as kept:
            pairs = {"real": kept["real"], label: kept["made"]}
        for who, images in pairs.items():
            lines[f"{who}, first"] = images[..., 0]
            lines[f"{who}, second"] = images[..., 1]
    fig = synthesis_figures.grid(lines)
    canvas.save(fig, _RESULTS / f"{name}_pairs.svg")


def _related(made: np.ndarray, rho: float) -> dict[str, float]:
    """How the two numbers of a made pair go together, by their known law."""
    first = joint_pairs.summary_first(made[..., 0])[:, None]
    second = joint_pairs.summary_second(made[..., 1])[:, None]
    found = float(information.gaussian(first, second))
    truth = float(joint_pairs.mutual_information(rho))
    sizes = float(first.std()), float(second.std())
    both = min(sizes) > 0  # A constant is not correlated with anything.
    return {
        "information": found,
        "truth": truth,
        "information_off": 100 * abs(found / truth - 1),
        "rho": np.corrcoef(first[:, 0], second[:, 0])[0, 1] if both else 0.0,
        "first_sd": sizes[0],
        "second_sd": sizes[1],
    }


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    runs = content["runs"]
    told = [score for score in SCORES if score in runs[0]]
    seeds = 1 + max(row["seed"] for row in runs)
    lines = [
        f"Of made pairs, at the evaluation that the validation split chose by"
        f" the Frechet distance of coarse pixels; mean over {seeds} seeds and,"
        " in brackets, their sd. Another seed has other weights and other known"
        " pairs; of pairs that are made on the spot all are others.",
        "",
        f"| taught | {' | '.join(SCORES[score][0] for score in told)} |"
        " training (s) |",
        f"|---|{'--:|' * (len(told) + 1)}",
    ]
    for label in dict.fromkeys(row["row"] for row in runs):
        rows = [row for row in runs if row["row"] == label]
        cells = [_cell(rows, score) for score in told]
        cells.append(f"{np.mean([row['seconds'] for row in rows]):.0f}")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    if "truth" in runs[0]:
        lines += [
            "",
            "The mutual information of both modalities is"
            f" {runs[0]['truth']:.3f} nats by the law of the data; of made"
            f" pairs it is measured on {MADE:,}. The numbers that the two"
            " images stand for have a standard deviation of 1; of made pairs:",
            "",
            "| taught | mutual information (nats) | sd, first | sd, second |",
            "|---|--:|--:|--:|",
        ]
        for label in dict.fromkeys(row["row"] for row in runs):
            rows = [row for row in runs if row["row"] == label]
            cells = [
                shown(spread([row[k] for row in rows]), 1)
                for k in ("information", "first_sd", "second_sd")
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    real = [row for row in content["real"] if "all" in row]
    if real:
        every = shown(spread([row["all"] for row in real]), 100)
        few = shown(spread([row["known"] for row in real]), 100)
        lines += [
            "",
            "FID and KID by features of a network that was taught the labels of"
            f" {real[0]['of']} real pairs; FID of as many made pairs as test"
            f" pairs, KID of {MADE:,}. The same network taught by real pairs:"
            f" {every} % by all, {few} % by the known ones alone; made pairs"
            " teach it as many as all real ones.",
        ]
    lines += ["", f"![{name}]({name}.svg)", ""]
    lines += ["Test pairs, and pairs made by the networks of the first seed:"]
    return [*lines, "", f"![made pairs]({name}_pairs.svg)"]


def _cell(rows: Sequence[Mapping[str, Any]], score: str) -> str:
    values = [row[score] for row in rows]
    _, digits, _ = SCORES[score]
    factor = 100 if score == "made_accuracy" else 1
    found = factor * np.array(values)
    text = f"{found.mean():.{digits}f}"
    return (
        f"{text} ({found.std(ddof=1):.{digits}f})" if len(values) > 1 else text
    )


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """The distance over training, a line a run."""
    fig, (ax,) = canvas.figure(6.4, 3.8)
    labels = list(dict.fromkeys(row["row"] for row in content["runs"]))
    for label, colour in zip(labels, canvas.PALETTE, strict=False):
        for i, row in enumerate(
            r for r in content["runs"] if r["row"] == label
        ):
            steps, values = zip(*row["curve"], strict=True)
            ax.plot(steps, values, color=colour, label=None if i else label)
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("Frechet distance of coarse pixels")
    ax.set_title(name)
    canvas.legend(ax)
    canvas.save(fig, path)


__all__ = ["ENTRIES", "draw", "page", "reproduce"]
