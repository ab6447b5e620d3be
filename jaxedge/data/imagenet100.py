"""ImageNet-100: a hundred classes of ILSVRC-2012, in folders by class.

Which hundred is the user's choice, for published subsets differ: read are
`imagenet100/train/CLASS/` and `imagenet100/val/CLASS/`, each with JPEG or PNG
images of any size. Images stay on disk and are decoded when they are asked for:
126,000 of them would take 76 GB at 224 x 224.

Letters: N images, S side.
"""

from pathlib import Path
from typing import Any

from jaxedge.data import image_folders
from jaxedge.data.image_folders import CUT as CUT
from jaxedge.data.image_folders import Images as Images
from jaxedge.data.image_folders import read_image as read_image
from jaxedge.data.source import Source

LAYOUT = "train/CLASS/ and val/CLASS/"


def read(split: str, root: Path, side: int = CUT) -> Source:
    """The named split, x `Images` [N, S, S, 3] and y [N].

    Every image is resized so that its shorter side is 256 / 224 of S, and its
    middle is cut out; training images too, without the random crops and flips
    that published recipes have. Nothing is normalised here.

    Args:
        split: "test" (the folder `val`), "valid" (every 20th image of each
            class of `train`) or "train" (the others).
        root: the folder that holds `imagenet100/`.
        side: S, pixels.

    Raises:
        UsageError: for missing folders, empty classes, or classes of `val`
            that are not those of `train`. An image that cannot be decoded
            raises it when it is read.
    """
    folder = root / "imagenet100"
    classes = image_folders.class_names(folder / "train", LAYOUT)
    part = folder / ("val" if split == "test" else "train")
    if split == "test":
        found = image_folders.class_names(part, LAYOUT)
        image_folders.check_same(part, found, classes)
    files, y = image_folders.of_split(part, classes, split)
    x: Any = Images(files, side)
    return Source(x, y, classes, "imagenet100", split)
