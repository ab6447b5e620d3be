"""Tests of a teacher's stored outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import make_source, teacher
from jaxedge.features import images

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(7, 6, 6, 1)).astype(np.float32)
SOURCE = make_source(
    X, np.arange(7) % 4, classes=tuple("abcd"), name="toy", split="train"
)
W = RNG.normal(size=(36, 4)).astype(np.float32)
HOW = {"crops": 3, "k": 2, "key": jax.random.key(1), "scale": (0.4, 1.0)}


def forward(x):
    return jnp.asarray(x).reshape(len(x), -1) @ W


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "teacher"
    return folder, teacher.write(folder, SOURCE, forward, batch=3, **HOW)


def test_every_crop_has_the_likeliest_classes(written):
    """Of the crop that is replayed, in float64."""
    _, found = written
    assert found.size == (6, 6) and found.classes == 4
    rows = found.rows(np.arange(7)[:, None], np.arange(3)[None])
    assert rows.boxes.shape == (7, 3, 4) and rows.index.shape == (7, 3, 2)
    assert rows.value.dtype == np.float16
    for crop in range(3):
        seen = images.resized_crop(
            X, rows.boxes[:, crop], (6, 6), rows.flips[:, crop]
        )
        z = np.float64(seen).reshape(7, -1) @ W
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        order = np.argsort(-p, 1)[:, :2]
        np.testing.assert_array_equal(rows.index[:, crop], order)
        want = np.take_along_axis(p, order, 1)
        np.testing.assert_allclose(rows.value[:, crop], want, atol=1e-3)
    assert len({tuple(box) for box in rows.boxes.reshape(-1, 4)}) == 21


def test_a_killed_call_goes_on_where_it_was(written, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, total):
        assert total == 7
        if done == 6:
            raise Killed

    folder, seen = tmp_path / "teacher", []
    with pytest.raises(Killed):
        teacher.write(folder, SOURCE, forward, batch=3, progress=kill, **HOW)
    assert not folder.exists()
    with pytest.raises(UsageError, match="not finished: 6 of 7"):
        teacher.open(folder, SOURCE)
    # In batches of another size, the last image alone.
    found = teacher.write(
        folder,
        SOURCE,
        forward,
        batch=2,
        progress=lambda done, total: seen.append(done),
        **HOW,
    )
    assert seen == [7]
    for a, b in zip(found.stored, written[1].stored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_there_is_not_written_over(written):
    folder, _ = written
    again = teacher.write(folder, SOURCE, forward, batch=3, **HOW)
    assert again.stored.flips.shape == (7, 3)
    with pytest.raises(UsageError, match="crops"):
        teacher.write(folder, SOURCE, forward, **{**HOW, "crops": 4})
    with pytest.raises(UsageError):
        teacher.write(folder, SOURCE, lambda x: -forward(x), **HOW)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.rows(np.arange(6)), "images: 7 there, 6 here"),
        (lambda s: s.rows(np.arange(7)[::-1]), "labels|pixels"),
        (lambda s: s._replace(x=s.x + 0.1), "pixels"),
        (lambda s: s._replace(split="valid"), "split"),
        (lambda s: s._replace(classes=tuple("abcde")), "classes"),
    ],
)
def test_another_data_set_is_told(written, change, message):
    with pytest.raises(UsageError, match=message):
        teacher.open(written[0], change(SOURCE))


def test_files_that_are_missing_or_damaged(written, tmp_path):
    with pytest.raises(UsageError, match="none"):
        teacher.open(tmp_path / "none", SOURCE)
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in written[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "value.npy").write_bytes(b"no numbers")
    with pytest.raises(UsageError, match="value.npy"):
        teacher.open(folder, SOURCE)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"crops": 0}, "crops is 0"),
        ({"k": 5}, "k is 5, but toy has 4 classes"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_bad_arguments(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        teacher.write(tmp_path / "t", SOURCE, forward, **{**HOW, **changes})


def test_a_teacher_that_does_not_fit(tmp_path):
    with pytest.raises(UsageError, match="a number for each class"):
        teacher.write(
            tmp_path / "t", SOURCE, lambda x: forward(x)[:, :3], **HOW
        )
    with pytest.raises(UsageError, match="NaN"):
        teacher.write(
            tmp_path / "u", SOURCE, lambda x: forward(x) * np.nan, **HOW
        )
    with pytest.raises(UsageError, match="integers"):
        folder = tmp_path / "v"
        found = teacher.write(folder, SOURCE, forward, **HOW)
        found.rows(np.array([0.5]), np.array([0]))
