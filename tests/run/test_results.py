"""Tests of streams that may be cut anywhere, and of archives."""

import zipfile

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import results

CHIPS = (np.arange(10) / 7).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chips.jsonl"


def write(path, *chunks):
    stream = results.Stream(path)
    stream.mend()
    for chunk in chunks:
        stream.append(chunk)
    return path.read_bytes()


def test_a_stream_gives_back_its_chips(path):
    write(path, CHIPS[:3], CHIPS[3:4], CHIPS[4:])
    stream = results.Stream(path)
    for n in (0, 2, 3, 10, 99):
        found = stream.read(n)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, CHIPS[:n])


def test_a_stream_of_nothing_is_empty(path):
    stream = results.Stream(path)
    assert stream.read(5).size == 0 and stream.mend() == 0
    assert not path.exists()


def test_a_stream_cut_anywhere_keeps_whole_chunks_and_goes_on(path):
    whole = write(path, CHIPS[:3], CHIPS[3:5], CHIPS[5:])
    first, second, _ = whole.splitlines(keepends=True)
    ends = {len(first): 3, len(first + second): 5, len(whole): 10}
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        done = max((n for end, n in ends.items() if end <= length), default=0)
        np.testing.assert_array_equal(
            results.Stream(path).read(10), CHIPS[:done]
        )
        stream = results.Stream(path)
        assert stream.mend() == done
        if length % 50 == 0:
            stream.append(CHIPS[done:])
            np.testing.assert_array_equal(stream.read(10), CHIPS)


@pytest.mark.parametrize(
    "harm",
    [
        lambda lines: [lines[0], lines[2]],  # a line is missing
        lambda lines: [lines[0], lines[0], lines[1]],
        lambda lines: [lines[0], b"\0" * 40 + b"\n", lines[2]],
        lambda lines: [lines[0], lines[1].replace(b"0.4", b"0.5", 1)],
        # The end of one line and the rest of the next, as one.
        lambda lines: [
            lines[0],
            b'{"start": 3' + lines[2][lines[2].index(b",") :],
        ],
        lambda lines: [lines[0], b"[1, 2]\n"],
        lambda lines: [lines[0], b'{"start": 3}\n'],
        lambda lines: [lines[0], b"[" * 100_000 + b"\n"],
        lambda lines: [lines[0], b'{"score": [1' + b"0" * 400 + b"]}\n"],
    ],
)
def test_what_follows_damage_does_not_count(path, harm):
    lines = write(path, CHIPS[:3], CHIPS[3:5], CHIPS[5:]).splitlines(True)
    path.write_bytes(b"".join(harm(lines)))
    stream = results.Stream(path)
    assert stream.mend() == 3
    assert path.read_bytes() == lines[0]
    stream.append(CHIPS[3:])
    np.testing.assert_array_equal(stream.read(10), CHIPS)


def test_an_archive_is_written_row_by_row(tmp_path):
    path = tmp_path / "a.npz"
    given, alive = np.random.default_rng(0).random((3, 5), np.float32), []

    def rows():
        for row in given:
            alive.append(row)
            yield row

    levels = np.array(["a", "b", "c"])
    results.write(
        path, {"levels": levels, "score": results.Rows((3, 5), rows())}
    )
    assert len(alive) == 3
    with np.load(path) as file:  # any reader can
        np.testing.assert_array_equal(file["score"], given)
        np.testing.assert_array_equal(file["levels"], levels)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_failed_write_leaves_the_old_archive(tmp_path):
    path = tmp_path / "a.npz"
    results.write(path, {"x": np.ones(2)})
    before = path.read_bytes()

    def rows():
        yield np.ones(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.write(path, {"x": results.Rows((2, 3), rows())})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_an_archive_is_a_mapping(tmp_path):
    path = tmp_path / "a.npz"
    assert dict(results.Archive(path)) == {}
    results.write(path, {"x": np.ones(2), "rate/x": np.zeros(())})
    archive = results.Archive(path, hide=("rate/x",))
    assert list(archive) == ["x"] and len(archive) == 1
    np.testing.assert_array_equal(archive["x"], [1, 1])
    for name in ("rate/x", "y"):
        with pytest.raises(KeyError):
            archive[name]


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(checks.UsageError, match="a.npz.*delete it"):
        results.Archive(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"something")
        file.writestr("y.npy", b"\x93NUMPY\x01\x00\x0a\x00{'descr': (")
    for name in results.Archive(path):
        with pytest.raises(checks.UsageError, match="a.npz.*delete it"):
            results.Archive(path)[name]
