"""Tests of chip_map: a chip is its key, whatever the mode, block and n."""

import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.core.keys import chip_keys
from jaxedge.run import chips
from jaxedge.run.chips import chip_map


class Drawn(NamedTuple):
    """A result with structure: a dict and a tuple within a NamedTuple."""

    named: Any
    pair: Any


def draw(key):
    bits = jax.random.bits(key, (3, 5))
    normal = jax.random.normal(key, (3, 5))
    return Drawn({"normal": normal}, (bits, bits[0, 0] % 2 == 1))


def noisy(key, x_BxI, w_IxO, std):
    """Draws, and reductions that may be added up in another order."""
    drawn = draw(key)
    y_BxO = x_BxI @ (w_IxO + std * drawn.named["normal"])
    return drawn, {"mean": y_BxO.mean(), "std": y_BxO.std(), "y": y_BxO}


def heavy(key):
    """One number from a million: what a chip needs is not what it leaves."""
    return jnp.sort(jax.random.uniform(key, (2**20,)))[7]


def loop(f, keys, *args):
    one = jax.jit(f)
    results = [one(key, *args) for key in keys]
    return jax.tree.map(lambda *rows: np.stack(rows), *results)


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    return x, rng.normal(size=(3, 5)).astype(np.float32)


WAYS = [
    ("auto", None),
    ("map", None),
    ("map", 3),
    ("vmap", None),
    ("vmap", 1),
    ("vmap", 2),
    ("vmap", 3),
    ("vmap", 100),
]


def test_there_are_two_devices():
    # Else nothing below tells anything about sharding.
    assert len(jax.devices()) == 2


@pytest.mark.parametrize(
    ("n", "mode", "block"),
    [(7, *way) for way in WAYS]
    + [(n, mode, None) for n in (1, 8) for mode in ("map", "vmap")],
)
def test_a_map_is_a_loop(key, numbers, n, mode, block):
    keys, args = chip_keys(key, n), (*numbers, 0.5)
    drawn, reduced = chip_map(noisy, keys, args=args, mode=mode, block=block)
    expected_drawn, expected_reduced = loop(noisy, keys, *args)
    assert isinstance(drawn, Drawn)
    jax.tree.map(np.testing.assert_array_equal, drawn, expected_drawn)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        reduced,
        expected_reduced,
    )


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_chip_is_its_key(key, mode):
    keys = chip_keys(key, 9)
    many = chip_map(draw, keys, mode=mode).named["normal"]
    few = chip_map(draw, chip_keys(key, 3), mode=mode).named["normal"]
    np.testing.assert_array_equal(few, many[:3])
    back = chip_map(draw, keys[::-1], mode=mode).named["normal"]
    np.testing.assert_array_equal(back, many[::-1])
    assert len(np.unique(many)) == many.size


def test_results_lie_on_every_device(key):
    out = chip_map(draw, chip_keys(key, 8))
    assert len(out.named["normal"].sharding.device_set) == 2


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_swept_numbers_compile_once(key, numbers, compilations, mode):
    def sweep(seed, std):
        keys = chip_keys(jax.random.key(seed), 6)
        return chip_map(noisy, keys, args=(*numbers, std), mode=mode)[1]["std"]

    low = sweep(0, 0.1)
    with compilations() as names:
        high, other = sweep(0, 0.9), sweep(1, 0.1)
    assert not names
    assert (np.asarray(high) > np.asarray(low)).all()
    assert not np.array_equal(other, low)


def test_arguments_may_be_pytrees(key):
    def f(key, tree):
        return tree["a"] + tree["b"][0] * jax.random.normal(key)

    keys = chip_keys(key, 3)
    out = chip_map(f, keys, args=({"a": 1.0, "b": (2.0,)},))
    expected = 1 + 2 * loop(jax.random.normal, keys)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def memory(f, n, block):
    """What the compiled program of `chip_map` needs for `n` chips."""
    mesh = jax.make_mesh((2,), ("chip",), (jax.sharding.AxisType.Auto,))
    keys = jax.eval_shape(lambda: chip_keys(jax.random.key(0), n))
    lowered = chips._map.lower(keys, (), f=f, block=block, mesh=mesh)
    return lowered.compile().memory_analysis()


@pytest.mark.parametrize("block", [None, 2])
def test_memory_does_not_grow_with_chips(block):
    few, many = memory(heavy, 8, block), memory(heavy, 4096, block)
    # 4 bytes a result and 8 a key; the loop may hold both once more.
    grown = 2 * (4 + 8) * (4096 - 8)
    assert few.temp_size_in_bytes > 2**20  # the draws of a chip are in it
    assert many.temp_size_in_bytes <= few.temp_size_in_bytes + grown
    assert many.output_size_in_bytes <= 4 * 4096


def test_the_chosen_block_fits_its_share_of_memory(key):
    # A chip of `heavy` needs 4 MiB or more of the 256 MiB.
    assert 1 <= chips._block(heavy, key, ()) <= 64
    assert chips._block(draw, key, ()) > 1000


def test_the_first_key_of_a_wafer_is_a_wafer_of_one(key):
    data = jax.random.key_data(chip_keys(key, 5))
    one = jax.random.key_data(chip_keys(key, 1))
    np.testing.assert_array_equal(data[:1], one)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (np.zeros((3, 2), np.uint32), "must come from jax.random.key"),
        (jnp.zeros(3), "must come from jax.random.key, got .* float32"),
        (None, "must come from jax.random.key, got NoneType"),
        ([1, 2], "must come from jax.random.key, got list"),
    ],
)
def test_what_is_no_key_is_refused(keys, message):
    with pytest.raises(checks.UsageError, match=message):
        chip_map(draw, keys)


@pytest.mark.parametrize("shape", [(), (2, 2), (0,)])
def test_keys_of_another_shape_are_refused(key, shape):
    keys = jax.random.split(key, 4)[: int(np.prod(shape))].reshape(shape)
    with pytest.raises(checks.UsageError, match=r"shape \[n\].*chip_keys"):
        chip_map(draw, keys)


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_generators_without_vmap_are_refused(kind):
    keys = jax.random.split(jax.random.key(0, impl=kind), 3)
    with pytest.raises(checks.UsageError, match="threefry"):
        chip_map(draw, keys)


def test_an_unknown_mode_is_refused(key):
    with pytest.raises(checks.UsageError, match="'vmpa'.*'vmap'"):
        chip_map(draw, chip_keys(key, 2), mode="vmpa")


@pytest.mark.parametrize("block", [0, -3, 2.5, "2", True])
def test_a_bad_block_is_refused(key, block):
    with pytest.raises(checks.UsageError, match=f"block.*{block}"):
        chip_map(draw, chip_keys(key, 2), mode="vmap", block=block)


@pytest.mark.parametrize("n", [0, -1])
def test_a_wafer_has_chips(key, n):
    with pytest.raises(checks.UsageError, match=f"number of chips is {n}"):
        chip_keys(key, n)


SPREAD = """
import os
import jax
from jaxedge.run import spread_over_cores
if {late}: jax.numpy.zeros(1)
spread_over_cores()
print(len(jax.devices()), len(os.sched_getaffinity(0)))
"""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("asked", [None, 3])
def test_every_core_is_a_device_unless_the_user_says_how_many(late, asked):
    env = dict(os.environ, JAX_PLATFORMS="cpu")
    env.pop("JAX_NUM_CPU_DEVICES", None)
    if asked:
        env["JAX_NUM_CPU_DEVICES"] = str(asked)
    done = subprocess.run(
        [sys.executable, "-c", SPREAD.format(late=late)],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    devices, cores = map(int, done.stdout.split())
    assert devices == (asked or (1 if late else cores))
