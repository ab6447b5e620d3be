"""Even light against numpy: CLAHE from its definition, one pixel a time."""

import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import retina

pytest.importorskip("cv2", reason="needs the extra vision")


def clahe(image, clip, tiles):
    """Zuiderveld's equalisation with OpenCV's rounding, in float64.

    Sides that do not fall into the tiles are mirrored beyond the last pixel.
    Counts beyond the limit are dealt out over all bins, what is left one each
    at even distances. Curves of the four nearest tiles are blended linearly.
    """
    height, width = image.shape
    pads = [(0, 0), (0, 0)]
    if height % tiles or width % tiles:
        pads = [(0, tiles - n % tiles) for n in (height, width)]
    padded = np.pad(image, pads, mode="reflect")
    tall, wide = (n // tiles for n in padded.shape)
    limit = max(int(clip * tall * wide / 256), 1)
    curves = np.zeros((tiles, tiles, 256))
    for i in range(tiles):
        for j in range(tiles):
            tile = padded[i * tall : (i + 1) * tall, j * wide : (j + 1) * wide]
            counts = np.bincount(tile.ravel(), minlength=256)
            surplus = np.maximum(counts - limit, 0).sum()
            counts = np.minimum(counts, limit) + surplus // 256
            if rest := surplus % 256:
                counts[: rest * max(256 // rest, 1) : max(256 // rest, 1)] += 1
            curves[i, j] = np.rint(np.cumsum(counts) * 255 / (tall * wide))

    def near(n, size):
        place = (np.arange(n) + 0.0) / size - 0.5
        low = np.floor(place).astype(int)
        share = place - low
        return low.clip(0), (low + 1).clip(max=tiles - 1), share

    top, bottom, down = near(height, tall)
    left, right, along = near(width, wide)

    def at(rows, columns):
        return curves[rows[:, None], columns[None, :], image]

    above = at(top, left) * (1 - along) + at(top, right) * along
    below = at(bottom, left) * (1 - along) + at(bottom, right) * along
    down = down[:, None]
    return above * (1 - down) + below * down


def scene(seed, shape):
    """A smooth image with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape) / max(shape)
    wave = np.sin(7 * rows + seed) * np.cos(5 * columns) + 0.2 * rng.normal(
        size=shape
    )
    return (255 * (wave - wave.min()) / np.ptp(wave)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(64, 64), (64, 61), (59, 80)])
@pytest.mark.parametrize("clip, tiles", [(2.0, 8), (5.0, 4)])
def test_equalisation_is_clahe(shape, clip, tiles):
    image = scene(1, shape)
    got = retina.equalise(image, clip, tiles)
    expected = clahe(image, clip, tiles)
    # Blended values are rounded from float32: those near a half may go either
    # way, all others are equal.
    assert np.abs(got - expected).max() < 0.5 + 1e-3
    assert len(np.unique(got)) > 30


@pytest.mark.parametrize("standardised", [False, True])
def test_even_light_is_the_released_codes(standardised):
    stack = np.stack(
        [np.stack([scene(3 * i + c, (64, 61)) for c in range(3)], -1)
         for i in range(3)]
    )  # fmt: skip
    grey = stack.astype(np.float64) @ [0.299, 0.587, 0.114]
    if standardised:
        grey = (grey - grey.mean()) / grey.std()  # Over the whole stack.
    for photograph, g in zip(stack, grey, strict=True):
        codes = ((g - g.min()) / (g.max() - g.min()) * 255).astype(np.uint8)
        equal = np.rint(clahe(codes, 2.0, 8)).astype(np.uint8)
        expected = np.floor((equal / 255) ** (1 / 1.2) * 255) / 255
        got = retina.even_light(photograph)
        assert got.dtype == np.float32 and 0 <= got.min() < got.max() <= 1
        off = np.abs(got - expected)
        # Blends of tiles of 8 x 8 pixels fall on halves now and then. Some
        # float64 of grey fall on whole numbers but for their rounding, which
        # the standardisation changes; the code then moves by one, and with it
        # a little of the curve of its tile.
        assert (off < 1e-6).mean() > (0.95 if standardised else 0.98)
        assert off.max() < 0.05


def test_one_colour_is_dark():
    flat = np.full((20, 20, 3), 7, np.uint8)
    assert not retina.even_light(flat).any()


MISUSES = {
    "photograph is float64": lambda: retina.even_light(np.zeros((8, 8, 3))),
    r"shape \(8, 8\)": lambda: retina.even_light(np.zeros((8, 8), np.uint8)),
    "image is int64": lambda: retina.equalise(np.zeros((8, 8), int)),
    "clip is -1": lambda: retina.equalise(np.zeros((8, 8), np.uint8), -1),
    "tiles is 0": lambda: retina.equalise(np.zeros((8, 8), np.uint8), 2, 0),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
