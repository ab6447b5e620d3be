"""Pairs of which half of the cells are formed, under read noise.

Called by `scripts/reproduce half_sparse`. Theory (device_physics D.2) and
measurement of signal over noise for pairs of several sparsities, and the
digits of `configs/deplm.py` on chips with such pairs, each of which learns its
own readout from what it reads.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core.keys import stream
from jaxedge.hardware import crossbar, devices
from jaxedge.run import canvas, job, loop, main, study

NAME = "half_sparse"
CONFIG = "configs/deplm.py:digits"
SPARSITY = (0.0, 0.5, 0.8)
NOISE = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
# Read noise of the accuracies, and chips at each level.
READ, CHIPS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2), 3
# An array, and vectors that it reads.
SHAPE, VECTORS = (400, 300), 64


def measured(key: jax.Array, sparsity: float, noise: float) -> float:
    """Power of an array's outputs over that of the noise of a read.

    Args:
        key: of the chip, its inputs and its reads; consumed.
        sparsity: share of cells that are not formed.
        noise: relative read noise.
    """
    spec = crossbar.Spec(as_formed(sparsity, noise))
    leaf = hardware.program(stream(key, "chip"), jnp.ones(SHAPE), spec)
    x = jax.random.normal(stream(key, "inputs"), (VECTORS, SHAPE[0]))
    clean = hardware.dot(x, leaf)
    noisy = hardware.dot(x, leaf, key=stream(key, "read"))
    return float(jnp.mean(clean**2) / jnp.mean((noisy - clean) ** 2))


def as_formed(sparsity: float, noise: float) -> devices.RandomRram:
    """The macro's cells, of which a share is not formed at all."""
    return devices.RandomRram(
        formed=1 - sparsity, pristine=0.0, read_noise=noise
    )


def reproduce(
    rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """Both figures; goes on where it was stopped.

    Args:
        rest: further flags of the runs.
        folder: of the runs.
        stop: looked at between chunks of chips.
    """
    rows = []
    for i, s in enumerate(SPARSITY):
        for j, noise in enumerate(NOISE):
            key = jax.random.fold_in(jax.random.key(i), j)
            rows.append(
                {
                    "sparsity": s,
                    "read_noise": noise,
                    "theory": float(
                        jnp.asarray(devices.read_snr(as_formed(s, noise)))
                    ),
                    "measured": measured(key, s, noise),
                }
            )
    accuracy = {}
    for s in SPARSITY:
        print(f"{NAME}: accuracy at sparsity {s:g}", flush=True)
        accuracy[f"{s:g}"] = on_chips(s, rest, folder / f"{s:g}", stop)
    return {"pairs": rows, "read_noise": READ, "accuracy": accuracy}


def on_chips(
    sparsity: float, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> list[list[float]]:
    """Accuracies of chips at each read noise of `READ`, [level][chip].

    Chips learn all that is learned, so nothing is trained before.
    """
    own = (
        f"--config={CONFIG}",
        f"--workdir={folder}",
        f"--config.hardware.overrides.formed={1 - sparsity:g}",
        "--config.study=noise",
        f"--config.chips.read_noise={READ}",
        f"--config.chips.n={CHIPS}",
        f"--config.chips.sweep={CHIPS}",
        f"--config.chips.chunk={CHIPS}",
        *rest,
    )
    options = main.parse(own)
    given = job.resolve(options.config, options.data_root)
    start = given.recipe.init(stream(given.key, "init"))
    found = study.run(
        given.recipe,
        {"params": start.params, "batch_stats": start.stats},
        given.splits["test"],
        given.spec,
        given.chips,
        given.swept,
        stream(given.key, "study"),
        folder / "studies",
        stop,
        lessons=given.splits["train"],
    )
    rows = np.asarray(found.arrays["read_noise_score"], float)
    return [[round(value, 5) for value in row] for row in rows.tolist()]


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    lines = [
        "A pair whose cells are all formed holds its weight in a small"
        " difference of two conductances that both are noisy; a pair of which"
        " one cell is formed holds all of it. Signal over read noise is (s +"
        " (1 - s) sd² / (µ² + sd²)) / σ² for a share s of cells that are not"
        " formed.",
        "",
        f"![signal over noise, and accuracy]({NAME}.svg)",
        "",
        f"Measured on one array of {SHAPE[0]} x {SHAPE[1]} pairs and"
        f" {VECTORS} vectors a row of this table:",
        "",
        "| sparsity s | read noise σ | SNR by theory | measured | SNR·σ² |",
        "|--:|--:|--:|--:|--:|",
    ]
    for row in content["pairs"]:
        product = row["measured"] * row["read_noise"] ** 2
        lines.append(
            f"| {row['sparsity']:g} | {row['read_noise']:g} |"
            f" {row['theory']:.4g} | {row['measured']:.4g} | {product:.4f} |"
        )
    noises = content["read_noise"]
    lines += [
        "",
        f"Mean accuracy (%) of {CHIPS} chips of `{CONFIG}`, each of which"
        " learns its readout from its own reads:",
        "",
        "| sparsity | " + " | ".join(f"σ = {x:g}" for x in noises) + " |",
        "|--:|" + "--:|" * len(noises),
    ]
    for s, rows in content["accuracy"].items():
        means = " | ".join(f"{100 * np.mean(row):.1f}" for row in rows)
        lines.append(f"| {s} | {means} |")
    return lines


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Theory as lines, measurement as marks; and accuracy beside it."""
    fig, (left, right) = canvas.figure(8.6, 3.6, columns=2)
    colours = (canvas.VERMILION, canvas.BLUE, canvas.GREEN)
    for s, colour in zip(SPARSITY, colours, strict=True):
        rows = [row for row in content["pairs"] if row["sparsity"] == s]
        x = [100 * row["read_noise"] for row in rows]
        for kind, style in (("theory", "-"), ("measured", "o")):
            y = [10 * np.log10(row[kind]) for row in rows]
            label = f"s = {s:g}, theory" if kind == "theory" else None
            left.plot(x, y, style, color=colour, label=label, ms=5)
        accuracy = 100 * np.array(content["accuracy"][f"{s:g}"])
        noise = 100 * np.array(content["read_noise"])
        right.plot(
            noise, accuracy.mean(1), "o-", color=colour, label=f"s = {s:g}"
        )
        right.fill_between(
            noise, accuracy.min(1), accuracy.max(1), color=colour, alpha=0.15,
            lw=0,
        )  # fmt: skip
    left.set_xscale("log")
    right.set_xscale("symlog", linthresh=1)
    left.set_ylabel("Signal over read noise (dB)")
    right.set_ylabel("Accuracy on digits (%)")
    for ax in (left, right):
        ax.set_xlabel("Relative read noise of a cell (%)")
        canvas.legend(ax)
    canvas.save(fig, path)


__all__ = ["CONFIG", "NAME", "draw", "measured", "page", "reproduce"]
