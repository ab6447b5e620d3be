import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import sarcoma

PATIENTS = 10
N = 2 * PATIENTS
T1 = np.linspace(0, 1600, N).astype(np.uint16)
CT = np.linspace(-400, 400, N).astype(np.int16)
PET = np.linspace(0, 2000, N).astype(np.uint16)  # hundredths


def write(root, **changed):
    """Even slices, and a tumour in the pixels of one row of each."""
    t1, ct, pet = (
        np.broadcast_to(values[:, None, None], (N, 96, 96))
        for values in (T1, CT, PET)
    )
    mask = np.zeros((N, 96, 96), np.uint8)
    mask[np.arange(N), np.arange(N), 10:30] = 1
    arrays = dict(
        t1=t1,
        ct_hu=ct,
        pet_suv_x100=pet,
        gtv=np.packbits(mask, axis=-1),
        patient=np.arange(N) % PATIENTS,
    )
    (root / "sts_trimodal").mkdir()
    path = root / "sts_trimodal" / "sts_trimodal_96.npz"
    np.savez(path, **arrays | changed)


# The windows of the module's text, by hand.
WANT = np.stack(
    [
        np.clip(T1 / 1200, 0, 1),
        np.clip((CT + 160) / 400, 0, 1),
        np.clip(PET / 1000, 0, 1),
    ],
    1,
)


def slices(source):
    """Which slice each row is, by its tumour."""
    inside = source.y.any(2)
    np.testing.assert_array_equal(source.y.sum((1, 2)), 20)
    assert source.y[:, :, 10:30].sum() == source.y.sum()
    return inside.argmax(1)


def test_channels_and_sites_hold_the_same(tmp_path):
    write(tmp_path)
    seen = []
    for split, count in (("train", 14), ("valid", 2), ("test", 4)):
        whole = data.load("sarcoma", split, tmp_path)
        assert whole.x.shape == (count, 96, 96, 3) and whole.aux is None
        chosen = slices(whole)
        seen.append({*(chosen % PATIENTS).tolist()})
        np.testing.assert_allclose(whole.x[:, 5, 7], WANT[chosen], atol=1e-6)
        apart = data.load("sarcoma_modalities", split, tmp_path)
        assert apart.x.shape == (3 * count, 96, 96, 1)
        site = apart.aux["site"]
        for i in range(3):
            mine = apart.rows(np.flatnonzero(site == i))
            np.testing.assert_array_equal(mine.x[..., 0], whole.x[..., i])
            np.testing.assert_array_equal(mine.y, whole.y)
    # No patient is in two splits.
    assert [len(s) for s in seen] == [7, 1, 2]
    assert len(set.union(*seen)) == PATIENTS


def test_the_real_set(real_file):
    path = real_file("sts_trimodal/sts_trimodal_96.npz")
    root = path.parents[1]
    with np.load(path) as file:
        masks = np.unpackbits(file["gtv"], axis=-1)
    parts = [data.load("sarcoma", split, root) for split in ("valid", "test")]
    assert [len(p.y) for p in parts] == [47, 112]  # of 3 and 7 patients
    stored = {mask.tobytes() for mask in masks}
    assert {m.astype(np.uint8).tobytes() for p in parts for m in p.y} <= stored
    assert all(p.y.any((1, 2)).all() for p in parts)
    assert all(p.x.min() == 0 and p.x.max() == 1 for p in parts)
    # Metabolism is higher in the tumour, on every split.
    for part in parts:
        pet, inside = part.x[..., 2], part.y == 1
        assert pet[inside].mean() > 2 * pet[~inside].mean()


BAD = {
    "size": (
        dict(t1=np.zeros((N, 64, 64), int)),
        r"t1 of shape \(20, 64, 64\)",
    ),
    "count": (dict(ct_hu=np.zeros((3, 96, 96), int)), r"ct_hu of shape \(3,"),
    "dtype": (dict(pet_suv_x100=np.zeros((N, 96, 96))), "pet_suv.*float64"),
    "mask": (
        dict(gtv=np.zeros((N, 96, 96), np.uint8)),
        r"gtv of shape \(20, 96, 96\).*\(20, 96, 12\)",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives_are_named(tmp_path, kind):
    changed, match = BAD[kind]
    write(tmp_path, **changed)
    with pytest.raises(UsageError, match=match) as error:
        data.load("sarcoma", "test", tmp_path)
    assert "\n" not in str(error.value)


def test_no_archive(tmp_path):
    with pytest.raises(UsageError, match="sts_trimodal_96.npz is missing"):
        data.load("sarcoma_modalities", "test", tmp_path)


def test_the_sites_are_those_of_the_windows():
    assert tuple(sarcoma.WINDOWS) == data.sites_of("sarcoma_modalities")
