"""Point sets of event cameras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import points

E = 200


def recording(dtype=np.int64, polarity=False, seed=0):
    """Ascending times that are all different, in microseconds."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.choice(1_000_000, E, replace=False)).astype(dtype)
    x, y = rng.integers(0, 128, (2, E))
    return points.Events(t, x, y, rng.integers(0, 2, E) if polarity else None)


def rule(events, window=(0, np.inf)):
    """All points of a window (deplm 2), in float64."""
    t = np.asarray(events.t, np.float64)
    inside = (t >= window[0]) & (t < window[1])
    t = t[inside] - t[inside].min()
    x, y = (np.asarray(a)[inside] for a in (events.x, events.y))
    return np.stack([t / t.max(), x / 127, y / 127], -1)


def found_in(rows, table):
    """Index in the table of each row, which must be there."""
    apart = np.abs(np.asarray(rows)[:, None] - table[None]).max(-1)
    assert (apart.min(1) < 1e-6).all()
    return apart.argmin(1)


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.float32])
def test_all_events_are_the_rule_of_the_paper(key, dtype):
    events = recording(dtype)
    found = points.from_events(key, events, E)
    assert found.shape == (E, 3) and found.dtype == jnp.float32
    idx = found_in(found, rule(events))
    np.testing.assert_array_equal(np.sort(idx), np.arange(E))
    assert np.any(idx != np.arange(E))


def test_a_window_leaves_its_stop_out(key):
    events = recording()
    window = (int(events.t[20]), int(events.t[80]))
    found = points.from_events(key, events, 60, window=window)
    idx = found_in(found, rule(events, window))
    np.testing.assert_array_equal(np.sort(idx), np.arange(60))
    assert found[:, 0].min() == 0 and 1 - 1e-6 < found[:, 0].max() <= 1


def test_fewer_are_drawn_without_replacement(key):
    events = recording()
    found = points.from_events(key, events, 60)
    idx = found_in(found, rule(events))
    assert len({*idx}) == 60
    more = points.from_events(key, events, 100)
    np.testing.assert_array_equal(more[:60], found)
    other = points.from_events(jax.random.key(1), events, 60)
    assert np.any(np.asarray(other) != found)


def test_every_event_is_as_likely(key):
    events, n = recording(), 400
    keys = jax.random.split(key, n)
    found = jax.vmap(lambda k: points.from_events(k, events, 50))(keys)
    times = np.asarray(found[..., 0]).ravel()
    counts, _ = np.histogram(times, np.append(rule(events)[:, 0] - 1e-7, 2.0))
    # Each is drawn with chance 1/4: binomial of 400.
    assert counts.sum() == 50 * n
    assert np.abs(counts - n / 4).max() < 5 * np.sqrt(n * 3 / 16)


def test_a_short_window_repeats_what_it_has(key):
    events = recording()
    window = (int(events.t[0]), int(events.t[25]))
    found = points.from_events(key, events, 60, window=window, short="repeat")
    np.testing.assert_array_equal(found[25:50], found[:25])
    np.testing.assert_array_equal(found[50:], found[:10])
    idx = found_in(found[:25], rule(events, window))
    np.testing.assert_array_equal(np.sort(idx), np.arange(25))
    # More than the recording has.
    long = points.from_events(key, events, E + 5, short="repeat")
    np.testing.assert_array_equal(long[E:], long[:5])


def test_a_known_recording_is_checked_under_jit(key):
    events = recording()

    def f(n):
        return jax.jit(lambda k: points.from_events(k, events, n))(key)

    np.testing.assert_allclose(
        f(60), points.from_events(key, events, 60), atol=1e-6
    )
    with pytest.raises(UsageError, match="the window has 200 events"):
        f(E + 1)


def test_polarity_is_a_feature_where_it_is_given(key):
    plain, full = recording(), recording(polarity=True)
    found = points.from_events(key, full, 60)
    assert found.shape == (60, 4)
    np.testing.assert_array_equal(
        found[:, :3], points.from_events(key, plain, 60)
    )
    idx = found_in(found[:, :3], rule(plain))
    np.testing.assert_array_equal(found[:, 3], full.p[idx])


def test_long_recordings_keep_their_microseconds(key):
    """Ten minutes: float32 alone would merge 32 microseconds."""
    t = 600_000_000 + np.arange(64)
    found = points.from_events(key, points.Events(t, t % 128, t % 128), 64)
    np.testing.assert_allclose(
        np.sort(found[:, 0]), np.arange(64) / 63, rtol=1e-6
    )


def test_one_event_lies_at_time_zero(key):
    event = points.Events(np.array([7]), np.array([127]), np.array([0]))
    found = points.from_events(key, event, 2, short="repeat")
    np.testing.assert_array_equal(found, [[0, 1, 0]] * 2)


def test_windows_are_mapped_and_compile_once(key, compilations):
    events = jax.tree.map(jnp.asarray, recording(np.int32))

    @jax.jit
    def f(key, events, start):
        return points.from_events(
            key, events, 32, window=(start, start + 250_000), short="repeat"
        )

    starts = jnp.array([0, 250_000, 700_000])
    keys = jax.random.split(key, 3)
    mapped = jax.vmap(f, (0, None, 0))(keys, events, starts)
    for k, start, found in zip(keys, starts, mapped, strict=True):
        np.testing.assert_allclose(f(k, events, start), found, atol=1e-6)
        window = (int(start), int(start) + 250_000)
        eager = points.from_events(k, events, 32, window=window, short="repeat")
        np.testing.assert_allclose(eager, found, atol=1e-6)
    later = starts[1]
    with compilations() as names:
        f(keys[1], events, later)
    assert not [name for name in names if "f" == name]
    # No events: nothing that could be taken for a point.
    assert np.isnan(f(key, events, 5_000_000)).all()


def test_the_sensor_has_its_size(key):
    t = np.arange(3)
    events = points.Events(t, np.array([0, 17, 33]), np.array([0, 5, 10]))
    found = points.from_events(key, events, 3, size=(34, 11))
    expected = np.stack([t / 2, events.x / 33, events.y / 10], -1)
    np.testing.assert_array_equal(
        np.sort(found_in(found, expected)), np.arange(3)
    )


KEY = jax.random.key(0)
R = recording()
FAR = (2_000_000, 3_000_000)
MISUSES = {
    "n is 201, but the window has 200 events": lambda: points.from_events(
        KEY, R, 201
    ),
    "the window has 0 events": lambda: points.from_events(
        KEY, R, 3, window=FAR, short="repeat"
    ),
    "traced": lambda: jax.jit(
        lambda t: points.from_events(KEY, R._replace(t=t), 3)
    )(R.t),
    "unknown short 'pad'": lambda: points.from_events(KEY, R, 3, short="pad"),
    "window start is 5 and": lambda: points.from_events(
        KEY, R, 3, window=(5, 5)
    ),
    "x is 128": lambda: points.from_events(
        KEY, R._replace(x=R.x + 128 - R.x), 3
    ),
    "y is -1": lambda: points.from_events(KEY, R._replace(y=-1 - 0 * R.y), 3),
    "t is 2147483648": lambda: points.from_events(
        KEY, R._replace(t=0 * R.t + 2**31), 3
    ),
    "t holds 200 NaN": lambda: points.from_events(
        KEY, R._replace(t=R.t * np.nan), 3
    ),
    "events must agree": lambda: points.from_events(
        KEY, R._replace(y=R.y[:9]), 3
    ),
    r"events have shape \(0,\)": lambda: points.from_events(
        KEY, points.Events(R.t[:0], R.x[:0], R.y[:0]), 3
    ),
    "n is 0": lambda: points.from_events(KEY, R, 0),
    "size of the sensor along y is 1": lambda: points.from_events(
        KEY, R, 3, size=(128, 1)
    ),
    "key must come from": lambda: points.from_events(0, R, 3),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()


def test_bounds_of_whole_times_are_whole(key):
    for window in ((0.5, 9), (0, 2**40)):
        with pytest.raises(UsageError, match="the times are whole numbers"):
            points.from_events(key, R, 3, window=window)
    seconds = R._replace(t=(R.t / 1e6).astype(np.float32))
    found = points.from_events(key, seconds, 60, window=(0.0, 0.5))
    assert found[:, 0].min() >= 0 and found[:, 0].max() <= 1
