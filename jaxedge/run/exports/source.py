"""A finished run, opened to be exported."""

from collections.abc import Mapping
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple
import warnings
import zipfile
import zlib

import jax
from ml_collections import ConfigDict
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import map_named
from jaxedge.models import arrays
from jaxedge.run import chips, settle, study
from jaxedge.run.exports import folder as export_folder
from jaxedge.run.job import Job, resolve


class Source(NamedTuple):
    """What is exported.

    Attributes:
        folder: of the run.
        job: its config, resolved.
        variables: of the network on ideal hardware.
        summary: what the run found.
        digest: of the network's file.
    """

    folder: Path
    job: Job
    variables: Any
    summary: Mapping[str, Any]
    digest: str

    @property
    def about(self) -> dict[str, Any]:
        """Whose network it is, as JSON."""
        return {
            "run": self.digest,
            "recipe": self.job.config["recipe"],
            "network": self.job.config["model"],
            "data": self.job.config["data"],
            "metrics": self.summary.get("metrics"),
            "versions": self.summary.get("versions"),
        }


def opened(folder: Path, data_root: str | None = None) -> Source:
    """Opens the workdir of a finished run.

    Args:
        folder: the workdir.
        data_root: as of `data.load`.

    Raises:
        UsageError: for a folder without a run, a run that is not finished, or
            files that are damaged or of another config.
    """
    config = _json(folder / "config.json", folder, "there is no run in")
    network = folder / arrays.FILE
    if not network.is_file():
        raise checks.UsageError(
            f"the run in {folder} is not finished: there is no {arrays.FILE};"
            " finish it with `jaxedge run` first."
        )
    summary = _json(
        folder / "summary.json", folder, "the run is not finished in"
    )
    with warnings.catch_warnings():  # They were told when it was trained.
        warnings.simplefilter("ignore")
        job = resolve(ConfigDict(config), data_root)
    like = jax.eval_shape(
        lambda: job.recipe.finish(job.recipe.init(jax.random.key(0)))
    )
    variables = _filled(network, like)
    return Source(
        folder, job, variables, summary, export_folder.digest(network)
    )


def start(source: Source) -> Any:
    """The variables that training began with."""
    recipe, key = source.job.recipe, stream(source.job.key, "train")
    begin = jax.jit(lambda key: recipe.finish(recipe.init(key)))
    return begin(stream(key, "init"))


def check_chip(source: Source, number: int) -> None:
    """Raises UsageError for a chip that the study of a run does not have."""
    count = source.job.chips.n
    if not 0 <= number < count:
        raise checks.UsageError(
            f"--chip is {number}, but the study of {source.folder} has"
            f" {count} chips, 0 to {count - 1}."
        )


def chip(source: Source, number: int) -> Any:
    """Variables of a chip of the run's study, as it is tested.

    It is programmed, and has set the ranges of its converters and learned what
    chips learn for themselves.

    Args:
        source: the run.
        number: 0 for the first chip.

    Raises:
        UsageError: for a chip that the study does not have.
    """
    check_chip(source, number)
    job = source.job
    key = chips.wafer(stream(job.key, "study"), number + 1)[number]
    program = jax.jit(hardware.deploy)
    params = program(
        chips.programming(key), source.variables["params"], job.spec
    )
    variables = {**source.variables, "params": params}
    calibrated = settle.calibrated(job.spec)
    if not calibrated and job.recipe.adapt is None:
        return variables
    test = study.readings(
        job.recipe,
        job.splits["test"],
        job.chips,
        job.samples if calibrated else None,
        job.splits["train"],
    )
    finish = jax.jit(functools.partial(settle.settled, job.recipe))
    return finish(key, variables, test)


def _filled(path: Path, like: Any) -> Any:
    """The structure of `like` with the arrays of the file, in numpy."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as e:
        raise checks.UsageError(
            f"{path} is damaged ({e}); finish the run that is to write it"
            " again."
        ) from None

    def one(name: str, leaf: Any) -> np.ndarray:
        array = stored.get(name)
        if array is None or array.shape != leaf.shape:
            have = "is missing" if array is None else f"has {array.shape}"
            raise checks.UsageError(
                f"{path}: {name} {have}, but the config beside it needs"
                f" {tuple(leaf.shape)}; finish the run that is to write it"
                " again."
            )
        return array.astype(leaf.dtype)

    return map_named(one, like)


def _json(path: Path, folder: Path, missing: str) -> dict[str, Any]:
    if not path.is_file():
        raise checks.UsageError(
            f"{missing} {folder}: {path.name} is missing; name the --workdir"
            " of a finished `jaxedge run`."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise checks.UsageError(
            f"{path} cannot be read ({error}); finish the run that is to write"
            " it again."
        ) from error
    return content
