"""The flags of `jaxedge compare`, read before anything heavy is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from jaxedge.core import checks


class Asked(NamedTuple):
    """What is asked for.

    Attributes:
        folders: workdirs, folders of sweeps, or folders of workdirs.
        out: the folder that is written.
    """

    folders: tuple[Path, ...]
    out: Path


def parse(arguments: Sequence[str]) -> Asked:
    """Reads the command line; touches no file.

    Raises:
        UsageError: for an unknown flag, or without a folder.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    flags.DEFINE_string("out", None, "Folder.", flag_values=values)
    try:
        given = [str(a) for a in values(["jaxedge", *arguments])[1:]]
    except flags.Error as error:
        text = " ".join(str(error).split()).removeprefix("flag ")
        raise checks.UsageError(text) from None
    if not given:
        raise checks.UsageError(
            "no workdirs were given; for example jaxedge compare runs/a runs/b"
            " --out=comparison."
        )
    if not values.out:
        raise checks.UsageError(
            "no --out was given; for example --out=comparison."
        )
    return Asked(tuple(Path(text) for text in given), Path(values.out))
