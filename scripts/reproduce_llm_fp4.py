"""Transformers in 4-bit floating point, method beside method.

Called by `scripts/reproduce`: a published sentence encoder and a published
story-telling decoder, and a decoder that `configs/language.py` trains, each
with all its matrices in small numbers by every method of `quantize.search`, on
the same calibration and the same test.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import map_named
from jaxedge.data import text
from jaxedge.models import quantized
from jaxedge.models.transformer import Decoder
from jaxedge.recipes import assessment, llm_fp4, networks
from jaxedge.run import canvas, job, loop, main, workdir

GPT = "configs/language.py"


class Entry(NamedTuple):
    """A network and how it is judged.

    Attributes:
        title: of the page.
        calibration: config of it.
        tasks: of `assessment.assess`.
        score: that is drawn and told first.
        length: tokens of a test sequence.
        most: sequences of a test.
    """

    title: str
    calibration: Mapping[str, Any]
    tasks: tuple[str, ...]
    score: str
    length: int = 128
    most: int | None = None


ENTRIES = {
    "llm_fp4_minilm": Entry(
        "MiniLM-L6, all 36 matrices of the encoder: embeddings of 256"
        " docstrings of Python beside those of the float network. Calibrated"
        " with 256 tokens of 32 others",
        {"text": "docstrings", "sequences": 32, "tokens": 48, "vectors": 256},
        ("docstrings",),
        "cosine",
    ),
    "llm_fp4_stories": Entry(
        "stories260K, all 36 matrices: perplexity of 24 stories of 200 tokens"
        " that the float network wrote. Calibrated with 24 others",
        {"text": "own", "sequences": 24, "tokens": 200, "vectors": None},
        ("own",),
        "perplexity",
        200,
        24,
    ),
    "llm_fp4_gpt": Entry(
        "A GPT of 1.07 M weights that `configs/language.py` trains: perplexity"
        " of the test split of tinyshakespeare. Calibrated with 32 windows of"
        " the training split",
        {
            "text": "tinyshakespeare",
            "sequences": 32,
            "tokens": 128,
            "vectors": None,
        },
        ("tinyshakespeare",),
        "perplexity",
    ),
}


class Case(NamedTuple):
    """A row of the table."""

    method: str
    act_bits: int = 4
    grain: str = "tensor"
    search: str = "offset"

    @property
    def name(self) -> str:
        paper = " (paper's search)" if self.search == "paper" else ""
        grain = "" if self.grain == "tensor" else f" {self.grain}"
        return f"{self.method}{grain}{paper}"


_PLAIN = ("minmax", "smoothquant", "awq", "gptq", "hadamard")
_FPQ = ("fpq_baseline", "fpq", "fpq_gptq")
CASES = (
    *(Case(m, bits) for bits in (16, 8, 4) for m in (*_PLAIN, *_FPQ)),
    Case("fpq_baseline", search="paper"),
    Case("fpq", search="paper"),
    *(
        Case(m, bits, grain)
        for bits in (16, 4)
        for grain in ("mxfp4", "nvfp4")
        for m in ("minmax", "gptq", "fpq", "fpq_gptq")
    ),
    Case("hadamard", grain="nvfp4"),
)
# Few vectors leave much to chance.
DAMP = 0.1


def reproduce(
    name: str, seeds: int, rest: Sequence[str], folder: Path, stop: loop.Stop
) -> dict[str, Any]:
    """All cases; goes on where it was stopped.

    Args:
        name: of `ENTRIES`.
        seeds: of the calibration.
        rest: `--data_root=DIR`, and `--bits=4` for cases with activations of
            so many bits alone.
        folder: of the parts.
        stop: looked at between cases.
    """
    entry = ENTRIES[name]
    root, cases = None, CASES
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag == "--data_root":
            root = value
        elif flag == "--bits" and value in ("4", "8", "16"):
            cases = tuple(c for c in CASES if c.act_bits == int(value))
        else:
            raise checks.UsageError(
                f"{argument!r} is no flag of {name}; use --data_root=DIR, or"
                " --bits=4, 8 or 16."
            )
    opened = open_model(name, root, folder, stop)
    exact = assessment.assess(
        opened,
        entry.tasks,
        root,
        reference=opened,
        length=entry.length,
        most=entry.most,
    )
    rows = []
    for seed in range(seeds):
        seen: dict[str, jax.Array] = {}
        for case in cases:
            path = folder / f"seed{seed}-{'-'.join(map(str, case))}.json"
            if not path.exists():
                if stop.asked:
                    raise loop.Preempted("stopped between two cases")
                given = settings(entry, case)
                if not seen:
                    key = stream(jax.random.key(seed), "calibration")
                    texts = llm_fp4.calibration(
                        opened, given.calibration, root, key
                    )
                    seen = llm_fp4.observed(opened, texts, given)
                row = judged(opened, seen, given, entry, root)
                folder.mkdir(parents=True, exist_ok=True)
                workdir.write_json(path, row)
                print(f"{name}: seed {seed}, {case}: {row}", flush=True)
            rows.append(
                {"seed": seed, **case._asdict()} | json.loads(path.read_text())
            )
    return {"float": exact, "summary": summary(entry, rows), "runs": rows}


def open_model(
    name: str, root: str | None, folder: Path, stop: loop.Stop
) -> networks.Opened:
    """The float network of an entry; that of the GPT is trained first."""
    if name == "llm_fp4_minilm":
        return networks.open_model("minilm")
    if name == "llm_fp4_stories":
        place = data.find_root("stories260K", "checkpoints", root)
        path = place / "checkpoints" / "stories260K" / "stories260K.bin"
        return networks.open_model(path)
    flags = [f"--config={GPT}", f"--workdir={folder / 'run'}"]
    options = main.parse(flags + ([f"--data_root={root}"] if root else []))
    resolved = job.resolve(options.config, options.data_root)
    state = job.train(resolved, folder / "run", stop)
    given = resolved.given
    pairs = text.tokenizer(
        given.data.name,
        data.find_root("the text", "text", root),
        given.data.vocabulary,
    )
    return networks.Opened(
        Decoder(given.data.vocabulary, *given.model),
        resolved.recipe.finish(state),
        pairs.encode,
        None,
        {},
        {},
        pairs.decode,
    )


def settings(entry: Entry, case: Case) -> llm_fp4.Settings:
    """The recipe's settings of a row."""
    config: Any = llm_fp4.defaults()
    config.quantize.update(
        {
            "act_bits": case.act_bits,
            "method": case.method,
            "search": case.search,
            "grain": case.grain,
            "damp": DAMP,
        }
    )
    config.calibration.update(entry.calibration)
    return llm_fp4.parse(config)


def judged(
    opened: networks.Opened,
    seen: Mapping[str, jax.Array],
    given: llm_fp4.Settings,
    entry: Entry,
    root: str | None,
) -> dict[str, Any]:
    """Scores, formats and seconds of a row."""
    weights: dict[str, jax.Array] = {}
    map_named(weights.__setitem__, opened.variables)
    started = time.perf_counter()
    leaves = {
        path: quantized.quantise(path, weights[path], x, **given.quantize.how)
        for path, x in seen.items()
    }
    jax.block_until_ready(list(leaves.values()))
    seconds = time.perf_counter() - started
    small = llm_fp4.assemble(opened, leaves, {})
    scores = assessment.assess(
        small,
        entry.tasks,
        root,
        reference=opened,
        length=entry.length,
        most=entry.most,
    )
    formats: dict[str, int] = {}
    for leaf in leaves.values():
        blocks = leaf.layer.act_blocks
        act = blocks.format if blocks else leaf.layer.act_format
        pair = f"{leaf.layer.weight_format.name}/{act.name if act else '-'}"
        formats[pair] = formats.get(pair, 0) + 1
    size = sum(leaf.size for leaf in leaves.values())
    return {
        **scores[entry.tasks[0]],
        "bits": 8 * sum(leaf.layer.nbytes for leaf in leaves.values()) / size,
        "formats": formats,
        "seconds": round(seconds, 1),
    }


def summary(entry: Entry, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Means and spreads over seeds, in the order of `CASES`."""
    found = []
    for case in CASES:
        own = [
            row
            for row in rows
            if all(row[k] == v for k, v in case._asdict().items())
        ]
        if not own:
            continue
        names = [
            k
            for k, v in own[0].items()
            if isinstance(v, float) and k != "seconds"
        ]
        found.append(
            {
                **case._asdict(),
                **{k: float(np.mean([row[k] for row in own])) for k in names},
                "sd": float(np.std([row[entry.score] for row in own], ddof=1))
                if len(own) > 1
                else None,
                "formats": own[0]["formats"],
                "seconds": min(row["seconds"] for row in own),
            }
        )
    return found


def page(name: str, content: Mapping[str, Any]) -> list[str]:
    """The tables as markdown."""
    entry = ENTRIES[name]
    seeds = len({row["seed"] for row in content["runs"]})
    lines = [
        f"{entry.title}. Mean of {seeds} seed(s) of the calibration, standard"
        f" deviation of {entry.score} beside it; damp {DAMP} where weights make"
        " up for each other. Methods: `quantize.search.linear`. Weights have a"
        " scale each output and activations one for all, or both one each"
        " block. Formats: weights/activations, number of matrices; a block"
        " that is searched may also have E1M2. Seconds: of the search, with"
        " compilation.",
        "",
        f"![{entry.score} by method]({name}.svg)",
    ]
    exact = content["float"][entry.tasks[0]]
    if entry.score == "perplexity":
        lines += ["", f"Float: perplexity {exact['perplexity']:.3f}."]
    told = {row["act_bits"] for row in content["summary"]}
    for bits in sorted(told, reverse=True):
        lines += ["", f"## W4A{bits}", "", *_table(entry, content, bits)]
    return lines


def _table(entry: Entry, content: Mapping[str, Any], bits: int) -> list[str]:
    names = {
        "cosine": ("cosine", "cosine_p05", "nearest", "nearest_10", "spearman"),
        "perplexity": ("perplexity",),
    }[entry.score]
    head = ["method", *names, "sd", "bits a weight", "formats", "s"]
    lines = [
        "| " + " | ".join(head) + " |",
        "|---|" + "--:|" * (len(names) + 2) + "---|--:|",
    ]
    for row in content["summary"]:
        if row["act_bits"] != bits:
            continue
        case = Case(*(row[k] for k in Case._fields))
        sd = "" if row["sd"] is None else f"{row['sd']:.4f}"
        shown = ", ".join(
            f"{pair} {count}"
            for pair, count in sorted(
                row["formats"].items(), key=lambda item: -item[1]
            )[:3]
        )
        cells = [
            case.name,
            *(f"{row[k]:.4f}" for k in names),
            sd,
            f"{row['bits']:.3f}",
            shown,
            f"{row['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def draw(name: str, content: Mapping[str, Any], path: Path) -> None:
    """W4A4, method by method, worst first."""
    entry = ENTRIES[name]
    rows = [row for row in content["summary"] if row["act_bits"] == 4]
    worse = entry.score == "perplexity"
    rows.sort(key=lambda row: -row[entry.score] if worse else row[entry.score])
    fig, (ax,) = canvas.figure(8.6, 0.26 * len(rows) + 1.0)
    for i, row in enumerate(rows):
        case = Case(*(row[k] for k in Case._fields))
        colour = canvas.BLUE if case.grain == "tensor" else canvas.GREEN
        value = row[entry.score]
        ax.barh(i, value, color=colour, xerr=row["sd"] or None, height=0.7)
        ax.text(value, i, f" {value:.3f}", va="center", fontsize=8)
    names = [Case(*(row[k] for k in Case._fields)).name for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=8)
    if worse:
        ax.set_xscale("log")
        exact = content["float"][entry.tasks[0]][entry.score]
        ax.axvline(exact, color=canvas.VERMILION, lw=1.2)
    ax.set_xlabel(f"{entry.score}, W4A4 (green: blocks)")
    canvas.save(fig, path)


__all__ = ["CASES", "ENTRIES", "draw", "page", "reproduce"]
