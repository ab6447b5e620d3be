"""The flags of `jaxedge study`, read before anything heavy is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from jaxedge.core import checks

_PATHS = {
    "workdir": "runs/gan",
    "out": "runs/study",
    "score": "answers.csv",
    "key": "runs/study/answers.json",
}
_EXPORTS = ("workdir", "out", "data_root", "questions", "seed")
_SCORES = ("score", "key")


class Export(NamedTuple):
    """A page that is to be written, see `forced_choice.export`."""

    folder: Path
    out: Path
    questions: int
    seed: int
    data_root: str | None


class Score(NamedTuple):
    """Answers that are to be scored, see `forced_choice.score`."""

    answers: tuple[Path, ...]
    key: Path


def parse(arguments: Sequence[str]) -> Export | Score:
    """Reads the command line; touches no file.

    Raises:
        UsageError: for an unknown flag, a bad value, a missing name, or flags
            of both.
    """
    values = _flags()
    try:
        rest = values(["jaxedge", *arguments])[1:]
    except flags.Error as error:
        text = " ".join(str(error).split()).removeprefix("flag ")
        raise checks.UsageError(text) from None
    if rest:
        raise checks.UsageError(
            f"{rest[0]!r} is no flag; flags start with -- and are written"
            " --name=value."
        )
    scores = any(values[name].present for name in _SCORES)
    for name in _SCORES if scores else ("workdir", "out"):
        if not getattr(values, name):
            raise checks.UsageError(
                f"no --{name} was given; for example --{name}={_PATHS[name]}."
            )
    if not scores:
        return Export(
            Path(values.workdir),
            Path(values.out),
            values.questions,
            values.seed,
            values.data_root,
        )
    if more := [name for name in _EXPORTS if values[name].present]:
        raise checks.UsageError(
            f"--{more[0]} makes a page and --score scores its answers; do one"
            " after the other."
        )
    return Score(tuple(map(Path, values.score)), Path(values.key))


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    for name in ("workdir", "out", "data_root", "key"):
        flags.DEFINE_string(name, None, "Path.", flag_values=values)
    flags.DEFINE_list("score", [], "Paths.", flag_values=values)
    for name, default in (("questions", 40), ("seed", 0)):
        flags.DEFINE_integer(name, default, "Number.", flag_values=values)
    return values
