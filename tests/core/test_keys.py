import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge.core import keys

# The check value of CRC-32, as every table of CRC parameters gives it.
CHECK_NAME, CHECK_VALUE = "123456789", 0xCBF43926


def bits(key):
    return np.asarray(jax.random.key_data(key))


def test_the_name_enters_by_its_crc32(key):
    by_hand = jax.random.fold_in(key, CHECK_VALUE)
    np.testing.assert_array_equal(
        bits(core.stream(key, CHECK_NAME)), bits(by_hand)
    )
    np.testing.assert_array_equal(
        bits(core.stream(key, CHECK_NAME, 7)),
        bits(jax.random.fold_in(by_hand, 7)),
    )


def test_a_stream_is_the_same_in_another_process(key):
    code = (
        "import jax; from jaxedge import core;"
        "print(jax.random.key_data(core.stream(jax.random.key(0), 'a/b', 3)))"
    )
    # Python salts its own hash of strings anew in every process.
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert printed == str(jax.random.key_data(core.stream(key, "a/b", 3)))


def test_names_and_steps_make_different_streams(key):
    streams = [core.stream(key, name) for name in ("", "a", "b", "ab", "a/b")]
    streams += [core.stream(key, "a", step) for step in range(5)]
    streams += [core.stream(jax.random.key(1), "a"), key]
    assert len({tuple(bits(s)) for s in streams}) == len(streams)


def test_a_stream_takes_a_traced_key_and_step(key):
    steps = jnp.arange(4)
    mapped = jax.jit(jax.vmap(lambda s: core.stream(key, "a", s)))(steps)
    for step in range(4):
        np.testing.assert_array_equal(
            bits(mapped[step]), bits(core.stream(key, "a", step))
        )


@pytest.mark.parametrize("n", [1, 3, 4, 7])
def test_chips_are_a_prefix_of_more_chips(key, n):
    np.testing.assert_array_equal(
        bits(core.chip_keys(key, n)), bits(core.chip_keys(key, 8))[:n]
    )


def test_chips_differ(key):
    chips = bits(core.chip_keys(key, 1000))
    assert len(np.unique(chips, axis=0)) == 1000


@pytest.mark.parametrize("n", [0, -3, 2.5, True])
def test_no_chips_are_refused(key, n):
    with pytest.raises(core.UsageError, match=f"number of chips .*{n}"):
        core.chip_keys(key, n)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_generators_that_depend_on_the_batch_are_refused(impl):
    with pytest.raises(core.UsageError, match="use jax.random.key"):
        core.chip_keys(jax.random.key(0, impl=impl), 2)


@pytest.mark.parametrize(
    "not_a_key", [0, None, jnp.zeros(2, jnp.uint32), "key"], ids=str
)
def test_what_is_no_key_is_refused(not_a_key):
    with pytest.raises(core.UsageError, match="must come from jax.random.key"):
        core.chip_keys(not_a_key, 2)


def test_check_key_takes_keys_and_tracers(key):
    keys.check_key(key)
    keys.check_key(core.chip_keys(key, 2))

    def checked(k):
        keys.check_key(k)
        return jax.random.key_data(k)

    np.testing.assert_array_equal(jax.jit(checked)(key), bits(key))


# Generators over the same streams.


def test_the_twin_of_a_key_draws_mirrored_numbers(key):
    twin = core.mirror(key)
    u, v = (jax.random.uniform(k, (1000,)) for k in (key, twin))
    # The largest number below 1 is 1 - 2^-23.
    np.testing.assert_allclose(u + v, 1 - 2.0**-23, rtol=0, atol=1e-7)
    z, y = (jax.random.normal(k, (1000,)) for k in (key, twin))
    np.testing.assert_allclose(z, -y, rtol=1e-3, atol=1e-5)


def test_streams_of_the_twin_are_twins_of_the_streams(key):
    one = core.stream(core.mirror(key), "a", 3)
    two = core.mirror(core.stream(key, "a", 3))
    np.testing.assert_array_equal(bits(one), bits(two))
    assert one.dtype == two.dtype != key.dtype
    split = core.chip_keys(core.mirror(key), 2)
    np.testing.assert_array_equal(bits(split), bits(core.chip_keys(key, 2)))


def test_the_twin_of_the_twin_is_the_key(key):
    back = core.mirror(core.mirror(key))
    assert back.dtype == key.dtype
    np.testing.assert_array_equal(bits(back), bits(key))


def test_twins_are_the_same_in_a_batch(key):
    split = core.chip_keys(key, 3)
    draw = lambda k: jax.random.normal(core.mirror(k), (5,))  # noqa: E731
    mapped = jax.jit(jax.vmap(draw))(split)
    for i in range(3):
        np.testing.assert_array_equal(mapped[i], draw(split[i]))


@pytest.mark.parametrize("n", [1, 2, 64, 100])
def test_numbers_of_a_lattice_lie_evenly(key, n):
    u = np.asarray(jax.random.uniform(keys.lattice(key), (n,)), np.float64)
    points = 2 ** max(n - 1, 1).bit_length()
    cells = np.floor((u - u[0]) % 1 * points + 0.5) % points
    assert len(np.unique(cells)) == n  # One point a cell of width 1 / points.


def test_a_single_number_of_a_lattice_is_uniform(key):
    split = keys.lattice(core.chip_keys(key, 4000))
    u = np.asarray(jax.vmap(lambda k: jax.random.uniform(k, (8,)))(split))[:, 5]
    # 4,000 numbers: the Kolmogorov-Smirnov distance is above .031 once in 1000.
    distance = np.abs(np.sort(u) - (np.arange(4000) + 0.5) / 4000).max()
    assert distance < 0.031


def test_streams_of_a_lattice_are_ordered_apart(key):
    x, y = (
        jax.random.normal(core.stream(keys.lattice(key), name), (4096,))
        for name in "ab"
    )
    # Independent numbers correlate by 1/64; evenly laid ones do not by more.
    assert abs(np.corrcoef(x, y)[0, 1]) < 5 / 64


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 500), (0,)])
def test_an_unrolled_key_draws_the_numbers_of_jax(key, shape):
    quick = keys.unrolled(key)
    assert quick.dtype != key.dtype
    for draw in (jax.random.bits, jax.random.uniform, jax.random.normal):
        np.testing.assert_array_equal(draw(quick, shape), draw(key, shape))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_an_unrolled_key_draws_words_of_every_width(key, dtype):
    ours = jax.random.bits(keys.unrolled(key), (9,), dtype)
    np.testing.assert_array_equal(ours, jax.random.bits(key, (9,), dtype))


def test_unrolled_keys_of_a_batch_draw_each_their_own(key):
    split = core.chip_keys(key, 3)
    draw = lambda k: jax.random.bits(keys.unrolled(k), (5,))  # noqa: E731
    mapped = jax.jit(jax.vmap(draw))(split)
    stock = jax.vmap(lambda k: jax.random.bits(k, (5,)))(split)
    np.testing.assert_array_equal(mapped, stock)


@pytest.mark.parametrize("other", [core.mirror, keys.lattice])
def test_twins_and_lattices_stay_what_they_are(key, other):
    assert keys.unrolled(other(key)).dtype == other(key).dtype
    once = keys.unrolled(key)
    assert keys.unrolled(once).dtype == once.dtype


def test_raw_keys_have_no_twin():
    with pytest.raises(core.UsageError, match=r"jax\.random\.key"):
        core.mirror(jax.random.PRNGKey(0))
