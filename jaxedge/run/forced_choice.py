"""`jaxedge study`: can a reader tell made pairs of images from real ones?

A forced choice: a real pair of the test split and a made one beside each other,
which is real? Someone who cannot tell is right in half of the cases. The page
has no answers in it; they are in a file beside it, which readers are not given.

How blinded that is: the order of the questions and the sides come from the seed
and from the network's weights, so that who has the page alone, and the program,
cannot find them. Pictures are files of one length. Who has the run can.
"""

from collections.abc import Mapping, Sequence
import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.models import arrays
from jaxedge.recipes import sequential_gan
from jaxedge.run import forced_choice_page, metrics, pair_maker, workdir
from jaxedge.run.checkpoint import digest
from jaxedge.run.forced_choice_page import Question
from jaxedge.run.statistics import CONFIDENCE, share_interval

PAGE, ANSWERS = "study.html", "answers.json"
_SIDES = ("left", "right")
_COLUMNS = ["study", "question", "answer"]


class Result(NamedTuple):
    """How often a reader was right.

    Attributes:
        hits: questions in which the real pair was taken for real.
        answered: questions that were answered.
        questions: all of them.
        low: lower end of the exact interval of the share of hits (Clopper and
            Pearson 1934).
        high: its upper end.
        p: the chance of a count as unlikely as this one, or less likely, if the
            reader guesses (exact binomial test against 1/2, two-sided).
    """

    hits: int
    answered: int
    questions: int
    low: float
    high: float
    p: float


def export(
    folder: Path,
    out: Path,
    questions: int = 40,
    seed: int = 0,
    data_root: str | None = None,
) -> Path:
    """Writes the page of a study, and its answers into a file beside it.

    Args:
        folder: of a finished run of `recipes.sequential_gan`; pairs are made of
            normal vectors by its network, on ideal hardware, of the same class
            as the real pair beside it where it makes classes apart.
        out: folder that is made.
        questions: how many.
        seed: of which pairs are shown, of their order and of their sides.
        data_root: as of `data.load`.

    Returns:
        The path of the page.

    Raises:
        UsageError: for a missing run, one of another recipe, fewer test pairs
            than questions, or a folder that holds another study.
    """
    checks.whole("--questions", questions, 1)
    checks.in_range("--seed", seed, 0, 2**31 - 1)
    config, given = _config(folder)
    splits = {
        split: data.load(
            given.data.name, split, data_root, **given.data.options
        )
        for split in data.SPLITS
    }
    splits, _ = sequential_gan.prepare(given, splits)
    test = splits["test"]
    if questions > len(test.y):
        raise checks.UsageError(
            f"--questions is {questions}, but the test split of"
            f" {given.data.name} has {len(test.y)} pairs, and none is shown"
            " twice; ask fewer."
        )
    variables = _variables(folder, given, splits)
    key = stream(jax.random.key(seed), f"study {digest(variables)}")
    real_N, left_N = _drawn(key, len(test.y), questions)
    maker = pair_maker.network(given, splits)
    # Behind those of a report.
    rows_N = 3 * 10**6 + real_N
    made = maker.pairs(variables, maker.vectors(rows_N, test.y[real_N]))
    real = test.x[real_N]
    _, swapped = pair_maker.known_pairs(given, splits["train"], data_root)
    shown = [
        Question(a, b) if left else Question(b, a)
        for a, b, left in zip(real, made, left_N, strict=True)
    ]
    name = f"{digest(shown):08x}"
    document = forced_choice_page.document(
        name, shown, pair_maker.modalities(given.data, swapped)
    )
    answers = {
        "study": name,
        "run": folder.resolve().name,
        "seed": seed,
        "config": config,
        "real": [_SIDES[0 if left else 1] for left in left_N],
        "rows": real_N.tolist(),
    }
    _write(out, document, answers)
    return out / PAGE


def _write(out: Path, document: str, answers: Mapping[str, Any]) -> None:
    key = out / ANSWERS
    if key.exists() and _key(key)["study"] != answers["study"]:
        raise checks.UsageError(
            f"{key} has the answers of another study, without which its"
            " readers cannot be scored; choose another --out."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        workdir.write_json(key, answers)
        metrics.replace(out / PAGE, document)
    except OSError as error:
        raise checks.UsageError(
            f"the folder {out} cannot be written ({error.strerror}); choose"
            " another --out."
        ) from error


def _drawn(
    key: jax.Array, pairs: int, questions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of real pairs in the order of the questions, and who is left."""
    order = jax.random.permutation(stream(key, "order"), pairs)
    # As often left as right, so that no habit of a reader pays.
    sides = jax.random.permutation(
        stream(key, "sides"), np.arange(questions) % 2
    )
    return np.asarray(order[:questions]), np.asarray(sides) == 0


def _config(folder: Path) -> tuple[Any, sequential_gan.Settings]:
    path = folder / "config.json"
    if not path.is_file():
        raise checks.UsageError(
            f"there is no run in {folder}: {path} is missing; name the"
            " --workdir of a finished `jaxedge run`."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        recipe = config["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error}); name the --workdir of a finished"
            " `jaxedge run`."
        ) from error
    if recipe != "sequential_gan":
        raise checks.UsageError(
            f"the run in {folder} is of the recipe {recipe!r}, but only"
            " 'sequential_gan' makes images; name another --workdir."
        )
    return config, sequential_gan.parse(config)


def _variables(
    folder: Path,
    given: sequential_gan.Settings,
    splits: Mapping[str, data.Source],
) -> Any:
    train = splits["train"]
    recipe = sequential_gan.build(
        given, train.x[:1], len(train.classes), given.train.steps
    )
    like = jax.eval_shape(lambda: recipe.finish(recipe.init(jax.random.key(0))))
    return arrays.load(folder, like)


# Scores.


def score(answers: Path, key: Path) -> Result:
    """How often the answers of a reader were right.

    Questions without an answer do not count. Of several readers each is scored
    alone: as they saw the same pairs, their answers are not independent.

    Args:
        answers: a CSV that the page gave.
        key: `answers.json` of the same study.

    Raises:
        UsageError: for files that cannot be read, another study's answers, a
            question that there is not or that is answered twice, or none at
            all.
    """
    from scipy import stats

    known = _key(key)
    found = _answers(answers, known["study"], len(known["real"]))
    hits = sum(known["real"][i - 1] == side for i, side in found.items())
    low, high = share_interval(hits, len(found))
    p = stats.binomtest(hits, len(found), 0.5).pvalue
    return Result(
        hits,
        len(found),
        len(known["real"]),
        float(low),
        float(high),
        float(p),
    )


def told(result: Result) -> str:
    """A result in one line."""
    left_out = result.questions - result.answered
    more = f"; {left_out} of {result.questions} not answered" * bool(left_out)
    return (
        f"{result.hits} of {result.answered} right,"
        f" {100 * result.hits / result.answered:.1f} %"
        f" ({100 * CONFIDENCE:g} % interval {100 * result.low:.1f} to"
        f" {100 * result.high:.1f} %), two-sided p against 1/2 {result.p:.3g}"
        f"{more}"
    )


def _key(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        sides = known["real"]
        if not sides or {*sides} - {*_SIDES} or "study" not in known:
            raise ValueError("it is no key of a study")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise checks.UsageError(
            f"--key {path} cannot be read ({error}); name the {ANSWERS} that"
            " `jaxedge study --workdir=... --out=...` wrote."
        ) from error
    return known


def _answers(path: Path, study: str, questions: int) -> dict[int, str]:
    """Sides by question, counted from 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head, *lines = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise checks.UsageError(
            f"--score {path} cannot be read ({error}); name a CSV that the page"
            " of the study gave."
        ) from error
    if head != _COLUMNS or any(len(row) != len(_COLUMNS) for row in lines):
        raise checks.UsageError(
            f"--score {path} must have the columns {','.join(_COLUMNS)}; name a"
            " CSV that the page of the study gave."
        )
    found: dict[int, str] = {}
    for number, row in enumerate(lines, start=2):
        _check_answer(f"line {number} of {path}", row, study, questions)
        if (question := int(row[1])) in found:
            raise checks.UsageError(
                f"line {number} of {path} answers question {question} again;"
                " leave one answer to each."
            )
        found[question] = row[2]
    if not found:
        raise checks.UsageError(f"{path} has no answers; choose some first.")
    return found


def _check_answer(
    where: str, row: Sequence[str], study: str, questions: int
) -> None:
    name, question, side = row
    if name != study:
        raise checks.UsageError(
            f"{where} is of the study {name!r}, but --key is of {study!r}; name"
            " the key of the same study."
        )
    if not question.isdecimal() or not 1 <= int(question) <= questions:
        raise checks.UsageError(
            f"{where} answers question {question!r}, but there are 1 to"
            f" {questions}."
        )
    checks.choice(f"answer in {where}", side, _SIDES)
