"""The examples of one client, in a folder of its own.

`train.npz`, `valid.npz` and `test.npz`: inputs x and labels y as of
`data.make_source`, and whatever else is known of each example. A hospital that
has no such folder writes these files itself.

Letters: M examples of the client.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.flower import store
from jaxedge.flower.task import Facts

_AUX = "aux/"


def write(splits: Mapping[str, data.Source], client: int, folder: Path) -> None:
    """Writes the examples of one client.

    Args:
        splits: "train", "valid" and "test", with sites.
        client: whose.
        folder: is made if need be.
    """
    for split, source in splits.items():
        site = np.asarray((source.aux or {})["site"])
        own = source.rows(np.flatnonzero(site == client))
        known = {
            _AUX + name: np.asarray(a)
            for name, a in (own.aux or {}).items()
            if name != "site"
        }
        store.save(folder / f"{split}.npz", {"x": own.x, "y": own.y} | known)


def read(
    folder: Path, facts: Facts, name: str, client: int
) -> dict[str, data.Source]:
    """The examples of a client.

    Args:
        folder: that `write` has filled.
        facts: what they must be like.
        name: of the data set.
        client: whose they are.

    Raises:
        UsageError: for a file that is missing or damaged, or examples that are
            not like those of the run.
    """
    found = {}
    for split in data.SPLITS:
        path = folder / f"{split}.npz"
        arrays = store.arrays(path)
        for part, shape in (("x", facts.shape), ("y", facts.labels)):
            there = arrays[part].shape[1:] if part in arrays else None
            if there != shape:
                raise checks.UsageError(
                    f"{part} of {path} has examples of shape {there}, but the"
                    f" run has {shape}; write the client's examples anew."
                )
        aux = {k: v for k, v in arrays.items() if k.startswith(_AUX)}
        aux = {name.removeprefix(_AUX): a for name, a in aux.items()}
        aux["site"] = np.full(len(arrays["y"]), client, np.int32)
        source = data.Source(
            arrays["x"], arrays["y"], facts.classes, name, split, aux
        )
        if len(source.y) and source.x.dtype == np.float32:
            checked = data.make_source(
                source.x,
                source.y,
                classes=facts.classes,
                name=f"{name} of {folder}",
                split=split,
            )
            source = source._replace(x=checked.x, y=checked.y)
        found[split] = source
    if not len(found["train"].y):
        raise checks.UsageError(
            f"{folder} has no example to learn from; leave that client out."
        )
    return found
