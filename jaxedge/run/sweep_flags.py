"""The flags of `jaxedge sweep`, read before anything heavy is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from jaxedge.core import checks

ENGINES = ("local", "submitit", "ray")
_EXAMPLE = "--workdir=runs/sweep"
# Flags of a run that the sweep sets by itself.
_OWN = ("workdir", "distributed")


class Asked(NamedTuple):
    """What is asked for.

    Attributes:
        source: the config file, with its variant.
        workdir: the folder of the sweep.
        passed: flags that every run is given.
        grid: values of fields; empty for none.
        random: how many points are drawn; None for no draws.
        ranges: where they are drawn from.
        sweep_seed: of the draws.
        seeds: of each point; None leaves the config's.
        jobs: runs at once; None is one here, and all at once elsewhere.
        engine: one of `ENGINES`.
        options: of the engine.
    """

    source: str
    workdir: Path
    passed: tuple[str, ...]
    grid: str = ""
    random: int | None = None
    ranges: str = ""
    sweep_seed: int = 0
    seeds: int | None = None
    jobs: int | None = None
    engine: str = "local"
    options: str = ""


def parse(arguments: Sequence[str]) -> Asked:
    """Reads the command line; touches no file.

    Raises:
        UsageError: for a bad value, or flags that contradict each other. Flags
            of a run, such as --config.field, are checked with the points.
    """
    values = _flags()
    try:
        rest = [str(a) for a in values(["jaxedge", *arguments], True)[1:]]
    except flags.Error as error:
        text = " ".join(str(error).split()).removeprefix("flag ")
        raise checks.UsageError(text) from None
    folder, passed = _without(rest)
    if not _given(passed, "config"):
        raise checks.UsageError(
            "no --config was given; for example"
            " --config=configs/edge_pruning.py:digits."
        )
    if not folder:
        raise checks.UsageError(
            f"no --workdir was given; for example {_EXAMPLE}."
        )
    if values.grid and values.random is not None:
        raise checks.UsageError(
            "--grid and --random are two ways to make points; give one."
        )
    if (values.random is None) == bool(values.ranges):
        raise checks.UsageError(
            "--random needs --ranges, and they need it; for example --random=20"
            " --ranges='optimizer.learning_rate=log:1e-4:1e-2'."
        )
    if values.options and values.engine == "local":
        raise checks.UsageError(
            "--options are those of an engine; add --engine=submitit or"
            " --engine=ray."
        )
    return Asked(
        _given(passed, "config"),
        Path(folder),
        tuple(passed),
        **{name: getattr(values, name) for name in Asked._fields[3:]},
    )


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    # Flags of a run stand among those of the sweep, in either way to write one.
    values.set_gnu_getopt(True)
    for name in ("grid", "ranges", "options"):
        flags.DEFINE_string(name, "", "Fields.", flag_values=values)
    flags.DEFINE_integer(
        "random", None, "Points.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "sweep_seed", 0, "Of draws.", lower_bound=0, flag_values=values
    )
    for name in ("seeds", "jobs"):
        flags.DEFINE_integer(
            name, None, "Number.", lower_bound=1, flag_values=values
        )
    flags.DEFINE_enum(
        "engine", ENGINES[0], ENGINES, "Where.", flag_values=values
    )
    return values


def _without(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The workdir, and the flags that are left for every run."""
    folder, passed, take = "", [], False
    for argument in arguments:
        name, sign, value = argument.lstrip("-").partition("=")
        if take:
            folder, take = argument, False
        elif not argument.startswith("-") or name not in _OWN:
            passed.append(argument)
        elif name == "distributed":
            raise checks.UsageError(
                "--distributed is for one run on many processes; a sweep has"
                " --jobs and --engine."
            )
        else:
            folder, take = value, not sign
    return folder, passed


def _given(arguments: Sequence[str], flag: str) -> str:
    """The value of a flag, the last if there are more; empty without one."""
    found = ""
    for place, argument in enumerate(arguments):
        name, sign, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == flag:
            after = arguments[place + 1 : place + 2]
            found = value if sign else "".join(after)
    return found
