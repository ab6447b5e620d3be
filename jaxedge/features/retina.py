"""Photographs of the retina made even, computed on the host.

Letters: H height, W width.
"""

from typing import Any

import numpy as np

from jaxedge.core import checks

# Shares of red, green and blue in grey.
GREY = (0.299, 0.587, 0.114)
CLIP, TILES, GAMMA = 2.0, 8, 1.2


def even_light(photograph: Any) -> np.ndarray:
    """A grey image of even contrast, as arXiv:2311.07164 makes it of DRIVE.

    Grey values are stretched over 0 to 255, equalised by tiles with limited
    contrast (CLAHE, clip limit 2 on 8 x 8 tiles) and raised to the power of
    1 / 1.2 (edge_pruning 2). The released code standardises the grey values
    over all images before; the stretch of each image undoes that.

    Args:
        photograph: [H, W, 3] uint8, red, green and blue.

    Returns:
        float32 [H, W] in [0, 1], whole multiples of 1 / 255; zeros for a
        photograph of one colour.

    Raises:
        UsageError: for another shape or type, or without OpenCV.
    """
    photograph = np.asarray(photograph)
    if photograph.dtype != np.uint8 or photograph.shape[2:] != (3,):
        raise checks.UsageError(
            f"the photograph is {photograph.dtype} of shape"
            f" {photograph.shape}, but must be uint8 [H, W, 3]."
        )
    grey = photograph @ np.array(GREY)
    low, span = grey.min(), np.ptp(grey)
    if not span:
        return np.zeros(grey.shape, np.float32)
    # What numpy makes of floats, as the released code does: cut, not rounded.
    codes = ((grey - low) / span * 255).astype(np.uint8)
    curve = (np.arange(256) / 255) ** (1 / GAMMA) * 255
    light = curve.astype(np.uint8)[equalise(codes)]
    return light.astype(np.float32) / np.float32(255)


def equalise(codes: Any, clip: float = CLIP, tiles: int = TILES) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation, OpenCV's.

    Args:
        codes: [H, W] uint8.
        clip: limit of a bin of a tile's histogram, in units of its mean; at
            least 0, where 0 is no limit.
        tiles: along each side.

    Returns:
        uint8 [H, W].

    Raises:
        UsageError: for another type, or without OpenCV.
    """
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2:
        raise checks.UsageError(
            f"the image is {codes.dtype} of shape {codes.shape}, but must be"
            " uint8 [H, W]."
        )
    checks.in_range("clip", clip, 0)
    checks.whole("tiles", tiles, 1)
    clahe = _opencv().createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles))
    return np.asarray(clahe.apply(np.ascontiguousarray(codes)))


def _opencv() -> Any:
    # Only images of the retina need it.
    try:
        import cv2
    except ImportError as error:
        raise checks.UsageError(
            "images of the retina need OpenCV; pip install 'jaxedge[vision]'."
        ) from error
    return cv2
