import json

import numpy as np
import pytest
from scipy.io import wavfile

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import spoken_digits

pytest.importorskip("librosa", reason="needs the extra audio")
CLIPS = 40


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    return {
        f"{i % 10}_george_{i // 10}.wav": rng.integers(
            -9000, 9000, 1000 + 37 * i, np.int16
        )
        for i in range(CLIPS)
    }


def write_waves(root, clips, rate=8000):
    folder = root / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for name, wave in clips.items():
        wavfile.write(folder / name, rate, wave)


def write_archive(root, clips, **changed):
    (root / "fsdd").mkdir(parents=True, exist_ok=True)
    waves = list(clips.values())
    content = {
        "audio": np.concatenate(waves),
        "offsets": np.cumsum([0, *map(len, waves)]),
        "filename": np.array(list(clips)),
    }
    np.savez(root / "fsdd" / "fsdd.npz", **(content | changed))


def test_both_forms_hold_the_same(tmp_path, clips):
    one, two = tmp_path / "one", tmp_path / "two"
    write_waves(one, clips)
    write_archive(two, clips)
    for split in data.SPLITS:
        a, b = (data.load("spoken_digits", split, root) for root in (one, two))
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
        assert a.x.shape[1:] == (23, 20, 1)


def test_every_clip_is_in_one_split(tmp_path, clips):
    write_archive(tmp_path, clips)
    sources = [data.load("spoken_digits", s, tmp_path) for s in data.SPLITS]
    assert [len(s.y) for s in sources] == [25, 3, 12]
    rows = np.concatenate([s.x.reshape(len(s.x), -1) for s in sources])
    assert len(np.unique(rows, axis=0)) == CLIPS
    y = np.concatenate([s.y for s in sources])
    assert np.bincount(y).tolist() == [4] * 10


def test_known_splits_are_kept(clips):
    known = {name: "test" for name in list(clips)[:9]}
    known |= {name: "train" for name in list(clips)[9:20]}
    parts = spoken_digits.split_names(sorted(clips), known)
    assert {*parts} == {*clips}
    for name, part in known.items():
        assert (parts[name] == "test") == (part == "test")
    counts = [list(parts.values()).count(s) for s in data.SPLITS]
    assert counts == [25, 3, 12]


def test_the_real_set(real_file):
    known = real_file("fsdd/split_authors.json")
    test, valid = (
        data.load("spoken_digits", s, known.parents[1])
        for s in ("test", "valid")
    )
    assert len(test.y) == 900 and len(valid.y) == 210
    names = json.loads(known.read_text())
    # The paper's test split counts 82 to 98 clips a digit; 655 are known.
    assert sum(part == "test" for part in names.values()) == 655
    assert np.bincount(test.y).min() > 70
    assert test.x.max() == 1 and test.x.min() == 0
    # A clip rarely fills all frames, and most of its features are not zero.
    assert 0.3 < (test.x > 0).mean() < 0.9


def damaged(tmp_path, clips, kind):
    if kind == "offsets":
        write_archive(tmp_path, clips, offsets=np.arange(CLIPS + 1))
    elif kind == "name":
        first, *rest = clips
        named = {"x_george_0.wav": clips[first]}
        write_archive(tmp_path, named | {n: clips[n] for n in rest})
    elif kind == "no archive":
        (tmp_path / "fsdd").mkdir()
        (tmp_path / "fsdd" / "fsdd.npz").write_bytes(b"none")
    elif kind == "rate":
        write_waves(tmp_path, clips, rate=16000)
    elif kind == "wave":
        write_waves(tmp_path, clips)
        first = next(iter(clips))
        (tmp_path / "fsdd" / "recordings" / first).write_bytes(b"RIFF none")
    elif kind == "split":
        write_archive(tmp_path, clips)
        path = tmp_path / "fsdd" / "split_authors.json"
        path.write_text(json.dumps({"0_george_0.wav": "tset"}))
    elif kind == "short":
        first = next(iter(clips))
        write_archive(tmp_path, clips | {first: np.zeros(99, np.int16)})
    elif kind == "empty":
        (tmp_path / "fsdd").mkdir()


BAD = {
    "offsets": "offsets do not cut",
    "name": "'x_george_0.wav'.*DIGIT_SPEAKER",
    "no archive": "no archive of spoken digits",
    "rate": "16000 samples a second.*8000",
    "wave": "no readable wave file",
    "split": "splits .'tset'.*'train' and 'test'",
    "short": "0_george_0.wav.*256 samples",
    "empty": "holds no spoken digits.*recordings/",
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_files_are_named(tmp_path, clips, kind):
    damaged(tmp_path, clips, kind)
    with pytest.raises(UsageError, match=BAD[kind]) as error:
        for split in data.SPLITS:
            data.load("spoken_digits", split, tmp_path)
    assert "\n" not in str(error.value)
