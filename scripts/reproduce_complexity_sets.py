"""Sets of images whose complexity is compared, for `reproduce_complexity`."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxedge import data
from jaxedge.data import archives, sites

BASES = ("digits", "fashion_mnist", "pneumonia")
IMAGES = 120  # of each set of a pair
SLICES = 8  # of each patient, equally spaced
CLASS = "one class"
# What is compared with the image: how it is made, and why the order is known.
PAIRS = {
    "blurred": ("a Gaussian of side / 16 pixels", "function"),
    "coarse": ("means of 2 x 2 pixels", "function"),
    "silhouette": ("above the middle of the range or not", "function"),
    "edges": ("magnitude of the Sobel filter", "function"),
    "noisy": ("plus normal noise of a tenth of the range", "random"),
    "shifted": ("by up to side / 8 pixels along each axis", "random"),
    CLASS: ("mean over the classes, each by itself", "part"),
}
HARDER = {"random"}  # than the image; what else there is, is simpler.


def base_sets(
    name: str, root: Path, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Images by the names of `PAIRS`, and those of each class by itself.

    Args:
        name: of `BASES`.
        root: of the data.
        rng: which images, and what is changed at random.

    Returns:
        "image" and what is made of it, and one array a class: [IMAGES, H, W].
    """
    source = data.load(name, "train", root)
    label_N = np.asarray(source.y)
    rows = rng.permutation(len(label_N))

    def taken(rows):
        return np.asarray(source.x[np.sort(rows[:IMAGES])])[..., 0]

    image = taken(rows)
    kinds = [taken(rows[label_N[rows] == c]) for c in np.unique(label_N)]
    return {"image": image, **variants(image, rng)}, kinds


def variants(x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Images made of others, by the names of `PAIRS`; [N, H, W] each."""
    side, low, high = x.shape[1], x.min(), x.max()
    wide = side // 8
    padded = np.pad(x, ((0, 0), (wide, wide), (wide, wide)), mode="edge")
    moved = [
        image[i : i + side, j : j + side]
        for image, (i, j) in zip(
            padded, rng.integers(0, 2 * wide + 1, (len(x), 2)), strict=True
        )
    ]
    blocks = x.reshape(len(x), side // 2, 2, side // 2, 2).mean((2, 4))
    along = [ndimage.sobel(x, axis) for axis in (1, 2)]
    noise = 0.1 * (high - low) * rng.normal(size=x.shape)
    made = {
        "blurred": ndimage.gaussian_filter(x, (0, side / 16, side / 16)),
        "coarse": blocks.repeat(2, 1).repeat(2, 2),
        "silhouette": x > (low + high) / 2,
        "edges": np.hypot(*along),
        "noisy": x + noise,
        "shifted": np.stack(moved),
    }
    return {k: np.asarray(v, np.float32) for k, v in made.items()}


def slices(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Slices for training, [N, 96, 96, 3] in [0, 1], and whose they are."""
    source = data.load("sarcoma", "train", root)
    path = root / "sts_trimodal" / "sts_trimodal_96.npz"
    (patient,) = archives.read(path, ["patient"], "sarcoma slices")
    groups = [int(p) for p in patient]
    rows = sites.split_rows("train", "sarcoma", ["all"] * len(groups), groups)
    return np.asarray(source.x[:]), patient[rows]


def halved(x: np.ndarray) -> np.ndarray:
    """Means over 2 x 2 pixels."""
    n, height, width, channels = x.shape
    parts = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    return parts.mean((2, 4), dtype=np.float32)


def spaced(patient_N: np.ndarray) -> np.ndarray:
    """Rows of equally spaced slices, [patients, SLICES]."""
    found = []
    for patient in np.unique(patient_N):
        own = np.flatnonzero(patient_N == patient)
        place = np.linspace(0, len(own) - 1, SLICES).round().astype(int)
        found.append(own[place])
    return np.stack(found)
