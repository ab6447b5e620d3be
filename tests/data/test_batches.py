import jax
import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError


def numbered(n):
    """Row i holds the number i, so a batch tells which rows it took."""
    x = np.repeat(np.arange(n, dtype=np.float32)[:, None], 3, 1)
    classes = tuple(str(i) for i in range(n))
    return data.make_source(
        x, np.arange(n), classes=classes, name="numbers", split="train"
    )


def rows(batches):
    return np.concatenate([batch.y for batch in batches])


def assert_well_formed(batch, size):
    assert batch.x.shape == (size, 3) and batch.x.dtype == np.float32
    assert batch.y.shape == (size,) and batch.y.dtype == np.int32
    assert batch.weight.shape == (size,) and batch.weight.dtype == np.float32
    np.testing.assert_array_equal(batch.x[:, 0], batch.y)


@pytest.mark.parametrize("n, size", [(12, 4), (12, 1), (12, 12), (5, 5)])
def test_epoch_takes_every_row_once(key, n, size):
    batches = list(data.epoch(numbered(n), size, key, 0))
    for batch in batches:
        assert_well_formed(batch, size)
        np.testing.assert_array_equal(batch.weight, 1)
    assert sorted(rows(batches)) == list(range(n))


def test_epoch_drops_the_last_partial_batch(key):
    batches = list(data.epoch(numbered(11), 4, key, 0))
    assert [len(batch.y) for batch in batches] == [4, 4]
    assert len(set(rows(batches))) == 8  # no row twice


def test_other_rows_are_dropped_in_other_epochs(key):
    dropped = [
        set(range(11)) - set(rows(data.epoch(numbered(11), 4, key, e)))
        for e in range(20)
    ]
    assert len(set.union(*dropped)) > 3


def test_epoch_is_a_function_of_key_and_epoch(key):
    # In 100 rows two random orders agree with a probability of 1 / 100!.
    def order(k, e):
        return rows(data.epoch(numbered(100), 10, k, e))

    np.testing.assert_array_equal(order(key, 3), order(key, 3))
    np.testing.assert_array_equal(order(key, 3), order(key, np.int64(3)))
    assert (order(key, 3) != order(key, 4)).any()
    assert (order(key, 3) != order(jax.random.key(1), 3)).any()
    assert (order(key, 0) != np.arange(100)).any()


def test_order_does_not_depend_on_the_batch_size(key):
    by_2, by_8 = (rows(data.epoch(numbered(24), n, key, 0)) for n in (2, 8))
    np.testing.assert_array_equal(by_2, by_8)


def test_order_is_stable_over_versions(key):
    # Stored from jax 0.10: a change would break the exact resume of old runs.
    stored = [1, 7, 0, 2, 6, 4, 5, 9, 8, 3]
    found = rows(data.epoch(numbered(10), 1, key, 0))
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize("n, size", [(12, 4), (11, 4), (1, 4), (3, 8)])
def test_in_order_pads_with_row_0_of_weight_0(n, size):
    batches = list(data.in_order(numbered(n), size))
    assert len(batches) == -(-n // size)
    for batch in batches:
        assert_well_formed(batch, size)
    weight = np.concatenate([batch.weight for batch in batches])
    padding = len(batches) * size - n
    np.testing.assert_array_equal(weight, [1] * n + [0] * padding)
    np.testing.assert_array_equal(rows(batches), [*range(n)] + [0] * padding)


def test_batches_do_not_share_memory_with_the_source(key):
    source = numbered(4)
    for batch in [*data.in_order(source, 2), *data.epoch(source, 2, key, 0)]:
        assert not np.shares_memory(batch.x, source.x)


@pytest.mark.parametrize("size", [0, -1, 7, 2.0, "4", None])
def test_bad_batch_size_of_an_epoch(key, size):
    # At the call: a generator would fail only when the loop starts.
    with pytest.raises(UsageError, match="batch_size"):
        data.epoch(numbered(6), size, key, 0)


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_bad_batch_size_in_order(size):
    with pytest.raises(UsageError, match="batch_size"):
        data.in_order(numbered(6), size)


@pytest.mark.parametrize("epoch", [-1, 2**31, 1.5])
def test_bad_epoch(key, epoch):
    with pytest.raises(UsageError, match="epoch"):
        data.epoch(numbered(6), 2, key, epoch)


def test_bad_key():
    with pytest.raises(UsageError, match="key"):
        data.epoch(numbered(6), 2, jax.random.PRNGKey(0), 0)
