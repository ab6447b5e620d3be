"""The generators of a run of `recipes.sequential_gan`, and what they make.

Letters: E examples, N pairs, H height, W width, K labels, Z numbers of a
vector.
"""

from collections.abc import Callable, Mapping
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core.keys import stream
from jaxedge.data import joint_pairs, pair_layouts
from jaxedge.models.gan import Pair
from jaxedge.recipes import adversarial, gan_scores, sequential_gan
from jaxedge.run import checkpoint, hosts, judge, results

SHOWN = 8  # Pairs that are looked at in training.
# Layouts of data sets that have another name.
_FOLDERS = {"pair_folder": "folders"}


class Maker:
    """The generators of a network, compiled once.

    Args:
        model: the networks.
    """

    def __init__(self, model: Pair):
        self.model = model
        latent = model.latent

        @jax.jit
        def made(variables, key, vectors):
            z, noise = vectors[:, :latent], vectors[:, latent:]
            found = model.apply(variables, z, noise, key=key, method="generate")
            return jnp.concatenate(found, -1)  # type: ignore[arg-type]

        @jax.jit
        def second(variables, key, first, labels):
            return gan_scores.translated(model, variables, first, labels, key)

        @jax.jit
        def again(variables, key, first, labels):
            z = adversarial.encoded(
                model, variables["params"], first, labels, key
            )
            return model.apply(variables, z, key=key, method="first")

        self._made, self._second, self._again = made, second, again

    @property
    def free(self) -> np.ndarray:
        """Which numbers of a vector are no labels, bool [Z]."""
        model = self.model
        place = np.arange(model.latent + model.noise)
        return (place < model.latent - model.labels) | (place >= model.latent)

    def vectors(self, rows_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
        """Normal vectors of any rows, with their labels in them, [N, Z].

        Other ones than those that evaluations of training see. Behind the
        latent vector is the noise of the second generator, where it has some.
        """
        free = self.free
        fixed = stream(jax.random.key(0), "report")
        draw = jax.vmap(
            lambda row: jax.random.normal(
                jax.random.fold_in(fixed, row), (int(free.sum()),)
            )
        )
        found = np.zeros((len(rows_N), len(free)), np.float32)
        found[:, free] = draw(jnp.asarray(rows_N))
        found[:, ~free] = self.labels(y_N)
        return found

    def labels(self, y_N: np.ndarray) -> np.ndarray:
        """One-hot labels, [N, K]; K is 0 where none are used."""
        known = np.arange(self.model.labels)
        return (np.asarray(y_N)[:, None] == known).astype(np.float32)

    def pairs(
        self,
        variables: Any,
        vectors_NxZ: np.ndarray,
        key: jax.Array | None = None,
    ) -> np.ndarray:
        """Pairs of normal vectors, [N, H, W, 2] float32.

        Args:
            variables: of the network.
            vectors_NxZ: from `vectors`.
            key: read key; None reads without noise.
        """
        return _read(self._made, variables, key, vectors_NxZ)

    def second(
        self,
        variables: Any,
        first_NxHxW: np.ndarray,
        y_N: np.ndarray,
        key: jax.Array | None = None,
    ) -> np.ndarray:
        """The second modality of given first ones, [N, H, W]."""
        given = first_NxHxW[..., None], self.labels(y_N)
        return _read(self._second, variables, key, *given)[..., 0]

    def reconstructed(
        self,
        variables: Any,
        first_NxHxW: np.ndarray,
        y_N: np.ndarray,
        key: jax.Array | None = None,
    ) -> np.ndarray:
        """The first modality, encoded and made again, [N, H, W]."""
        given = first_NxHxW[..., None], self.labels(y_N)
        return _read(self._again, variables, key, *given)[..., 0]


def _read(
    function: Callable[..., Any],
    variables: Any,
    key: jax.Array | None,
    *arrays: np.ndarray,
) -> np.ndarray:
    """Some rows after the others, each time with a read key of its own."""
    reads = itertools.count()

    def one(*parts):
        read = None if key is None else stream(key, "read", next(reads))
        return function(variables, read, *parts)

    return judge.by_batch(one, *arrays).astype(np.float32)


def network(
    given: sequential_gan.Settings, splits: Mapping[str, data.Source]
) -> Maker:
    """The generators of a config."""
    train = splits["train"]
    return Maker(
        sequential_gan.network(given, train.x.shape[1:], len(train.classes))
    )


def known_pairs(
    given: sequential_gan.Settings,
    train: data.Source,
    data_root: str | None = None,
) -> tuple[data.Source, bool]:
    """All real pairs of the training split, and whether they changed places.

    Also those that training was told one modality of.

    Args:
        given: the settings of the run.
        train: from its `prepare`.
        data_root: as of `data.load`.

    Returns:
        The pairs, the modality that is made first in front; and whether that
        is the second one of the data set.
    """
    asked = given.data._replace(pairs=1.0)
    every = data.load(asked.name, "train", data_root, **asked.options)
    aux = every.aux or {}
    # By all images that are given: a single one may be blank in both.
    at = np.flatnonzero((train.aux or {})["has_first"])
    same = train.x[at, ..., 0]
    swapped = not np.array_equal(every.x[at, ..., 0], same)
    every = every.rows(np.flatnonzero(aux["paired"]))
    x = every.x[..., ::-1].copy() if swapped else every.x
    return every._replace(x=x), swapped


def modalities(given: sequential_gan.Pairs, swapped: bool) -> tuple[str, str]:
    """Names of the modalities, the first one made first."""
    names = given.modalities
    if given.name == "joint_pairs":
        names = joint_pairs.MODALITIES
    if names is None and given.name == "sarcoma_pairs":
        names = ("t1", "pet")
    if names is None:
        layout = _FOLDERS.get(given.name, given.name)
        names = pair_layouts.LAYOUTS[layout].modalities
    first, second = names[::-1] if swapped else names
    return first, second


def watched(maker: Maker) -> np.ndarray:
    """The normal vectors that are looked at in training, one class a vector."""
    rows = np.arange(SHOWN)
    return maker.vectors(rows, rows % max(maker.model.labels, 1))


class Kept(checkpoint.Checkpoints):
    """Checkpoints that leave some made pairs beside them.

    A file a checkpoint that was evaluated, `<step>.npz` with "pairs" [E, H, W,
    2] of the same normal vectors. They stay when orbax drops the checkpoint;
    training that goes on from an earlier one makes the same again.

    Args:
        folder: of the checkpoints.
        metric: as of `Checkpoints`.
        clean: likewise.
        maker: of the networks.
        finish: state -> variables.
        pairs: folder of the files.
    """

    def __init__(
        self,
        folder: Path,
        metric: str,
        clean: bool,
        maker: Maker,
        finish: Callable[[Any], Any],
        pairs: Path,
    ):
        super().__init__(folder, metric, clean=clean)
        self._maker, self._finish, self._pairs = maker, finish, pairs
        self._vectors = watched(maker)

    def save(
        self,
        step: int,
        tree: Any,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """As of `Checkpoints`; pairs are made where there are metrics."""
        super().save(step, tree, metrics)
        if metrics is None:  # A stop between evaluations, at any step.
            return
        state = hosts.local(tree.state)  # The other processes have no part.
        found = self._maker.pairs(self._finish(state), self._vectors)
        self._pairs.mkdir(exist_ok=True)
        results.write(self._pairs / f"{step}.npz", {"pairs": found})
