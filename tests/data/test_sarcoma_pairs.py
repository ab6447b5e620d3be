"""Pairs of modalities of the sarcoma slices, made and real."""

import numpy as np
import pytest
from scipy.spatial import distance

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import paired, sarcoma_pairs

PATIENTS, EACH = 10, 2
N = PATIENTS * EACH
PATIENT = 3 + 7 * (np.arange(N) // EACH)


def write(root):
    """Random slices, and a bar of i + 42 pixels in slice i."""
    rng = np.random.default_rng(0)
    mask = np.zeros((N, 96, 96), np.uint8)
    for i in range(N):
        mask[i, 40:43, 10 : 52 + i] = 1
    (root / "sts_trimodal").mkdir()
    np.savez(
        root / "sts_trimodal" / "sts_trimodal_96.npz",
        t1=rng.integers(0, 1500, (N, 96, 96), np.uint16),
        ct_hu=rng.integers(-300, 400, (N, 96, 96), np.int16),
        pet_suv_x100=rng.integers(0, 1200, (N, 96, 96), np.uint16),
        gtv=np.packbits(mask, axis=-1),
        patient=PATIENT,
    )
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    "modalities, side", [(("t1", "ct"), 48), (("pet", "t1"), 32)]
)
def test_they_are_the_slices_of_sarcoma(root, modalities, side):
    for split in data.SPLITS:
        whole = data.load("sarcoma", split, root)
        pairs = data.load(
            "sarcoma_pairs", split, root, modalities=modalities, side=side
        )
        n, step = len(whole.x), 96 // side
        blocks = whole.x.reshape(n, side, step, side, step, 3).mean((2, 4))
        chosen = [("t1", "ct", "pet").index(name) for name in modalities]
        np.testing.assert_allclose(
            pairs.x, 2 * blocks[..., chosen] - 1, atol=1e-5
        )
        assert pairs.name == "sarcoma_pairs_" + "_".join(modalities)
        # From end to end of the bar, three pixels high; 50 mm are 51.2 pixels.
        last = whole.y.any(1).argmax(1) + whole.y.any(1).sum(1) - 1
        length = np.hypot(last - 10, 2)
        np.testing.assert_allclose(
            pairs.aux["length"], length * 0.976562, rtol=1e-6
        )
        np.testing.assert_array_equal(pairs.y, length > 51.2)
        np.testing.assert_array_equal(pairs.aux["patient"], PATIENT[last - 51])
        assert all(pairs.aux[k].all() for k in paired.Pairing._fields)


def test_patients_keep_their_pairs_together(root):
    some = data.load("sarcoma_pairs", "train", root, side=32, pairs=0.3, seed=4)
    whole = data.load("sarcoma_pairs", "train", root, side=32)
    kept = {}
    for i, patient in enumerate(some.aux["patient"].tolist()):
        given = tuple(int(some.aux[k][i]) for k in paired.Pairing._fields)
        assert kept.setdefault(patient, given) == given
        for channel in (0, 1):
            image = some.x[i, ..., channel]
            want = whole.x[i, ..., channel] if given[1 + channel] else -1
            assert (image == want).all()
    # Of seven patients two keep them, and five are split.
    found = sorted(kept.values())
    assert found.count((1, 1, 1)) == 2 and len(found) == 7
    assert {found.count((0, 0, 1)), found.count((0, 1, 0))} == {2, 3}
    tested = data.load("sarcoma_pairs", "test", root, side=32, pairs=0.3)
    assert tested.aux["paired"].all()


def test_the_longest_distance_is_that_of_all_pixels():
    rng = np.random.default_rng(1)
    for share in (0.02, 0.3):
        mask = (rng.random((20, 31)) < share).astype(np.uint8)
        want = distance.pdist(np.argwhere(mask)).max()
        np.testing.assert_allclose(sarcoma_pairs.longest(mask), want)
    assert sarcoma_pairs.longest(np.eye(1)) == 0
    assert sarcoma_pairs.longest(np.zeros((3, 3))) == 0


@pytest.mark.parametrize(
    "options, match",
    [
        ({"modalities": ("t1", "t2")}, "unknown modality 't2'.*ct, pet, t1"),
        ({"modalities": ("ct", "ct")}, "must be two different"),
        ({"side": 40}, "side is 40.*32, 48, 64, 96"),
        ({"pairs": 2.0}, "pairs is 2.0"),
        ({"seed": -3}, "seed is -3"),
    ],
)
def test_options_out_of_range(root, options, match):
    with pytest.raises(UsageError, match=match) as error:
        data.load("sarcoma_pairs", "train", root, **options)
    assert "\n" not in str(error.value)


def test_no_archive(tmp_path):
    with pytest.raises(UsageError, match="sts_trimodal_96.npz is missing"):
        data.load("sarcoma_pairs", "test", tmp_path)


def test_the_real_set(real_file):
    path = real_file("sts_trimodal/sts_trimodal_96.npz")
    root = path.parents[1]
    counts, seen = [], []
    for split in data.SPLITS:
        source = data.load("sarcoma_pairs", split, root, side=32)
        counts.append(len(source.y))
        seen.append({*source.aux["patient"].tolist()})
        assert source.x.min() == -1 and source.x.max() <= 1
        # Neither class is rare in any split.
        assert 0.3 < source.y.mean() < 0.7
    assert counts == [411, 47, 112]
    assert [len(s) for s in seen] == [26, 3, 7]
    assert len(set.union(*seen)) == 36
    with np.load(path) as file:
        size = abs(float(file["pixel_mm"]))
    np.testing.assert_allclose(sarcoma_pairs.PIXEL, size, rtol=1e-6)
