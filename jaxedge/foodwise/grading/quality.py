"""From a photo of any size to the square that is graded, if it is good enough.

Letters: H rows, W columns, S side.
"""

from typing import Any

import numpy as np

from jaxedge.core import checks
from jaxedge.data import plates
from jaxedge.data.plates import SIDE

# What may be wrong with a photo.
PROBLEMS = ("too_small", "too_dark", "too_bright", "no_plate", "blurred")
# Of brightness in [0, 1], and all ours: they let all but one in a thousand
# synthetic plates pass, and nobody has set them by real photos yet.
DARK = 0.12  # Mean, below which a photo is too dark.
BRIGHT = 0.93  # Mean, above which it is too bright,
GLARE, GLARING = 0.98, 0.5  # as it is if so much is brighter than that.
CONTRAST = 0.03  # Standard deviation of 8 x 8 parts: less shows no plate.
# Steps from one mean of four pixels to the next, of which one in a hundred is
# larger, over what lies between dark and bright pixels.
SHARP = 0.28
LEAST = SIDE  # Pixels a side.
_PARTS = 8


def fitted(image: Any) -> np.ndarray:
    """The middle square of a photo, see `data.plates.square`.

    Args:
        image: [H, W, 3] uint8, red, green and blue.

    Returns:
        [96, 96, 3] uint8.

    Raises:
        UsageError: for another shape or dtype.
    """
    return plates.square(checked(image))


def problem(image: Any, square_SxSx3: np.ndarray | None = None) -> str | None:
    """What is wrong with a photo, of `PROBLEMS`, or None.

    Args:
        image: [H, W, 3] uint8.
        square_SxSx3: the same `fitted`, if that is known already.

    Raises:
        UsageError: as `fitted`.
    """
    image = checked(image)
    if min(image.shape[:2]) < LEAST:
        return "too_small"
    return problem_of(fitted(image) if square_SxSx3 is None else square_SxSx3)


def problem_of(square_SxSx3: np.ndarray) -> str | None:
    """Likewise, of a photo that is `fitted`."""
    luma = square_SxSx3.astype(np.float32) @ _LUMA
    mean = luma.mean()
    if mean < DARK:
        return "too_dark"
    if mean > BRIGHT or np.mean(luma > GLARE) > GLARING:
        return "too_bright"
    cut = SIDE // _PARTS
    parts = luma.reshape(_PARTS, cut, _PARTS, cut).mean((1, 3))
    if parts.std() < CONTRAST:
        return "no_plate"
    # Means of four pixels, in which noise is half as loud.
    soft = luma.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
    steps = np.hypot(np.diff(soft, axis=0)[:, 1:], np.diff(soft)[1:])
    dark, bright = np.quantile(soft, (0.02, 0.98))
    sharp = np.quantile(steps, 0.99) > SHARP * (bright - dark)
    return None if sharp else "blurred"


def checked(image: Any) -> np.ndarray:
    """A photo, once it is known to be one.

    Raises:
        UsageError: for another shape or dtype.
    """
    image = np.asarray(image)
    fits = image.ndim == 3 and image.shape[-1] == 3 and image.size
    if image.dtype != np.uint8 or not fits:
        raise checks.UsageError(
            f"a photo is {image.dtype} of shape {image.shape}, but must be"
            " uint8 [H, W, 3]: red, green and blue."
        )
    return image


# Red, green and blue in brightness (ITU-R BT.601), of 255 levels.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255
