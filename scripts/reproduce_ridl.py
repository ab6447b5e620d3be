"""RIDL beside what it is made of, over folds; called by `scripts/reproduce`.

For each seed and fold a network learns from images alone, and all others start
from it and learn as long again, that of images alone too; radiomics alone is a
linear model. All test the same phantoms.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from reproduce_tables import shown, slug, spread, trained
from sklearn import linear_model, metrics, pipeline, preprocessing

from jaxedge import data
from jaxedge.learn import decorrelate
from jaxedge.models import arrays
from jaxedge.recipes import radiomic_inputs, ridl, selection
from jaxedge.run import canvas, job, loop, main, workdir

CONFIG = "configs/ridl.py"
FOLDS = 5
ROW = "row.json"
PRETRAIN, IMAGE, RIDL = "pretrain", "image", "RIDL"
CORRELATED = "RIDL without de-correlation"
# Label of a row -> variant of the config.
NETWORKS = {
    IMAGE: "image",
    "naive concatenation": "naive",
    RIDL: "ridl",
    CORRELATED: "no_decorrelation",
    "RIDL without local maps": "no_local",
    "RIDL without global features": "no_global",
}
GLOBAL = "radiomics, 4 published features"
LASSO = "radiomics, LASSO"
# Of LASSO; the paper's first, and the validation fold chooses.
ALPHAS = (0.12, 0.08, 0.05, 0.03, 0.02, 0.01)
ENTRIES = {"ridl_phantoms": CONFIG}
_SCORES = ("auc", "ap", "accuracy", "correlation")


class Place(NamedTuple):
    """Which part of which repetition."""

    seed: int
    fold: int


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All rows over folds and seeds; goes on where it was stopped.

    Args:
        name: a key of `ENTRIES`.
        seeds: repetitions, with phantoms of their own.
        rest: further flags of every run; `--only=A,B` keeps the rows whose
            labels hold one of these words, `--folds=N` the first N folds.
        folder: where the runs are kept.
        stop: looked at at every step.

    Returns:
        "runs", a row a run, and "folds".
    """
    del name
    only = [a.removeprefix("--only=") for a in rest if a.startswith("--only=")]
    words = [word for a in only for word in a.split(",")]
    asked = [a for a in rest if a.startswith("--folds=")]
    folds = int(asked[-1].removeprefix("--folds=")) if asked else FOLDS
    rest = [a for a in rest if not a.startswith(("--only=", "--folds="))]
    rows = []
    for seed in range(seeds):
        for fold in range(folds):
            at = Place(seed, fold)
            rows += _linear(at, rest, folder)
            start = folder / f"{PRETRAIN}-{seed}-{fold}"
            _run(PRETRAIN, (), at, rest, start, stop)
            for label, variant in NETWORKS.items():
                if words and not any(word in label for word in words):
                    continue
                print(f"seed {seed}, fold {fold}, {label}", flush=True)
                flags = [f"--config.model.start={start}"]
                place = folder / f"{slug(label.lower())}-{seed}-{fold}"
                found = _run(variant, flags, at, rest, place, stop)
                rows.append({**at._asdict(), "row": label, **found})
    return {"folds": folds, "seeds": seeds, "runs": rows}


def _flags(variant: str, at: Place, flags: Sequence[str]) -> list[str]:
    return [
        f"--config={CONFIG}:{variant}",
        *flags,
        f"--config.data.fold={at.fold}",
        f"--config.data.seed={at.seed}",
        f"--config.seed={at.seed}",
    ]


def _run(
    variant: str,
    flags: Sequence[str],
    at: Place,
    rest: Sequence[str],
    folder: Path,
    stop: loop.Stop,
) -> dict[str, Any]:
    """Trains a network, tests its best state, and keeps both."""
    given = _flags(variant, at, flags)
    options = main.parse([*given, f"--workdir={folder}", *rest])
    if (folder / ROW).exists():  # A finished run is not tested again.
        workdir.check(folder, workdir.plain(options.config), study=False)
        return json.loads((folder / ROW).read_text())
    resolved = job.resolve(options.config, options.data_root)
    found, state = trained(resolved, folder, stop)
    variables = jax.jit(resolved.recipe.finish)(state)
    arrays.save(folder / arrays.FILE, variables)
    row = {
        **_told(resolved, variables),
        "seconds": found["seconds"]["train"],
    }
    workdir.write_json(folder / ROW, row)
    return row


def _told(resolved: job.Job, variables: Any) -> dict[str, Any]:
    """Scores of the test split, and how deep features repeat global ones.

    The latter over the test and the validation split, as |r| of few examples
    is large by chance.
    """
    forward = jax.jit(
        lambda x: resolved.recipe.forward(
            variables, x, None, mutable=["intermediates"]
        )
    )
    test = resolved.splits["test"]
    both = np.concatenate([test.x, resolved.splits["valid"].x])
    logits, more = forward(both)
    deep = more["intermediates"][ridl.DEEP][0]
    score = np.asarray(logits)[: len(test.y)]
    found = _scores(test.y, score[:, 1] - score[:, 0], 0.0)
    radiomic = radiomic_inputs.apart(both, len(resolved.given.radiomics.radii))[
        2
    ]
    if radiomic.shape[-1]:
        found["correlation"] = float(
            decorrelate.mean_absolute_correlation(deep, radiomic)
        )
    return found


def _scores(y: Any, score: np.ndarray, threshold: float) -> dict[str, float]:
    return {
        "auc": float(metrics.roc_auc_score(y, score)),
        "ap": float(metrics.average_precision_score(y, score)),
        "accuracy": float(((score > threshold) == y).mean()),
    }


def _linear(
    at: Place, rest: Sequence[str], folder: Path
) -> list[dict[str, Any]]:
    """Rows of global features alone, learned on the training split."""
    path = folder / f"linear-{at.seed}-{at.fold}.json"
    if path.exists():
        return json.loads(path.read_text())["rows"]
    options = main.parse(
        [*_flags("image", at, ()), f"--workdir={folder}", *rest]
    )
    given = ridl.parse(options.config)
    splits = {
        split: data.load(
            given.data.name, split, options.data_root, **given.data.options
        )
        for split in data.SPLITS
    }
    tables = {
        split: radiomic_inputs.table(source, given.radiomics)
        for split, source in splits.items()
    }
    known = list(tables["train"].names)
    kept = [known.index(name) for name in radiomic_inputs.PUBLISHED]
    y, test_y = splits["train"].y, splits["test"].y
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression()
    ).fit(tables["train"].values_NxF[:, kept], y)
    score = model.decision_function(tables["test"].values_NxF[:, kept])
    alive = np.flatnonzero(selection.varies(tables["train"].values_NxF))
    fits = [
        selection.lasso(
            tables["train"].values_NxF[:, alive],
            y,
            [known[i] for i in alive],
            alpha=alpha,
        )
        for alpha in ALPHAS
    ]
    # As the epoch of a network is.
    lasso = max(
        fits,
        key=lambda fit: metrics.roc_auc_score(
            splits["valid"].y,
            fit.predict(tables["valid"].values_NxF[:, alive]),
        ),
    )
    by_lasso = lasso.predict(tables["test"].values_NxF[:, alive])
    rows = [
        {**at._asdict(), "row": label, **_scores(test_y, values, middle)}
        for label, values, middle in (
            (GLOBAL, score, 0.0),
            (LASSO, by_lasso, 0.5),
        )
    ]
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_json(path, {"rows": rows})
    return rows


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    runs = content["runs"]
    lines = [
        f"Phantom volumes in {content['folds']} folds, {content['seeds']}"
        " seeds (other phantoms, other weights). Of the test fold, at the"
        " epoch that the validation fold chose by its AUC: mean over folds and"
        " seeds and, in brackets, their sd. All networks start from one of"
        " images of their fold and learn as long. The penalty of LASSO is"
        " chosen as the epoch is. Correlation: mean |r| of deep and global"
        " features over the test and the validation fold, which no network"
        " has learned; independent ones have about sqrt(2 / (pi N)), .07 for"
        " N = 128.",
        "",
        "| row | runs | AUC | RIDL is above by | its sd | AP | accuracy (%) |"
        " correlation | training (s) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for label in dict.fromkeys(row["row"] for row in runs):
        rows = [row for row in runs if row["row"] == label]
        above = pairs(label, runs)
        apart = spread(above) if above else None
        seconds = [row["seconds"] for row in rows if "seconds" in row]
        told = [row["correlation"] for row in rows if "correlation" in row]
        cells = [
            str(len(rows)),
            _shown(rows, "auc"),
            f"{apart['mean']:+.3f}" if apart else "-",
            f"{apart['sd']:.3f}" if apart and "sd" in apart else "-",
            _shown(rows, "ap"),
            shown(spread([row["accuracy"] for row in rows]), 100),
            _shown(rows, "correlation") if told else "-",
            f"{np.mean(seconds):.0f}" if seconds else "-",
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return [*lines, "", *_lowered(runs), f"![{name}]({name}.svg)"]


def _lowered(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line on what de-correlation does, if both rows are there."""
    apart = [
        row["correlation"] - own["correlation"]
        for row in runs
        for own in runs
        if (row["row"], own["row"]) == (CORRELATED, RIDL)
        and (row["seed"], row["fold"]) == (own["seed"], own["fold"])
    ]
    if not apart:
        return []
    said = spread(apart)
    sd = f" (sd {said['sd']:.3f})" if said and "sd" in said else ""
    return [
        f"De-correlation lowers the correlation by {np.mean(apart):.3f}{sd} in"
        f" the same folds, and in {sum(a > 0 for a in apart)} of"
        f" {len(apart)}.",
        "",
    ]


def _shown(rows: Sequence[Mapping[str, Any]], score: str) -> str:
    values = [row[score] for row in rows]
    sd = f" ({np.std(values, ddof=1):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{sd}"


def pairs(label: str, runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """How far RIDL's AUC is above that of a row, in the same folds."""
    if label == RIDL:
        return []
    best = {(r["seed"], r["fold"]): r["auc"] for r in runs if r["row"] == RIDL}
    return [
        best[row["seed"], row["fold"]] - row["auc"]
        for row in runs
        if row["row"] == label and (row["seed"], row["fold"]) in best
    ]


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """A picture of the table: a point a run, a bar at the mean."""
    runs = content["runs"]
    labels = list(dict.fromkeys(row["row"] for row in runs))
    fig, ax = canvas.bars(labels)
    for place, label in enumerate(labels):
        values = [row["auc"] for row in runs if row["row"] == label]
        ax.plot(values, [place] * len(values), "o", color=canvas.SKY, ms=4)
        ax.plot(np.mean(values), place, "|", color=canvas.INK, ms=14, mew=2)
    ax.set_xlabel(f"{name}: AUC; a point a fold and seed, a bar their mean")
    canvas.save(fig, path)


__all__ = ["ENTRIES", "draw", "page", "reproduce"]
