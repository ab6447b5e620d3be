"""Multiple-choice questions, which a language model answers without a lesson.

They are read from `mcq/` of the data root, JSON lines of a question, its
choices and the place of the right one, gzipped. What is asked of a model is
that of lm-evaluation-harness (`PROMPTS`), which names its tasks as here.
"""

from collections.abc import Callable
import gzip
import json
import os
from pathlib import Path
from typing import Any, NamedTuple
import zlib

from jaxedge import data
from jaxedge.core import checks

# A context and what follows it.
Prompt = tuple[str, str]


class Question(NamedTuple):
    """A question, and what a model is asked to find the likeliest of.

    Attributes:
        question: as the set has it.
        choices: likewise, two or more.
        label: the place of the right one.
        prompts: of every choice a context and how it goes on.
    """

    question: str
    choices: tuple[str, ...]
    label: int
    prompts: tuple[Prompt, ...]


def _after(context: str) -> Callable[[str, str], Prompt]:
    """The choice follows the question."""
    return lambda question, choice: (
        context.format(question),
        f" {choice}",
    )


def _filled(question: str, choice: str) -> Prompt:
    """The choice fills the blank, and what follows the blank is scored."""
    before, _, ending = question.partition("_")
    return before + choice, f" {ending.strip()}"


def _yes_or_no(question: str, choice: str) -> Prompt:
    answer = {"true": "yes", "false": "no"}.get(choice, choice)
    return f"Question: {question}\nAnswer:", f" {answer}"


_ASKED = _after("Question: {}\nAnswer:")
PROMPTS: dict[str, Callable[[str, str], Prompt]] = {
    "arc_easy": _ASKED,
    "arc_challenge": _ASKED,
    "openbookqa": _after("{}"),
    "piqa": _ASKED,
    "social_iqa": _after("Q: {}\nA:"),
    "winogrande": _filled,
    "boolq_no_passage": _yes_or_no,
}
# The file of each set, and how many questions it has.
FILES = {
    "arc_easy": ("arc_easy_test.jsonl.gz", 2376),
    "arc_challenge": ("arc_challenge_test.jsonl.gz", 1172),
    "openbookqa": ("openbookqa_test.jsonl.gz", 500),
    "piqa": ("piqa_valid.jsonl.gz", 1838),
    "social_iqa": ("social_iqa_val.jsonl.gz", 1954),
    "winogrande": ("winogrande_dev.jsonl.gz", 1267),
    "boolq_no_passage": ("boolq_dev_noPassage.jsonl.gz", 3270),
}


def load(
    name: str, root: str | os.PathLike[str] | None = None
) -> tuple[Question, ...]:
    """The questions of a set, in the order of its file.

    Args:
        name: of `FILES`. "boolq_no_passage" is not the task boolq: the passage
            that holds the answer is missing, so that its accuracy cannot be
            compared with a published one.
        root: the folder that holds `mcq/`; by default that of the environment
            variable JAXEDGE_DATA.

    Raises:
        UsageError: for an unknown name, a missing root or file, a file that is
            damaged or has another number of questions, and a line that is no
            question (names it).
    """
    checks.choice("set of questions", name, FILES)
    file, count = FILES[name]
    folder = data.find_root(f"the questions of {name!r}", "mcq", root)
    found = read(folder / "mcq" / file, PROMPTS[name])
    if len(found) != count:
        raise checks.UsageError(
            f"{folder / 'mcq' / file} has {len(found)} questions, but {name}"
            f" has {count}; replace it."
        )
    return found


def read(
    path: str | os.PathLike[str], prompt: Callable[[str, str], Prompt] = _ASKED
) -> tuple[Question, ...]:
    """The questions of a file of one's own.

    Args:
        path: of gzipped JSON lines with "question", "choices" and "label".
        prompt: (question, choice) -> context and what follows.

    Raises:
        UsageError: as `load`.
    """
    path = Path(path)
    if not path.is_file():
        raise checks.UsageError(f"{path} is missing; put the questions there.")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise checks.UsageError(
            f"{path} is no gzipped text ({error}); fetch it again."
        ) from None
    return tuple(
        _question(f"line {i} of {path}", line, prompt)
        for i, line in enumerate(lines, 1)
    )


def _question(
    where: str, line: str, prompt: Callable[[str, str], Prompt]
) -> Question:
    try:
        row: Any = json.loads(line)
        question, choices, label = (
            row[field] for field in ("question", "choices", "label")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise checks.UsageError(
            f"{where} is no question ({type(error).__name__}: {error}); it"
            ' needs {"question": text, "choices": [text, ...], "label": place}.'
        ) from None
    texts = isinstance(choices, list) and len(choices) > 1
    if not texts or not all(isinstance(t, str) for t in [question, *choices]):
        raise checks.UsageError(
            f"{where} has the question {question!r} and the choices"
            f" {choices!r}; give a text, and a list of two or more."
        )
    checks.whole(f"the label of {where}", label)
    checks.in_range(f"the label of {where}", label, 0, len(choices) - 1)
    prompts = tuple(prompt(question, choice) for choice in choices)
    return Question(question, tuple(choices), label, prompts)
