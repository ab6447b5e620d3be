import struct

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import aedat

HEAD = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def packet(rows, kind=1, overflow=0, marked=True, **changed):
    """A packet of events (t, x, y, p, valid), from the format's definition."""
    rows = np.asarray(rows, np.int64).reshape(-1, 5)
    t, x, y, p, valid = rows.T
    word = x << 17 | y << 2 | p << 1 | (valid if marked else 0)
    fields = dict(
        kind=kind, source=1, size=8, offset=4, overflow=overflow,
        capacity=len(rows), number=len(rows), valid=int(valid.sum()),
    )  # fmt: skip
    header = struct.pack("<HH6i", *(fields | changed).values())
    return header + np.stack([word, t], -1).astype("<u4").tobytes()


def events(start, stop, count, seed):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(start, stop, count))
    place, p = rng.integers(0, 128, (2, count)), rng.integers(0, 2, count)
    return np.stack([t, *place, p, np.ones(count, int)], -1)


def trial(folder, name, gestures, rows):
    """A recording in two packets, and its labels."""
    half = len(rows) // 2
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.aedat").write_bytes(
        HEAD + packet(rows[:half]) + packet(rows[half:])
    )
    lines = ["class,startTime_usec,endTime_usec"]
    lines += [",".join(map(str, gesture)) for gesture in gestures]
    (folder / f"{name}_labels.csv").write_text("\n".join(lines) + "\n")


ROWS = events(0, 2_500_000, 12_000, 0)


def write(root, gestures=((3, 100_000, 1_100_000), (11, 1_100_000, 2_400_000))):
    folder = root / "dvs_gesture" / "DvsGesture"
    trial(folder, "user01_lab", gestures, ROWS)
    trial(folder, "user02_led", ((1, 0, 750_000), (10, 10**6, 1_500_000)), ROWS)
    trial(folder, "user03_led", ((4, 0, 500_000),), ROWS)
    (folder / "trials_to_train.txt").write_text(
        "user01_lab.aedat\nuser02_led.aedat\n"
    )
    (folder / "trials_to_test.txt").write_text("user03_led.aedat\n")
    return folder


def test_windows_of_gestures(tmp_path):
    write(tmp_path)
    train, valid, test = (
        data.load("dvs_gesture", s, tmp_path) for s in data.SPLITS
    )
    # A second holds three windows of 0.5 s every 0.25 s; class 11 is dropped.
    assert train.y.tolist() == [2, 2, 2] and test.y.tolist() == [3]
    assert valid.y.tolist() == [0, 9, 0]
    assert train.x.shape == (3, 1024, 3)
    for x, start in zip(train.x, (100_000, 350_000, 600_000), strict=True):
        t = ROWS[:, 0]
        rows = ROWS[(t >= start) & (t < start + 500_000)][:, :3]
        first, last = rows[0, 0], rows[-1, 0]
        table = (rows - [first, 0, 0]) / [last - first, 127, 127]
        apart = np.abs(x[:, None] - table[None]).max(-1)
        # About 2,400 events, of which 1,024 are drawn once each.
        assert apart.min(1).max() < 1e-6
        assert len(np.unique(apart.argmin(1))) == 1024
    again = data.load("dvs_gesture", "train", tmp_path)
    np.testing.assert_array_equal(again.x, train.x)


def test_few_events_are_taken_again(tmp_path):
    folder = write(tmp_path)
    trial(folder, "user03_led", ((4, 0, 500_000),), ROWS[:300])
    test = data.load("dvs_gesture", "test", tmp_path)
    assert len(np.unique(test.x[0], axis=0)) == 300


def test_the_format(tmp_path):
    path = tmp_path / "a.aedat"
    early = [[7, 1, 127, 1, 1], [5, 127, 2, 0, 1], [6, 3, 3, 0, 0]]
    path.write_bytes(
        HEAD
        + packet([[0, 0, 0, 0, 1]], kind=0)
        + packet(early)
        + packet([[4, 9, 8, 1, 1]], overflow=2)
        + packet([[8, 9, 9, 0, 1]], marked=False)
    )
    found = aedat.read(path)
    assert np.asarray(found.t).tolist() == [5, 7, 8, 2 * 2**31 + 4]
    assert np.asarray(found.x).tolist() == [127, 1, 9, 9]
    assert np.asarray(found.y).tolist() == [2, 127, 9, 8]
    assert np.asarray(found.p).tolist() == [0, 1, 0, 1]


GOOD = HEAD + packet(ROWS[:50])
FILES = {
    "version": (b"#!AER-DAT2.0\r\n" + GOOD, "AER-DAT2.0"),
    "head": (b"#!AER-DAT3.1\r\n" + GOOD[-20:], "has no line"),
    "cut": (GOOD[:-3], "cut short in the packet at byte"),
    "cut header": (GOOD + GOOD[:9], "cut short in the header at byte"),
    "size": (HEAD + packet(ROWS[:5], size=12), "damaged packet header"),
    "number": (HEAD + packet(ROWS[:5], number=-1), "damaged packet header"),
    "other": (HEAD + packet(ROWS[:5], kind=2), "no polarity events"),
    "none": (HEAD, "no polarity events"),
    "pixel": (HEAD + packet([[9, 128, 0, 0, 1]]), "column 1.* is 128"),
    "empty": (
        HEAD + packet([[10**6, 1, 0, 0, 1]]),
        "no event from 0 to 500000",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_damaged_recordings_are_named(tmp_path, kind):
    content, match = FILES[kind]
    (write(tmp_path) / "user03_led.aedat").write_bytes(content)
    fails(match, "test", tmp_path)


def fails(match, split, root):
    with pytest.raises(UsageError, match=match) as error:
        data.load("dvs_gesture", split, root)
    assert "\n" not in str(error.value)


GESTURES = {
    "short": ((2, 0, 499_999), "line 2 of .*labels.csv is a gesture of 499999"),
    "class": ((12, 0, 600_000), "line 2 .* has class 12"),
    "columns": ((2, 0), "labels.csv has 2 numbers a line; it needs 3"),
    "word": ((2, 0, "end"), "labels.csv is damaged .*'end'"),
    "others": ((11, 0, 600_000), "no gesture of classes 1 to 10"),
}


@pytest.mark.parametrize("kind", GESTURES)
def test_bad_gestures_are_named(tmp_path, kind):
    row, match = GESTURES[kind]
    write(tmp_path, (row,))
    fails(match, "train", tmp_path)


@pytest.mark.parametrize(
    "name, split, match",
    [
        ("trials_to_train.txt", "test", "holds no DVS128 Gesture; put"),
        ("trials_to_test.txt", "test", "trials_to_test.txt cannot be read"),
        ("user01_lab.aedat", "train", "user01_lab.aedat cannot be read"),
        ("user01_lab_labels.csv", "train", "labels.csv cannot be read"),
    ],
)
def test_missing_files_are_named(tmp_path, name, split, match):
    (write(tmp_path) / name).unlink()
    fails(match, split, tmp_path)


def test_one_subject_cannot_be_split(tmp_path):
    folder = write(tmp_path)
    (folder / "trials_to_train.txt").write_text("user01_lab.aedat\n")
    fails("one subject, user01", "train", tmp_path)
