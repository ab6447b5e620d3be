"""What a step makes of its images: the section `augment` of a config.

Letters: B images, K classes.
"""

from typing import Any, NamedTuple

import jax

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.features import distortions, images, mixtures
from jaxedge.learn import distill
from jaxedge.recipes.supervised import Augment

MODES = ("reflect", "constant")


class Augmentation(NamedTuple):
    """In the order in which it is done; what is 0 is not done.

    Attributes:
        crop: pixels by which images are padded before one of their size is cut
            out.
        pad: with what, "reflect" or "constant" zeros.
        flip: whether half of the images are mirrored.
        operations: of RandAugment, for each image.
        magnitude: of these, in [0, 10].
        mixup: alpha of mixup.
        cutmix: alpha of cutmix; of both a batch gets one.
        erase: probability with which a rectangle is erased.
        smoothing: share of the target that is spread over all classes.
    """

    crop: int = 0
    pad: str = "reflect"
    flip: bool = False
    operations: int = 0
    magnitude: float = 9.0
    mixup: float = 0.0
    cutmix: float = 0.0
    erase: float = 0.0
    smoothing: float = 0.0

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.whole("augment.crop", self.crop)
        checks.choice("augment.pad", self.pad, MODES)
        checks.whole("augment.operations", self.operations)
        checks.in_range("augment.magnitude", self.magnitude, 0, 10)
        for name in ("mixup", "cutmix"):
            checks.in_range(f"augment.{name}", getattr(self, name), 0)
        for name in ("erase", "smoothing"):
            checks.in_range(f"augment.{name}", getattr(self, name), 0, 1)


def make(given: Augmentation, classes: int) -> Augment | None:
    """The augmentation of a config; None where nothing is done.

    Targets become distributions where images are mixed or labels smoothed.

    Args:
        given: the section.
        classes: K.
    """
    if given == Augmentation(pad=given.pad, magnitude=given.magnitude):
        return None
    mixes = given.mixup > 0 or given.cutmix > 0

    def augment(key: jax.Array, batch: Any) -> Any:
        x, target = batch.x, batch.target
        if given.crop:
            x = images.random_crop(
                stream(key, "crop"), x, padding=given.crop, mode=given.pad
            )
        if given.flip:
            x = images.random_flip(stream(key, "flip"), x)
        if given.operations:
            x = distortions.rand_augment(
                stream(key, "operations"),
                x,
                operations=given.operations,
                magnitude=given.magnitude,
            )
        if target is None and (mixes or given.smoothing):
            target = distill.hard(batch.y, classes, given.smoothing)
        if mixes and target is not None:
            x, target = _mixed(stream(key, "mix"), x, target, given)
        if given.erase:
            x = mixtures.random_erasing(stream(key, "erase"), x, given.erase)
        return batch._replace(x=x, target=target)

    return augment


def _mixed(
    key: jax.Array, x: jax.Array, target: jax.Array, given: Augmentation
) -> tuple[jax.Array, jax.Array]:
    if not given.cutmix:
        return mixtures.mixup(key, x, target, given.mixup)
    if not given.mixup:
        return mixtures.cutmix(key, x, target, given.cutmix)
    return mixtures.mixup_or_cutmix(
        key, x, target, mixup_alpha=given.mixup, cutmix_alpha=given.cutmix
    )
