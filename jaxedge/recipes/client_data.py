"""What a client learns from in a round: its own examples, in its own order.

It depends on nothing that another client has, so that a client that runs by
itself (`jaxedge.flower`) sees what it sees in a simulation.

Letters: C clients, M examples of one client, S steps of a round at most, B
examples of a step, K classes.
"""

from collections.abc import Iterator
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data
from jaxedge.core.keys import stream


class Part(NamedTuple):
    """What one client learns from in a round; of all of them with a leading C.

    Attributes:
        rows: the examples of each step, [S, B] int32.
        weight: 0 where a step has fewer, [S, B].
        steps: int32 [].
        labelled: examples, int32 [].
        share: of each class among their labels, [K].
    """

    rows: Any
    weight: Any
    steps: Any
    labelled: Any
    share: Any


class Round(NamedTuple):
    """What all clients learn from in one round.

    Attributes:
        x: inputs of all clients, [N, ...].
        y: their labels, [N, ...].
        aux: what else is known of them, [N, ...] each.
        parts: of each client, a `Part` of arrays [C, ...].
    """

    x: Any
    y: Any
    aux: Any
    parts: Part


def steps_of(examples: int, batch: int, passes: int) -> int:
    """Steps of a client in a round."""
    return passes * math.ceil(examples / batch)


def part(
    y: np.ndarray,
    chosen: np.ndarray,
    key: jax.Array,
    epoch: int,
    *,
    client: int,
    batch: int,
    passes: int,
    steps: int,
    classes: int,
) -> Part:
    """The batches of one client in one round.

    Every pass has an order of its own. Where a step has fewer examples than B
    it is filled up with the same ones, of weight 0: statistics of a batch see
    nothing else.

    Args:
        y: labels of the client's examples, [M, ...], of which negative ones
            count nowhere.
        chosen: which are labelled, [M] bool.
        key: of the run's order; its stream "client", client, epoch is used.
        epoch: which round.
        client: which client.
        batch: B.
        passes: over the client's examples.
        steps: S.
        classes: K.

    Returns:
        Places among the client's examples.
    """
    rows = np.zeros((steps, batch), np.int32)
    weight = np.zeros(rows.shape, np.float32)
    share = np.zeros(classes, np.float32)
    own = np.flatnonzero(chosen)
    done = 0
    if len(own):
        labels = y[own]
        counts = np.bincount(labels[labels >= 0], minlength=classes)
        share = (counts / max(counts.sum(), 1)).astype(np.float32)
        # A power of two: few sizes are compiled, and a threefry draw begins
        # as a longer one does.
        size = 1 << (len(y) - 1).bit_length()
        drawing = stream(stream(key, "client", client), "epoch", epoch)
        draw = np.asarray(jax.random.uniform(drawing, (passes, size)))
        for one in draw:
            order = own[np.argsort(one[own], kind="stable")]
            for start in range(0, len(order), batch):
                if done == steps:
                    break  # Of the first look, which has everything labelled.
                of_step = order[start : start + batch]
                rows[done] = np.resize(of_step, batch)
                weight[done, : len(of_step)] = 1
                done += 1
    labelled = np.int32(len(own))
    return Part(rows, weight, np.int32(done), labelled, share)


class Batches:
    """Rounds of a source, as `recipe.Rounds.batches`.

    Args:
        clients: C.
        classes: K.
        batch: B.
        passes: of a client over its examples in a round.
        most: labelled examples of each client at most, [C].
    """

    def __init__(
        self,
        clients: int,
        classes: int,
        *,
        batch: int,
        passes: int,
        most: np.ndarray,
    ):
        self._clients, self._classes = clients, classes
        self._batch, self._passes = batch, passes
        self._steps = steps_of(int(max(most)), batch, passes)
        self._arrays: dict[str, Any] = {}

    def __call__(
        self,
        source: data.Source,
        key: jax.Array,
        epoch: int,
        chosen: np.ndarray | None,
    ) -> Iterator[Round]:
        """One round, of the examples that are labelled, [N] bool."""
        if not self._arrays:  # They lie on the device once and for all.
            known = source.aux or {}
            aux = {k: v for k, v in known.items() if k != "site"}
            arrays = {"x": source.x, "y": source.y, "aux": aux}
            self._arrays = jax.tree.map(jnp.asarray, arrays)
        site = np.asarray((source.aux or {})["site"])
        seen = np.ones(len(site), bool) if chosen is None else chosen
        parts = []
        for client in range(self._clients):
            own = np.flatnonzero(site == client)
            found = part(
                source.y[own],
                seen[own],
                key,
                epoch,
                client=client,
                batch=self._batch,
                passes=self._passes,
                steps=self._steps,
                classes=self._classes,
            )
            rows = own[found.rows] if len(own) else found.rows
            parts.append(found._replace(rows=rows.astype(np.int32)))
        stacked = jax.tree.map(lambda *a: np.stack(a), *parts)
        yield Round(**self._arrays, parts=stacked)
