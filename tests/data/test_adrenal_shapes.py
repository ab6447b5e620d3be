import itertools

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import adrenal_shapes


def areas(surface):
    sides = surface[:, 1:] - surface[:, :1]
    return np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=-1) / 2


def test_the_surface_of_a_box():
    mask = np.zeros((8, 8, 8), bool)
    mask[1:3, 0:4, 2:8] = True  # 2 x 4 x 6, at the edge of the array
    surface = adrenal_shapes.voxel_surface(mask)
    np.testing.assert_array_equal(areas(surface), 0.5)
    assert areas(surface).sum() == 2 * (2 * 4 + 4 * 6 + 2 * 6)
    np.testing.assert_array_equal(surface.min((0, 1)), [1, 0, 2])
    np.testing.assert_array_equal(surface.max((0, 1)), [3, 4, 8])
    # Every triangle lies in one of the six planes.
    flat = (surface == surface[:, :1]).all(1)
    assert flat.any(1).all()
    for axis, bounds in enumerate([(1, 3), (0, 4), (2, 8)]):
        assert {*surface[flat[:, axis]][:, 0, axis]} == {*bounds}


def test_the_surface_of_any_mask():
    mask = np.random.default_rng(0).random((4, 5, 6)) < 0.5
    wanted, steps = set(), [*np.eye(3, dtype=int), *-np.eye(3, dtype=int)]
    for place in itertools.product(*map(range, mask.shape)):
        for step in steps:
            beside = tuple(place + step)
            inside = all(0 <= b < s for b, s in zip(beside, mask.shape))  # noqa: B905
            if mask[place] and not (inside and mask[beside]):
                wanted.add(tuple(np.array(place) + 0.5 + step / 2))
    surface = adrenal_shapes.voxel_surface(mask)
    # The middle of a face is that of the long side of both its triangles.
    middles = (surface.min(1) + surface.max(1)) / 2
    assert {tuple(m) for m in middles.tolist()} == wanted
    assert len(surface) == 2 * len(wanted)


def write(root, **changed):
    masks = np.zeros((3, 8, 8, 8), np.uint8)
    masks[:, 2:6, 2:6, 3:5] = 255
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = masks
        arrays[f"{part}_labels"] = np.array([[0], [1], [0]], np.uint8)
    (root / "adrenalmnist3d").mkdir()
    np.savez(root / "adrenalmnist3d" / "adrenalmnist3d.npz", **arrays | changed)


def test_clouds_lie_on_the_surface(tmp_path):
    write(tmp_path)
    source = data.load("adrenal_shapes", "valid", tmp_path)
    assert source.x.shape == (3, 1024, 3) and source.y.tolist() == [0, 1, 0]
    radius = np.linalg.norm(source.x, axis=-1)
    np.testing.assert_allclose(radius.max(1), 1, rtol=1e-6)
    np.testing.assert_allclose(source.x.mean(1), 0, atol=1e-6)
    # A box of 4 x 4 x 2: two faces of 16 and four of 8.
    cloud = source.x[0]
    low, high = cloud.min(0), cloud.max(0)
    unit = (cloud - low) / (high - low)
    on = np.minimum(unit, 1 - unit) < 1e-5
    assert on.any(1).all()
    # Binomial(1024, 1/2): standard deviation 16, five of them.
    assert abs(on[:, 2].sum() - 512) < 80


def test_the_real_set(real_file):
    root = real_file("adrenalmnist3d/adrenalmnist3d.npz").parents[1]
    sizes = {"valid": (98, 76), "test": (298, 229)}
    for split, (count, normal) in sizes.items():
        source = data.load("adrenal_shapes", split, root)
        assert source.x.shape == (count, 1024, 3)
        assert np.bincount(source.y).tolist() == [normal, count - normal]
        radius = np.linalg.norm(source.x, axis=-1)
        np.testing.assert_allclose(radius.max(1), 1, rtol=1e-5)


EMPTY = np.zeros((3, 8, 8, 8), np.uint8)
EMPTY[[0, 2], 4, 4, 4] = 1
BAD = {
    "empty": (dict(test_images=EMPTY), r"mask 1 of .*\(test\) is empty"),
    "rank": (dict(test_images=EMPTY[0]), r"\(8, 8, 8\).*\[N, D, H, W\]"),
    "labels": (dict(test_labels=np.zeros(3, int)), r"\(3,\).*\[N, 1\]"),
    "class": (dict(test_labels=np.full((3, 1), 2)), "hold 2 at index 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives_are_named(tmp_path, kind):
    changed, match = BAD[kind]
    write(tmp_path, **changed)
    with pytest.raises(UsageError, match=match) as error:
        data.load("adrenal_shapes", "test", tmp_path)
    assert "\n" not in str(error.value)


def test_no_archive(tmp_path):
    with pytest.raises(UsageError, match="adrenalmnist3d.npz is missing"):
        data.load("adrenal_shapes", "test", tmp_path)
