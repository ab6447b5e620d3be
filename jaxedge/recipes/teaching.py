"""Who teaches, and how: the section `distill` of a config.

Letters: B images, K classes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.features import images
from jaxedge.learn import distill
from jaxedge.recipes.supervised import Augment


class Distill(NamedTuple):
    """The section `distill`: who teaches, and how.

    Attributes:
        teacher: a name of `models.checkpoints.CHECKPOINTS`, whose network runs
            at every step, or a folder of stored outputs (`jaxedge teach`,
            `data.teacher`; or files of FKD, `data.fkd`); None teaches by labels
            alone.
        path: file with the checkpoint's arrays; None is that of the data root.
        share: of the teacher in the target; the rest is the label.
        temperature: by which the teacher's logits are divided; stored outputs
            have theirs.
        crops: of stored outputs, how many of an image a step sees, that is
            `crops` times `train.batch`.
        side: of files of FKD alone: pixels of the square that each image is
            squeezed into before its crops are cut. Our choice; the published
            crops are cut from the images as they are, and a smaller square
            blurs small crops.
    """

    teacher: str | None = None
    path: str | None = None
    share: float = 1.0
    temperature: float = 1.0
    crops: int = 1
    side: int = 448

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.in_range("distill.share", self.share, 0, 1)
        checks.in_range(
            "distill.temperature", self.temperature, 0, open_low=True
        )
        checks.whole("distill.crops", self.crops, 1)
        checks.whole("distill.side", self.side, 1)


def by_network(teacher: Any, given: Distill, inner: Augment | None) -> Augment:
    """Targets that a network gives of the images as a step has made them.

    Args:
        teacher: x -> logits [B, K].
        given: how.
        inner: what is done to the images before.
    """

    def augment(key: jax.Array, batch: Any) -> Any:
        if inner is not None:
            batch = inner(key, batch)
        logits = jax.lax.stop_gradient(teacher(batch.x))
        told = jax.nn.softmax(logits / given.temperature)
        return batch._replace(target=_shared(told, batch, given.share))

    return augment


def by_store(
    size: tuple[int, int], classes: int, given: Distill, inner: Augment | None
) -> Augment:
    """Crops and targets of a batch whose `aux` is stored outputs.

    Each image gives `crops` of its stored crops, drawn anew at every step; one
    image's lie side by side in the batch. They are cut from the images of the
    batch, or from those of `aux` "whole", where it has them.

    Args:
        size: of the crops.
        classes: K.
        given: how.
        inner: what is done to the crops; not to their place or side.
    """

    def augment(key: jax.Array, batch: Any) -> Any:
        stored, count = batch.aux, given.crops
        rows, most = stored["flips"].shape
        # Without repetition, as in one pass over the stored crops.
        draw = lambda key: jax.random.permutation(key, most)[:count]  # noqa: E731
        pick = jax.vmap(draw)(jax.random.split(stream(key, "crops"), rows))

        def part(name: str) -> jax.Array:
            a = jnp.asarray(stored[name])
            index = pick.reshape(*pick.shape, *[1] * (a.ndim - 2))
            a = jnp.take_along_axis(a, index, 1)
            return a.reshape(rows * count, *a.shape[2:])

        every = lambda a: jnp.repeat(a, count, 0)  # noqa: E731
        x = images.resized_crop(
            every(stored.get("whole", batch.x)),
            part("boxes"),
            size,
            flips=part("flips"),
        )
        told = distill.recover(part("index"), part("value"), classes)
        batch = batch._replace(
            x=x, y=every(batch.y), weight=every(batch.weight), aux=None
        )
        batch = batch._replace(target=_shared(told, batch, given.share))
        return batch if inner is None else inner(key, batch)

    return augment


def _shared(told: jax.Array, batch: Any, share: float) -> jax.Array:
    """The teacher's distribution [B, K] and what is known already."""
    if share == 1:
        return told
    known = batch.target
    if known is None:
        known = distill.hard(batch.y, told.shape[-1])
    return share * told + (1 - share) * known
