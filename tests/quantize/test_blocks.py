"""Block formats against the OCP rule in float64, and their bytes."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.quantize import blocks, minifloat
from jaxedge.quantize.blocks import MXFP4, NVFP4, Blocks
from jaxedge.quantize.minifloat import Format

pytestmark = pytest.mark.usefixtures("compile_quickly")

KINDS = {
    name: blocks.NAMED[name] for name in ("mxfp4", "nvfp4", "mxfp6_e3m2")
} | {
    "e1m2, 8": Blocks(minifloat.E1M2, 8, "float32"),
    "e3m0, 5, e4m3": Blocks(minifloat.E3M0, 5, "e4m3"),
    "nvfp4, searched": NVFP4.searched,
}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
fake_quant = jax.jit(blocks.fake_quant, static_argnames="blocks")
pack = jax.jit(blocks.pack, static_argnames="blocks")


@pytest.fixture(scope="module")
def x():
    """Rows of very different sizes, and zeros, [6, 70]."""
    rng = np.random.default_rng(0)
    x = rng.standard_t(3, (6, 70)) * 2.0 ** rng.integers(-20, 9, (6, 1))
    x[1, :40] = 0
    return jnp.asarray(x, jnp.float32)


def same(a, b, kind):
    """Equal to the bit where scales are powers of two."""
    rtol = 0 if kind.scale == "e8m0" else 3e-7
    np.testing.assert_allclose(a, b, rtol=rtol)


def blockwise(x, size):
    return [
        (i, slice(at, min(at + size, x.shape[1])))
        for i in range(len(x))
        for at in range(0, x.shape[1], size)
    ]


def test_mxfp4_is_that_of_the_specification(x):
    """MX 1.0: X = 2^(floor(log2 max) - 2), elements of a peer's E2M1."""
    found = np.asarray(fake_quant(x, MXFP4))
    x = np.asarray(x, np.float64)
    for i, part in blockwise(x, 32):
        most = np.abs(x[i, part]).max()
        if most == 0:
            assert not found[i, part].any()
            continue
        scale = 2.0 ** (np.floor(np.log2(most)) - 2)
        element = (x[i, part] / scale).astype(ml_dtypes.float4_e2m1fn)
        np.testing.assert_array_equal(
            found[i, part], element.astype(np.float64) * scale
        )


def test_nvfp4_has_two_levels_of_scales(x):
    found = np.asarray(fake_quant(x, NVFP4), np.float64)
    x = np.asarray(x, np.float64)
    whole = np.abs(x).max() / (448 * 6)
    for i, part in blockwise(x, 16):
        share = np.float32(np.abs(x[i, part]).max() / 6 / whole)
        scale = share.astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * whole
        if scale == 0:
            assert not found[i, part].any()
            continue
        element = np.clip(x[i, part] / scale, -6, 6)
        want = element.astype(ml_dtypes.float4_e2m1fn).astype(np.float64)
        got = found[i, part] / scale
        # Scales of float32 may decide a tie otherwise.
        grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
        middle = (grid[1:] + grid[:-1]) / 2
        off = np.abs(np.abs(element)[:, None] - middle).min(1)
        np.testing.assert_allclose(got[off > 1e-5], want[off > 1e-5], rtol=1e-5)


@every
def test_bytes_hold_the_values(x, kind):
    packed = pack(x, kind)
    same(blocks.unpack(packed), fake_quant(x, kind), kind)
    assert packed.shape == x.shape
    count = -(-x.shape[-1] // kind.size)
    assert packed.scales.shape == (6, count)
    # Of values that are of the format already nothing changes.
    again = blocks.unpack(pack(blocks.unpack(packed), kind))
    if kind.scale != "e4m3":  # Whose scales are rounded to three bits.
        same(again, blocks.unpack(packed), kind)


def test_packed_weights_take_four_and_a_quarter_bits():
    w = jax.random.normal(jax.random.key(0), (64, 4096), jnp.bfloat16)
    packed = pack(w, MXFP4)
    assert packed.nbytes - 4 == w.size * 4.25 / 8
    assert MXFP4.bits_per_weight == 4.25 and NVFP4.bits_per_weight == 4.5
    assert blocks.unpack(packed).dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", [NVFP4, NVFP4.searched])
def test_a_second_format_takes_no_room(kind):
    w = jax.random.normal(jax.random.key(0), (16, 4096))
    packed = pack(w, kind)
    # Four bits a number and one byte for 16 of them, below one float32.
    assert packed.nbytes == w.size * 4.5 / 8 + 4
    assert kind.bits_per_weight == 4.5 and packed.scales.shape == (16, 256)


SEARCHED = {
    "mxfp4": MXFP4,
    "nvfp4": NVFP4,
    "e2m1, 8": Blocks(minifloat.E2M1, 8, "float32"),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("base", SEARCHED.values(), ids=SEARCHED)
def test_a_search_is_never_worse_block_by_block(base, weighted):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_t(4, (6, 70)), jnp.float32)
    power = np.exp(2 * rng.normal(size=x.shape[1])) if weighted else None
    importance = None if power is None else jnp.asarray(power, jnp.float32)
    plain, better = (
        np.float64(fake_quant(x, kind, importance))
        for kind in (base, base.searched)
    )
    power = np.ones(x.shape[1]) if power is None else power
    errors = []
    for i, part in blockwise(x, base.size):
        before, after = (
            np.sum(power[part] * (np.float64(x[i, part]) - y[i, part]) ** 2)
            for y in (plain, better)
        )
        assert after <= before * (1 + 1e-5)
        if before > 0:
            errors.append(after / before)
    # A power of two leaves little to choose.
    assert np.mean(errors) < (0.99 if base is MXFP4 else 0.9)


def test_a_second_format_is_told_by_a_sign():
    x = jax.random.t(jax.random.key(0), 4, (6, 70))
    kind = NVFP4.searched
    packed = pack(x, kind)
    scales = np.asarray(packed.scales)
    sign = scales >= 128
    assert 0.1 < sign.mean() < 0.9
    assert kind.other == minifloat.E1M2
    # By hand: nibbles, the grid of each format by its codes, float8, float32.
    codes = np.asarray(packed.codes)
    codes = np.stack([codes & 15, codes >> 4], -1).reshape(6, -1, kind.size)
    size = np.where(
        sign[..., None],
        np.array([0, 1, 2, 3, 4, 5, 6, 7])[codes % 8] / 7,
        np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])[codes % 8] / 6,
    )
    share = (scales & 127).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    largest = share * np.float64(packed.whole)
    value = np.where(codes < 8, size, -size) * largest[..., None]
    value = value.reshape(6, -1)[:, : x.shape[1]]
    np.testing.assert_allclose(blocks.unpack(packed), value, rtol=1e-6)
    # At most 15 values of either.
    assert len(np.unique(np.where(codes < 8, size, -size))) <= 2 * 15


def test_what_does_not_matter_is_not_clipped():
    """Candidates are as good as each other then."""
    x = jax.random.normal(jax.random.key(0), (2, 64))
    for kind in (MXFP4, NVFP4):
        found = fake_quant(x, kind.searched, jnp.zeros(64))
        np.testing.assert_array_equal(found, fake_quant(x, kind))


def test_the_bytes_themselves():
    x = jnp.array([[6.0, -0.5, 1.0, 0.0, 3.0]])
    packed = blocks.pack(x, Blocks(minifloat.E2M1, 4, "e8m0"))
    # Codes 7, 9, 2, 0 at a scale of 1; 3 is 6 at a scale of a half.
    np.testing.assert_array_equal(packed.codes, [[0x97, 0x02, 0x07, 0x00]])
    np.testing.assert_array_equal(packed.scales, [[127, 126]])


@every
def test_jit_and_vmap_are_an_eager_loop(x, kind, compilations):
    whole = fake_quant(x[0], kind)
    same(blocks.fake_quant(x[0], kind), whole, kind)
    rows = jax.vmap(lambda r: blocks.fake_quant(r, kind))(x)
    same(rows[0], whole, kind)
    with compilations() as names:
        fake_quant(x[1], kind)
    assert not names


def test_gradients_pass_straight_through(key):
    x = jax.random.normal(key, (6, 70))
    slope = jax.grad(lambda x: fake_quant(x, NVFP4).sum())(x)
    # The largest number of a block may lie beyond its rounded scale.
    np.testing.assert_array_equal(np.unique(slope), [0, 1])
    assert np.mean(np.asarray(slope) == 1) > 0.9
    inside = Blocks(minifloat.E1M2, 8, "float32")
    slope = jax.grad(lambda x: fake_quant(x, inside).sum())(x[:1])
    np.testing.assert_array_equal(slope, 1)


def test_gradients_pass_through_either_format(key):
    x = jax.random.normal(key, (6, 70))
    kind = NVFP4.searched
    slope = jax.grad(lambda x: fake_quant(x, kind).sum())(x)
    np.testing.assert_array_equal(np.unique(slope), [0, 1])
    # None where the number is beyond the largest code of its block.
    largest = np.abs(np.asarray(fake_quant(x, kind)))
    clipped = np.asarray(slope) == 0
    assert 0 < clipped.mean() < 0.1
    assert (np.abs(x)[clipped] > largest[clipped]).all()


@every
def test_what_is_no_number_stays_none(kind):
    x = jnp.ones((1, 2 * kind.size)).at[0, 1].set(jnp.nan)
    y = np.asarray(fake_quant(x, kind))
    assert np.isnan(y[0, : kind.size]).all()
    np.testing.assert_allclose(y[0, kind.size :], 1, rtol=0.1)
    x = jnp.ones((1, kind.size)).at[0, 0].set(jnp.inf)
    assert np.isnan(np.asarray(fake_quant(x, kind))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: blocks.of("mxfp5"), "'mxfp5'. Did you mean 'mxfp4'"),
        (
            lambda: blocks.fake_quant(jnp.ones(3), Blocks(minifloat.E2M1, 0)),
            "size is 0",
        ),
        (
            lambda: blocks.fake_quant(
                jnp.ones(3), Blocks(minifloat.E2M1, 2, "e8m1")
            ),
            "unknown scale 'e8m1'. Did you mean 'e8m0'",
        ),
        (lambda: blocks.fake_quant(jnp.ones(()), MXFP4), r"shape \(\)"),
        (lambda: blocks.pack(jnp.ones((2, 0)), MXFP4), "is not empty"),
        (lambda: blocks.pack(jnp.array([jnp.inf]), MXFP4), "infinite"),
        (
            lambda: MXFP4._replace(other=minifloat.E1M2).check(),
            "other is e1m2, but.*e4m3 in place of e8m0, and 4 bits",
        ),
        (lambda: NVFP4._replace(other=Format(1, 3)).check(), "other is e1m3"),
        (lambda: NVFP4._replace(tries=()).check(), "tries is empty"),
        (lambda: NVFP4._replace(tries=(1.0, 0.0)).check(), "tries is 0.0"),
        (
            lambda: blocks.fake_quant(jnp.ones((2, 3)), MXFP4, jnp.ones(2)),
            r"importance has shape \(2,\), but x \(2, 3\)",
        ),
        (
            lambda: blocks.pack(jnp.ones(2), MXFP4, jnp.array([1.0, -2])),
            "importance is -2",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()
