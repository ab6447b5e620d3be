"""Phantoms: what tells their class, and what does not."""

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial import distance

from jaxedge.core.checks import UsageError
from jaxedge.data import phantom_volumes

N = 80


@pytest.fixture(scope="module")
def source():
    return phantom_volumes.read("train", n=N)


def rows(source):
    """Intensities and regions of all phantoms."""
    for image, region in np.moveaxis(source.x, -1, 1):
        yield image, region == 1


def correlation(a, b):
    """Pearson's, and the limits within which it is not to be told from 0.

    Its standard error is 1 / sqrt(N - 1) there; four of them.
    """
    return stats.pearsonr(a, b).statistic, 4 / np.sqrt(N - 1)


def test_regions(source):
    assert source.x.shape == (N, 24, 32, 32, 2)
    assert source.x.dtype == np.float32 and source.name == "phantom_volumes"
    for _, mask in rows(source):
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
        assert 0.05 < mask.mean() < 0.2
    # Balanced but for chance: five standard errors of a share.
    assert abs(source.y.mean() - 0.5) < 5 * 0.5 / np.sqrt(N)


def test_the_diameter_tells_the_shape_and_the_volume_does_not(source):
    masks = [mask for _, mask in rows(source)]
    diameter = [distance.pdist(np.argwhere(mask)).max() for mask in masks]
    told, _ = correlation(np.log(diameter), source.aux["shape"])
    assert told > 0.8
    volume = [mask.sum() for mask in masks]
    silent, limit = correlation(volume, source.aux["shape"])
    assert abs(silent) < limit
    # Of a typical phantom, as the module's text has it.
    assert abs(np.median(diameter) - 22) < 3


def roughness(image, mask):
    """Mean squared difference to the neighbours inside, of every voxel."""
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    for axis in range(3):
        for step in (-1, 1):
            # The ends meet outside of every region.
            inside = mask & np.roll(mask, step, axis)
            gap = (image - np.roll(image, step, axis)) ** 2
            total += np.where(inside, gap, 0)
            count += inside
    return total[mask] / np.maximum(count[mask], 1)


def test_the_half_in_the_chamber_tells_the_arrangement(source):
    """Its roughness beside that of the other half, and nothing else of them."""
    there, whole, shade, spread = [], [], [], []
    for image, mask in rows(source):
        outside = np.argwhere(~mask)
        bright = outside[image[~mask] > 150]  # Half-way to the chamber.
        middle = np.argwhere(mask).mean(0)
        inner = (np.argwhere(mask) - middle) @ (bright.mean(0) - middle) > 0
        rough, values = roughness(image, mask), image[mask]
        there.append(np.log(rough[inner].mean() / rough[~inner].mean()))
        whole.append(rough.mean())
        shade.append(values[inner].mean() - values[~inner].mean())
        spread.append(np.log(values[inner].std() / values[~inner].std()))
    t = source.aux["texture"]
    assert set(t) == {-1, 1}
    told, _ = correlation(there, t)
    assert told > 0.9
    for silent in (whole, shade, spread):
        found, limit = correlation(silent, t)
        assert abs(found) < limit
    # Nor does the shape tell the texture.
    found, limit = correlation(source.aux["shape"], t)
    assert abs(found) < limit


class Turned(np.random.RandomState):
    """The same numbers, but the other one of -1 and 1."""

    def choice(self, a):
        return -super().choice(a)


def test_no_number_of_the_region_can_tell_the_arrangement():
    """For either there is the same region, with the chamber on each side."""
    size = (12, 16, 16)
    for seed in range(5):
        rng = np.random.RandomState(seed)
        image, mask = phantom_volumes._volume(rng, 0.5, 1.0, size)
        rng = Turned(seed)
        other, same = phantom_volumes._volume(rng, 0.5, -1.0, size)
        np.testing.assert_array_equal(mask, same)
        np.testing.assert_array_equal(image[mask], other[mask])
        # What is bright around it, is not there in the other.
        bright = [(x > 150) & ~mask for x in (image, other)]
        assert bright[0].any() and bright[1].any()
        assert not np.any(bright[0] & bright[1])


@pytest.mark.parametrize("cue", phantom_volumes.CUES)
def test_a_class_is_the_sign_of_its_cue(cue):
    certain = phantom_volumes.read("valid", cue=cue, n=12, doubt=0)
    s, t = certain.aux["shape"], certain.aux["texture"]
    score = {"shape": s, "texture": t, "both": s + 1.25 * t}[cue]
    np.testing.assert_array_equal(certain.y, score > 0)
    name = {"both": ""}.get(cue, f"_{cue}")
    assert certain.name == f"phantom_volumes{name}"
    # The same volumes, whatever they are asked about.
    other = phantom_volumes.read("valid", n=2)
    np.testing.assert_array_equal(certain.x[:2], other.x)


def test_doubt_turns_the_classes_of_some():
    """P(sign changes) = arctan(d) / pi of normal numbers; those are limited."""
    found = [
        phantom_volumes.read(
            "test", cue="shape", size=(12, 12, 12), doubt=d, n=200
        )
        for d in (0.0, 1.0)
    ]
    share = (found[0].y != found[1].y).mean()
    # A quarter, with a standard error of 3 %.
    assert abs(share - 0.25) < 0.12


def test_a_phantom_is_its_seed_split_and_index():
    size = (12, 16, 20)
    first = phantom_volumes.read("train", size=size, n=3)
    assert first.x.shape == (3, *size, 2)
    more = phantom_volumes.read("train", size=size, n=4)
    np.testing.assert_array_equal(more.x[:3], first.x)
    one = phantom_volumes.draw(2, size=size)
    np.testing.assert_array_equal(one.image_ZxYxX, first.x[2, ..., 0])
    np.testing.assert_array_equal(one.mask_ZxYxX, first.x[2, ..., 1])
    assert one.label == first.y[2]
    others = [
        phantom_volumes.read("valid", size=size, n=3),
        phantom_volumes.read("train", size=size, n=3, seed=1),
    ]
    images = np.concatenate([source.x for source in [more, *others]])
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10


def test_noise_is_of_every_voxel_by_itself():
    quiet, loud = (
        phantom_volumes.draw(0, noise=noise).image_ZxYxX for noise in (0, 7.0)
    )
    noise = loud - quiet
    # n = 24,576: a standard error of 0.5 % of the deviation.
    np.testing.assert_allclose(noise.std(), 7, rtol=0.03)
    beside = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())
    assert abs(beside[0, 1]) < 0.03


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cue": "shapes"}, "unknown cue 'shapes'.*'shape'"),
        ({"size": (24, 32)}, r"size is \(24, 32\).* three numbers"),
        ({"size": (8, 32, 32)}, "size is 8, but must lie in"),
        ({"n": 0}, "n is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"doubt": np.nan}, "doubt is nan"),
        ({"split": "dev"}, "unknown split 'dev'"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(UsageError, match=message) as error:
        phantom_volumes.read(**{"split": "train", **changes})
    assert "\n" not in str(error.value)
