import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError

EVENTS = 1200


def recordings(part, count):
    """Arrays of a part, with `count` recordings of 1,200 events."""
    rng = np.random.default_rng(count)
    rows = count * EVENTS
    return {
        f"{part}_x": rng.integers(0, 34, rows).astype(np.uint8),
        f"{part}_y": rng.integers(0, 34, rows).astype(np.uint8),
        f"{part}_dt_us": rng.integers(0, 500, rows).astype(np.uint16),
        f"{part}_offsets": np.arange(count + 1) * EVENTS,
        f"{part}_labels": (np.arange(count) % 10).astype(np.uint8),
        f"{part}_ids": np.arange(1, count + 1, dtype=np.int32),
    }


def write(root, **changed):
    (root / "nmnist_small").mkdir()
    arrays = recordings("train", 20) | recordings("test", 3) | changed
    np.savez(
        root / "nmnist_small" / "nmnist_small.npz",
        **{name: a for name, a in arrays.items() if a is not None},
    )
    return arrays


def test_points_are_events(tmp_path):
    arrays = write(tmp_path)
    sources = {s: data.load("nmnist_small", s, tmp_path) for s in data.SPLITS}
    assert [len(s.y) for s in sources.values()] == [18, 2, 3]
    valid = sources["valid"]
    assert valid.x.shape == (2, 1024, 3) and valid.y.tolist() == [8, 9]
    # The last training recording.
    part = slice(19 * EVENTS, 20 * EVENTS)
    t = np.cumsum(arrays["train_dt_us"][part], dtype=np.int64)
    x, y = arrays["train_x"][part], arrays["train_y"][part]
    table = np.stack([(t - t[0]) / (t[-1] - t[0]), x / 33, y / 33], -1)
    apart = np.abs(valid.x[1][:, None] - table[None]).max(-1)
    assert apart.min(1).max() < 1e-6
    # Events of one microsecond and place may be found for each other.
    assert len(np.unique(apart.argmin(1))) > 1020


def test_what_is_drawn_depends_on_the_recording_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    arrays = write(one)
    less = {
        name: a[EVENTS:] if len(a) == 20 * EVENTS else a[1:]
        for name, a in arrays.items()
        if name.startswith("train")
    }
    less["train_offsets"] -= EVENTS
    write(two, **less)
    a, b = (data.load("nmnist_small", "valid", root) for root in (one, two))
    np.testing.assert_array_equal(a.x[-1], b.x[-1])
    again = data.load("nmnist_small", "valid", one)
    np.testing.assert_array_equal(a.x, again.x)


def test_the_real_set(real_file):
    root = real_file("nmnist_small/nmnist_small.npz").parents[1]
    test, valid = (
        data.load("nmnist_small", s, root) for s in ("test", "valid")
    )
    assert test.x.shape == valid.x.shape == (100, 1024, 3)
    # MNIST's test images begin with these digits.
    assert test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert test.x.min() == 0 and test.x.max() == 1
    # Digits lie in the middle of 34 pixels and move by a few.
    assert np.abs(test.x[..., 1:].mean((0, 1)) - 0.5).max() < 0.1


SHORT = recordings("train", 20)["train_offsets"]
SHORT[1] = 1000
BAD = {
    "column": (dict(train_x=None), "no archive.*train_x"),
    "length": (dict(train_x=np.zeros(9, np.uint8)), "columns differ in length"),
    "offsets": (dict(train_offsets=np.arange(21)), "offsets do not cut"),
    "labels": (dict(train_labels=np.full(20, 10)), "hold 10 at index 0"),
    "pixel": (dict(train_x=np.full(24000, 34, np.uint8)), "is 34"),
    "short": (
        dict(train_offsets=SHORT), "recording 1 of .*1000 events, but 1024"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_damaged_archives_are_named(tmp_path, kind):
    changed, match = BAD[kind]
    write(tmp_path, **changed)
    with pytest.raises(UsageError, match=match) as error:
        data.load("nmnist_small", "train", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"PK none", "cut"])
def test_no_archive(tmp_path, content):
    write(tmp_path)
    path = tmp_path / "nmnist_small" / "nmnist_small.npz"
    if content is None:
        path.unlink()
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:9000])
    else:
        path.write_bytes(content)
    match = "is missing" if content is None else "no archive of recordings"
    with pytest.raises(UsageError, match=match) as error:
        data.load("nmnist_small", "test", tmp_path)
    assert "\n" not in str(error.value)
