"""`jaxedge export`: writes what is asked for of a finished run."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.run.export_flags import EXTRAS, Asked
from jaxedge.run.exports import (
    cells,
    folder,
    program,
    pulses,
    sheets,
    source,
    tensors,
)

_HERE = {"stablehlo": program.available, "safetensors": tensors.available}


def run(asked: Asked) -> Path:
    """Writes the formats that are asked for.

    Returns:
        The list of the export, `export.json`.

    Raises:
        UsageError: for whatever the user has to mend.
    """
    words = asked.words or tuple(_usual())
    missing = [w for w in words if not _HERE.get(w, lambda: True)()]
    if missing:
        raise checks.UsageError(
            f"{missing[0]} needs the extra jaxedge[{EXTRAS[missing[0]]}]; pip"
            f" install 'jaxedge[{EXTRAS[missing[0]]}]', or leave it out of"
            " --as."
        )
    opened = source.opened(asked.workdir, asked.data_root)
    number = asked.chip
    if number is None and "conductances" in words:
        number = 0
    if number is not None:
        source.check_chip(opened, number)
    folder.prepare(asked.out, opened.digest)
    chip = None if number is None else source.chip(opened, number)
    for word in words:
        for files in _WRITERS[word](asked, opened, chip, number):
            folder.note(asked.out, opened.about, files)
            for name, facts in files.items():
                if facts["format"] not in ("csv", "design"):
                    print(f"{asked.out / name}{facts.get('told', '')}")
    return asked.out / folder.FILE


def _usual() -> Iterator[str]:
    """All that can be written here; says what else there is."""
    for word, extra in EXTRAS.items():
        if _HERE.get(word, lambda: True)():
            yield word
        else:
            print(f"jaxedge: no {word}; it needs 'jaxedge[{extra}]'.")


_Files = Mapping[str, dict[str, Any]]


def _stablehlo(
    asked: Asked, opened: source.Source, chip: Any, number: int | None
) -> Iterator[_Files]:
    recipe, x = opened.job.recipe, opened.job.splits["test"].x
    networks = {"network": program.Network(
        recipe.forward, opened.variables, x, False
    )}  # fmt: skip
    if chip is not None and asked.chip is not None:
        noise = asked.noise == "read"
        networks[f"chip{number}"] = program.Network(
            recipe.forward, chip, x, noise
        )
    for name, network in networks.items():
        path = asked.out / f"{name}.stablehlo"
        files = program.write(path, network, asked.platforms, asked.batch)
        folder.note(asked.out, opened.about, files)
        off = program.difference(path, network, asked.batch or 2)
        files[path.name]["largest_difference"] = off
        files[path.name]["told"] = (
            ": read back, equal to the last bit"
            if off == 0
            else f": read back, off by {off:.2g} at most"
        )
        yield files


def _safetensors(
    asked: Asked, opened: source.Source, chip: Any, number: int | None
) -> Iterator[_Files]:
    yield tensors.write(
        asked.out / "network.safetensors", opened.variables, opened.about
    )
    if chip is not None and asked.chip is not None:
        about = {
            **opened.about,
            "chip": number,
            "hardware": opened.job.config["hardware"],
        }
        path = asked.out / f"chip{number}.safetensors"
        yield tensors.write(path, chip, about, _more(opened.variables, chip))


def _more(variables: Any, chip: Any) -> dict[str, np.ndarray]:
    """What else other programs may want of a chip: targets, levels, bytes."""
    found = {}
    for name, leaf, ideal in cells.pairs(variables["params"], chip["params"]):
        if isinstance(leaf, hardware.Crossbar):
            found[f"target_S/{name}"] = cells.targets(leaf, ideal)
            found[f"conductance_S/{name}"] = np.asarray(leaf.conductance())
        elif isinstance(leaf, hardware.Digital):
            coded = cells.packed(leaf, ideal)
            for i, array in enumerate(jax.tree.leaves(coded)):
                part = ("codes", "scales", "whole")[i]
                found[f"packed/{name}/{part}"] = np.asarray(array)
    return found


def _conductances(
    asked: Asked, opened: source.Source, chip: Any, number: int | None
) -> Iterator[_Files]:
    trained, params = opened.variables["params"], chip["params"]
    found = cells.layers(trained, params)
    if not found:
        raise checks.UsageError(
            "no weight of this network lies on hardware, so that there are no"
            " cells; leave conductances out of --as."
        )
    begun = None
    if pulses.has_masks(trained):
        begun = source.start(opened)["params"]
    found = pulses.with_programmes(
        found, trained, begun, params, asked.tolerance
    )
    out = asked.out / f"chip{number}.cells"
    yield sheets.write_csv(out, found)
    print(f"{out}: {sum(len(a.tiles) for a in found.values())} tiles")
    if sheets.available():
        yield sheets.write_hdf5(asked.out / f"chip{number}.h5", found)
    else:
        print("jaxedge: no HDF5 file; it needs 'jaxedge[lab]'.")


_WRITERS: dict[str, Callable[..., Iterator[_Files]]] = {
    "stablehlo": _stablehlo,
    "safetensors": _safetensors,
    "conductances": _conductances,
}
