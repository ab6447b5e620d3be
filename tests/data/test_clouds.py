import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import clouds
from jaxedge.features import points


def triangles(count, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3, 3)).astype(np.float32)


def test_blocks_draw_what_each_surface_draws_alone():
    things = [triangles(n, n) for n in (3, 64, 65, 7)]
    drawn = clouds.draw_keys("test", 4)
    found = clouds.of_surfaces(drawn, things, 32)
    assert found.shape == (4, 32, 3) and found.dtype == np.float32
    for i in (0, 2):
        corners = things[i].reshape(-1, 3)
        faces = np.arange(len(corners)).reshape(-1, 3)
        alone = points.from_mesh(drawn[i], corners, faces, 32)
        # Sums over more triangles may round the place on the areas otherwise.
        np.testing.assert_allclose(found[i], alone, atol=1e-4)
    one = clouds.of_surfaces(drawn[2:3], things[2:3], 32)
    np.testing.assert_array_equal(one[0], found[2])


def test_a_block_that_is_full_and_one_that_is_not(monkeypatch):
    things = [triangles(5, n) for n in range(5)]
    drawn = clouds.draw_keys("test", 5)
    whole = clouds.of_surfaces(drawn, things, 32)
    monkeypatch.setattr(clouds, "_BLOCK", 2)
    np.testing.assert_array_equal(clouds.of_surfaces(drawn, things, 32), whole)


def test_events_are_distinct_events_of_their_recording():
    rng = np.random.default_rng(0)
    times = [np.sort(rng.integers(10, 5000, n)) for n in (40, 90)]
    recordings = [
        np.stack([t, *rng.integers(0, 8, (2, len(t)))], -1).astype(np.int32)
        for t in times
    ]
    drawn = clouds.draw_keys("test", 2)
    found = clouds.of_events(drawn, recordings, size=(8, 8), n=32)
    assert found.shape == (2, 32, 3)
    for cloud, rows in zip(found, recordings, strict=True):
        t = rows[:, 0]
        back = cloud * [np.ptp(t), 7, 7] + [t.min(), 0, 0]
        apart = np.abs(back[:, None] - rows[None]).max(-1)
        # float32 of a span of 5,000.
        assert apart.min(1).max() < 1e-3
        assert len(np.unique(apart.argmin(1))) == 32


def test_few_events_are_taken_again():
    rows = np.array([[0, 1, 2], [5, 3, 4], [10, 0, 7]], np.int32)
    found = clouds.of_events(
        clouds.draw_keys("x", 1), [rows], size=(8, 8), n=32
    )
    wanted = rows / [10, 7, 7]
    assert len(np.unique(found[0], axis=0)) == 3
    np.testing.assert_allclose(
        np.unique(found[0], axis=0), wanted[[0, 1, 2]], rtol=1e-6
    )


@pytest.mark.parametrize(
    "rows, match",
    [
        (np.zeros((0, 3), np.int32), "recording 0 holds no event"),
        (np.array([[0, 8, 0]], np.int32), "column 1 of recording 0 is 8"),
        (np.array([[0, 0, 9]], np.int32), "column 2 of recording 0 is 9"),
    ],
)
def test_bad_events_are_named(rows, match):
    with pytest.raises(UsageError, match=match):
        clouds.of_events(clouds.draw_keys("x", 1), [rows], size=(8, 8))


def test_keys_are_a_prefix_and_differ():
    few, many = (clouds.draw_keys("name", n) for n in (3, 5))
    data = jax.random.key_data
    np.testing.assert_array_equal(data(few), data(many)[:3])
    other = data(clouds.draw_keys("other", 5))
    assert len(np.unique(np.concatenate([data(many), other]), axis=0)) == 10


def test_rows_are_drawn_evenly():
    idx = clouds.of_rows(clouds.draw_keys("x", 2), [4, 1000], 8000)
    assert idx.shape == (2, 8000) and not idx.min() and idx[1].max() < 1000
    counts = np.bincount(idx[0], minlength=4)
    # Binomial(8000, 1/4): standard deviation 38.7, five of them.
    assert counts.shape == (4,) and np.abs(counts - 2000).max() < 194


def test_classes_take_turns():
    y = np.array([2, 0, 0, 0, 1, 2])
    order = clouds.in_turn(y)
    assert order.tolist() == [1, 4, 0, 2, 5, 3]
    assert clouds.turns(y).tolist() == [0, 0, 1, 2, 0, 1]


def test_categories_are_one_hot():
    x = clouds.with_category(
        np.zeros((2, 5, 3), np.float32), np.array([2, 0]), 3
    )
    assert x.shape == (2, 5, 6) and x.dtype == np.float32
    assert (x[0, :, 3:] == [0, 0, 1]).all() and (x[1, :, 3:] == [1, 0, 0]).all()
