"""What low-bit networks reach on which hardware, against the energy it takes.

Called by `scripts/reproduce`: networks of learned steps at several widths, as
they were trained on a digital device, on crossbars, and on an in-SRAM macro.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from reproduce_tables import only, shown, slug, spread

from jaxedge.run import canvas, job, loop, main, text, workdir

CONFIG = "configs/coreset_qat.py:quick"
ROW = "row.json"
DIGITAL, CROSSBAR, WIDE, MACRO = HARDWARE = (
    "digital",
    "crossbar",
    "crossbar, 8-bit ADC",
    "SRAM macro",
)
BITS = (2, 3, 4, 8)
# A network of 64-32-10 that learns from all examples and starts from nothing.
_NETWORK = {
    "model.name": "mlp",
    "model.widths": "(32,)",
    "coreset.method": "all",
    "coreset.fraction": 1.0,
    "augment.crop": 0,
    "train.epochs": 40,
    "train.batch": 50,
    "train.evaluate_every": 5,
    "train.checkpoint_every": 40,
    "optimizer.learning_rate": 0.05,
    "chips.n": 20,
    "chips.images": None,
    "chips.chunk": 20,
}
# Bits of an input enter one after the other; a column of 64 cells has one ADC.
_CROSSBAR = {
    "hardware.device": "rram_wan2022",
    "hardware.rows": 64,
    "hardware.columns": 64,
    "hardware.bit_serial": True,
    "hardware.adc_percentile": 99.9,
}
# Of 4 x 4 bits; each layer chooses its folding point and LSB.
_MACRO = {"hardware.device": "sram_wang2023", "hardware.macro.clip_rate": 1e-3}
_COLOURS = dict(
    zip(
        HARDWARE,
        (canvas.VERMILION, canvas.BLUE, canvas.SKY, canvas.GREEN),
        strict=True,
    )
)


# Accuracy below the best beyond which a row is not drawn.
REACH = 0.1
# Where numbers stand, in points of print: of the others, to the right. Those
# that are nearer to each other than this, in per cent, are one.
_SIDES = {WIDE: (-8, 0), MACRO: (-8, 0)}
_NEAR = 0.25


class Case(NamedTuple):
    """A network on some hardware.

    Attributes:
        bits: of its weights and of what they meet.
        hardware: one of `HARDWARE`.
        fields: of the config, by path.
    """

    bits: int
    hardware: str
    fields: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Of the row."""
        return named(self.bits, self.hardware)


class Entry(NamedTuple):
    """An experiment.

    Attributes:
        title: of the page.
        cases: rows of the table, beside those of the digital device.
    """

    title: str
    cases: Sequence[Case]


def named(bits: int, hardware: str) -> str:
    """The label of a row."""
    return f"W{bits}A{bits} {hardware}"


def _cases() -> list[Case]:
    cases = []
    for bits in BITS:
        serial = _CROSSBAR | {"hardware.input_bits": bits}
        for hardware, resolution in ((CROSSBAR, bits), (WIDE, 8)):
            if hardware == CROSSBAR or bits != resolution:
                fields = serial | {"hardware.adc_bits": resolution}
                cases.append(Case(bits, hardware, fields))
        if bits == 4:
            cases.append(Case(bits, MACRO, _MACRO))
    return cases


ENTRIES = {
    "quantized_front": Entry(
        "A perceptron of 64-32-10 on the bundled digits, all weights and inputs"
        " on learned grids of 2, 3, 4 or 8 bits. Digital: its integers as they"
        " were trained. Crossbar: cells of `rram_wan2022` in tiles of 64 x 64,"
        " whose inputs enter bit by bit and whose ADCs have as many bits as"
        " the network, or 8. SRAM macro: `sram_wang2023`, 4 x 4 bits",
        _cases(),
    )
}


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All rows of an entry; goes on where it was stopped.

    Args:
        name: a key of `ENTRIES`.
        seeds: of each row.
        rest: further flags of every run; `--only=A,B` keeps the rows whose
            labels hold one of these words; those of the digital device come
            with a crossbar's.
        folder: where the runs are kept.
        stop: looked at at every step.

    Returns:
        "runs", a row a run, and those of the digital device.
    """
    entry = ENTRIES[name]
    words, rest = only(rest)
    rows = []
    for seed in range(seeds):
        for case in entry.cases:
            if words and not any(word in case.label for word in words):
                continue
            print(f"{name}: seed {seed}, {case.label}", flush=True)
            place = folder / f"{slug(case.label.lower())}-{seed}"
            rows += _told(case, seed, _run(case, seed, rest, place, stop))
    return {"title": entry.title, "runs": rows}


def _run(
    case: Case, seed: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """What the summary of a whole run says, which is kept beside it."""
    bits = {f"quantize.{n}": case.bits for n in ("weights", "inputs", "edges")}
    fields = {**_NETWORK, **bits, **case.fields, "seed": seed}
    flags = [f"--config.{path}={value}" for path, value in fields.items()]
    options = main.parse(
        [f"--config={CONFIG}", *flags, f"--workdir={folder}", *rest]
    )
    if (folder / ROW).exists():  # A finished run is not studied again.
        workdir.check(folder, workdir.plain(options.config), study=False)
        return json.loads((folder / ROW).read_text(encoding="utf-8"))
    job.run(job.resolve(options.config, options.data_root), folder, stop)
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    row = {
        "accuracy": found["metrics"]["test_accuracy"],
        "chips": {
            key: found["chips"][key]
            for key in ("n", "score_mean", "score_std", "score_min")
        },
        "joules": found["energy"]["joules_hardware"],
        "joules_digital_device": found["energy"]["joules_gpu"],
        "seconds": found["seconds"]["train"],
    }
    workdir.write_json(folder / ROW, row)
    return row


def _told(
    case: Case, seed: int, found: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rows of a run: its chips, and once a width its network as it is."""

    def row(hardware: str, **more: Any) -> dict[str, Any]:
        label = named(case.bits, hardware)
        return {
            "seed": seed, "row": label, "bits": case.bits, "hardware": hardware,
            "seconds": found["seconds"], **more,
        }  # fmt: skip

    chips = found["chips"]
    own = row(
        case.hardware,
        accuracy=chips["score_mean"],
        over_chips=chips["score_std"],
        worst=chips["score_min"],
        chips=chips["n"],
        joules=found["joules"],
    )
    if case.hardware != CROSSBAR:
        return [own]
    digital = row(
        DIGITAL,
        accuracy=found["accuracy"],
        joules=found["joules_digital_device"],
    )
    return [digital, own]


def points(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every row over its seeds, the cheapest first.

    Returns:
        "row", "bits", "hardware"; "seeds"; "accuracy", mean and sd; "joules",
        mean; and "front": whether none is at once as cheap and better, or as
        good and cheaper, by these means.
    """
    runs = content["runs"]
    found = []
    for label in dict.fromkeys(row["row"] for row in runs):
        rows = [row for row in runs if row["row"] == label]
        found.append(
            {
                **{key: rows[0][key] for key in ("row", "bits", "hardware")},
                "seeds": len(rows),
                "accuracy": spread([row["accuracy"] for row in rows]),
                "joules": float(np.mean([row["joules"] for row in rows])),
                "runs": rows,
            }
        )
    best = front([(p["joules"], p["accuracy"]["mean"]) for p in found])
    for point, kept in zip(found, best, strict=True):
        point["front"] = kept
    return sorted(found, key=lambda p: (p["joules"], -p["accuracy"]["mean"]))


def front(pairs: Sequence[tuple[float, float]]) -> list[bool]:
    """Which pairs of a cost and a gain no other one is better than.

    Better: at most the cost and at least the gain, and not both the same.
    """
    return [
        not any(
            other != own and other[0] <= own[0] and other[1] >= own[1]
            for other in pairs
        )
        for own in pairs
    ]


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    lines = [
        f"{content['title']}. Accuracy of the test images, %: mean over seeds"
        " and, in brackets, their sd; of chips, of the mean over them. Energy"
        " of one inference as the summary of a run has it"
        " (`hardware.energy`): the crossbar's of its cells, converters and"
        " digital sums, the macro's of its conversions (a labelled default),"
        " the digital device's of two operations a product at one price, as"
        " what fewer bits save is unknown. Moving numbers and programming are"
        " not counted. The front is by the means, whatever their sd.",
        "",
        "| network and hardware | seeds | accuracy | chips | sd over chips |"
        " worst chip | energy | on the front | training (s) |",
        "|---|--:|--:|--:|--:|--:|--:|:-:|--:|",
    ]
    for point in points(content):
        rows = point["runs"]
        chips = rows[0].get("chips")
        cells = [
            str(point["seeds"]),
            shown(point["accuracy"], 100),
            str(chips or "-"),
            *(
                shown(spread([row.get(key) for row in rows]), 100)
                for key in ("over_chips", "worst")
            ),
            text.joules(point["joules"]),
            "yes" if point["front"] else "",
            f"{np.mean([row['seconds'] for row in rows]):.0f}",
        ]
        lines.append(f"| {point['row']} | {' | '.join(cells)} |")
    return [*lines, "", f"![{name}]({name}.svg)"]


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """Accuracy against energy: a point a row, and those of the front joined.

    Rows that are `REACH` below the best are told under it, not drawn.
    """
    found = points(content)
    best = max(p["accuracy"]["mean"] for p in found)
    drawn = [p for p in found if p["accuracy"]["mean"] >= best - REACH]
    fig, (ax,) = canvas.figure(7.6, 4.6)
    for hardware in HARDWARE:
        own = [p for p in drawn if p["hardware"] == hardware]
        if not own:
            continue
        ax.errorbar(
            [p["joules"] for p in own],
            [100 * p["accuracy"]["mean"] for p in own],
            [100 * p["accuracy"].get("sd", 0) for p in own],
            fmt="o", ms=6, color=_COLOURS[hardware], lw=1.2, capsize=2.5,
            label=hardware, zorder=3,
        )  # fmt: skip
        _number(ax, own, _SIDES.get(hardware, (8, 0)))
    kept = [p for p in drawn if p["front"]]
    ax.step(
        [p["joules"] for p in kept],
        [100 * p["accuracy"]["mean"] for p in kept],
        where="post", color=canvas.MUTED, lw=1.2, ls="--", label="front",
    )  # fmt: skip
    ax.set_xscale("log")
    below = [
        f"{p['row']}, {100 * p['accuracy']['mean']:.1f} % at"
        f" {text.joules(p['joules'])}"
        for p in found
        if p not in drawn
    ]
    note = f"\nnot drawn: {'; '.join(below)}" if below else ""
    ax.set_xlabel(f"Energy of one inference (J){note}")
    ax.set_ylabel("Test accuracy (%)")
    ax.set_title(
        f"{name}: numbers are bits, bars the sd over seeds", loc="left",
        fontsize=10, color=canvas.INK,
    )  # fmt: skip
    canvas.legend(ax, loc="lower right")
    canvas.save(fig, path)


def _number(
    ax: Any, own: Sequence[Mapping[str, Any]], side: tuple[float, float]
) -> None:
    """Bits beside points of one hardware; those of one place share a number."""
    told: dict[tuple[float, float], list[str]] = {}
    for point in own:
        mean = 100 * point["accuracy"]["mean"]
        near = [
            at
            for at in told
            if at[0] == point["joules"] and abs(at[1] - mean) < _NEAR
        ]
        at = near[0] if near else (point["joules"], mean)
        told.setdefault(at, []).append(str(point["bits"]))
    for at, bits in told.items():
        ax.annotate(
            ", ".join(sorted(bits)), at, side, textcoords="offset points",
            fontsize=9, color=canvas.INK, va="center",
            ha="left" if side[0] > 0 else "right",
        )  # fmt: skip


__all__ = ["ENTRIES", "draw", "front", "page", "points", "reproduce"]
