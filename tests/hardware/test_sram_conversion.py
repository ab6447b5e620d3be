"""The in-SRAM macro against whole-number arithmetic, and its invariances."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxedge.core import checks
from jaxedge.hardware import sram

KEY = jax.random.key(0)
MODES = [(0, 27), (8, 14), (8, 7), (8, 4), (0, 7)]
# 1,048,576 conversions of 64 products.
VECTORS, ROWS, COLUMNS = 16384, 64, 64

modes = pytest.mark.parametrize("fold, lsb", MODES)


@pytest.fixture(scope="module")
def codes():
    """Random input and weight codes."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 16, (VECTORS, ROWS))
    return x, rng.integers(-7, 8, (ROWS, COLUMNS))


convert = jax.jit(sram.convert, static_argnames="path")


def counted(x, w, fold, lsb, swing):
    """The floor formula in whole numbers, with lines that clip."""
    products = (x - fold)[:, :, None] * w
    plus = np.minimum(np.maximum(products, 0).sum(1), swing)
    minus = np.minimum(np.maximum(-products, 0).sum(1), swing)
    # floor((S + 1/2) / LSB) of whole S is that of S / LSB.
    return np.clip((plus - minus) // lsb, -256, 255)


@modes
def test_t1_successive_approximation_is_the_floor(codes, fold, lsb):
    x, w = codes
    config = sram.Config(fold=fold, lsb_units=lsb)
    found = np.asarray(convert(x, w, config))
    assert (found == np.asarray(convert(x, w, config, path="floor"))).all()
    # Without its clipping of single lines: 0 to some tens in a million.
    fast = np.asarray(convert(x, w, config, path="fast"))
    assert (found != fast).mean() < 1e-4
    some = slice(None, None, 64)
    expected = counted(x[some], w, fold, lsb, 256 * lsb)
    assert (found[some] == expected).all()
    assert len(np.unique(found)) > 50


def test_lines_and_codes_clip():
    # All products positive: one line takes 64 * 15 * 7 units, 16 swings.
    x, w = np.full((1, 64), 15), np.full((64, 2), 7)
    w[:, 1] *= -1
    config = sram.Config(fold=0, lsb_units=2)
    assert convert(x, w, config).tolist() == [[255, -256]]
    # Both lines are full, so that nothing is left of their difference.
    w = np.where(np.arange(64)[:, None] < 33, 7, -7) * np.ones((1, 2), int)
    for path in ("exact", "floor"):
        assert convert(x, w, config, path=path).tolist() == [[0, 0]]
    columns = sram.columns.draw(None, jnp.asarray(w, float), config)
    read = jax.jit(sram.read)(jnp.asarray(x, float), columns, config, None)
    assert read.clipped.all()


@modes
@pytest.mark.parametrize("current", [0.7, 1.3])
def test_t2_the_current_changes_no_code(codes, fold, lsb, current):
    x, w = codes
    base = sram.Config(fold=fold, lsb_units=lsb, line_f="exponential")
    moved = dataclasses.replace(base, current=current)
    assert (convert(x, w, base) == convert(x, w, moved)).all()


@modes
@pytest.mark.parametrize("curve", [c for c in sram.CURVES if c != "linear"])
def test_t3_the_discharge_curve_changes_no_code(codes, fold, lsb, curve):
    x, w = codes
    base = sram.Config(fold=fold, lsb_units=lsb)
    bent = dataclasses.replace(base, line_f=curve)
    assert (convert(x, w, base) == convert(x, w, bent)).all()


@pytest.mark.parametrize(
    "changes, low, high",
    [
        # Off by .3 of a code: its root mean square is 11.5 (L = 14) codes.
        ({"current": 0.7}, 2.9, 13.7),
        ({"current": 1.3}, 2.9, 13.7),
        # sram_cim 5.1, T3, for L = 14: 4.40, 12.74 and 4.45.
        ({"line_f": "exponential"}, 4.2, 4.6),
        ({"line_f": "steep"}, 12.2, 13.2),
        ({"line_f": "root"}, 4.2, 4.7),
    ],
)
def test_an_external_converter_is_not_immune(codes, changes, low, high):
    x, w = codes
    base = sram.Config()
    rival = dataclasses.replace(base, adc="external", **changes)
    off = np.subtract(convert(x, w, rival), convert(x, w, base))
    assert low < np.sqrt(np.mean(off**2)) < high
    # Without curve and at its own current it is the embedded one.
    plain = dataclasses.replace(base, adc="external")
    assert (convert(x, w, plain) == convert(x, w, base)).all()


@pytest.mark.parametrize("fold", [0, 3, 8, 15])
def test_t4_folding_is_undone_digitally(codes, fold):
    x, w = codes
    # An LSB of one unit and codes enough for all sums: nothing is rounded.
    config = sram.Config(fold=fold, lsb_units=1, out_bits=14)
    value = sram.decode(convert(x, w, config), w, config)
    assert (np.asarray(value) == x @ w).all()


@modes
def test_t5_rows_may_be_permuted_and_signs_turned(codes, fold, lsb):
    x, w = codes
    config = sram.Config(fold=fold, lsb_units=lsb)
    found = convert(x, w, config)
    order = np.random.default_rng(1).permutation(ROWS)
    assert (found == convert(x[:, order], w[order], config)).all()
    # Every other row: x' and w with the other sign.
    turned = np.where(np.arange(ROWS) % 2, -1, 1)
    other_x = fold + (x - fold) * turned
    columns = sram.columns.draw(
        None, jnp.asarray(w * turned[:, None], jnp.float32), config
    )
    other = jax.jit(sram.read)(
        jnp.asarray(other_x, jnp.float32), columns, config, None
    )
    assert (found == other.code).all()


def test_twos_complement_and_signed_inputs(codes):
    x, w = codes[0][:256] - 8, codes[1]
    w = np.where(w == 7, -8, w)
    config = sram.Config(
        fold=0, lsb_units=14, x_signed=True, w_code="twos_complement"
    )
    # -1 is -8 + 7: both lines are discharged, and clip sooner.
    positive, negative = w & 7, np.where(w < 0, 8, 0)
    split = [np.maximum(s * x, 0) for s in (1, -1)]
    plus = split[0] @ positive + split[1] @ negative
    minus = split[1] @ positive + split[0] @ negative
    swing = 256 * 14
    difference = np.minimum(plus, swing) - np.minimum(minus, swing)
    found = sram.convert(x, w, config)
    assert (found == np.clip(difference // 14, -256, 255)).all()
    value = sram.decode(found, w, config)
    assert np.abs(np.asarray(value) - x @ w).max() <= 7


def test_a_chip_is_a_key_and_a_read_another(codes):
    x, w = codes[0][:512], codes[1]
    config = sram.Config()
    chip, read = jax.random.split(KEY)

    def run(chip_key=None, read_key=None, path="exact"):
        return np.asarray(
            convert(
                x, w, config, chip_key=chip_key, read_key=read_key, path=path
            )
        )

    static = run(chip)
    assert (static == run(chip)).all()
    assert (static != run(read)).any()
    for path in sram.PATHS:
        noisy = run(chip, read, path)
        assert (noisy == run(chip, read, path)).all()
        assert (noisy != run(chip, chip, path)).any()
        assert (noisy != static).any()
    # Static errors repeat: the mean over reads stays that of the chip.
    reads = jax.random.split(read, 64)
    mean = jax.vmap(lambda k: convert(x, w, config, chip_key=chip, read_key=k))
    off = np.asarray(mean(reads)).mean(0) - run()
    still = run(chip) - run()
    assert np.corrcoef(off.ravel(), still.ravel())[0, 1] > 0.7


@pytest.mark.parametrize("path", ["exact", "fast"])
def test_gradients_are_those_of_the_ideal_product_where_nothing_clips(path):
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.integers(0, 16, (8, 64)), jnp.float32)
    w = jnp.asarray(rng.integers(-7, 8, (64, 3)), jnp.float32)
    # The last column clips everywhere.
    w = w.at[:, 2].set(7.0)
    config = sram.Config(fold=0, lsb_units=7).without_errors()
    pull = jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(x, w):
        return jnp.sum(pull * sram.convert(x, w, config, path=path))

    of_x, of_w = slopes(x, w)
    kept = pull.at[:, 2].set(0.0)
    np.testing.assert_allclose(of_x, kept @ w.T / 7, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_w, x.T @ kept / 7, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"lsb_units": 3.5}, "lsb_units is 3.5.*threshold.*lsb_units=4"),
        ({"lsb_units": 0}, "lsb_units is 0"),
        ({"fold": 16}, r"fold is 16.*\[0, 15\]"),
        ({"fold": -1}, "fold is -1"),
        ({"fold": 2.5}, "fold is 2.5.*whole number"),
        ({"fold": 8, "x_signed": True}, "fold is 8, but signed inputs"),
        ({"sigma_cell": -0.1}, "sigma_cell is -0.1"),
        ({"sigma_cmp": float("nan")}, "sigma_cmp is nan"),
        ({"adc": "embeded"}, "Did you mean 'embedded'"),
        ({"line_f": "log"}, "unknown line_f 'log'"),
        ({"rows": 0}, "rows is 0"),
        ({"out_bits": 20}, "out_bits is 20"),
        ({"current": 0.0}, "current is 0.0"),
    ],
)
def test_bad_designs(fields, says):
    with pytest.raises(checks.UsageError, match=says):
        sram.convert(np.zeros((1, 2)), np.zeros((2, 1)), sram.Config(**fields))


@pytest.mark.parametrize(
    "x, w, says",
    [
        ([[16, 0]], [[1], [1]], r"x_int is 16, but must lie in \[0, 15\]"),
        ([[-1, 0]], [[1], [1]], "x_int is -1"),
        ([[1, 0]], [[-8], [1]], r"w_int is -8.*\[-7, 7\]"),
        ([[1.5, 0]], [[1], [1]], "x_int holds 1.5"),
        ([[float("nan"), 0]], [[1], [1]], "x_int is nan"),
        ([[1, 0, 0]], [[1], [1]], r"x_int \(1, 3\) and w_int \(2, 1\)"),
        (np.zeros((1, 65)), np.zeros((65, 1)), "65 rows, but the array has 64"),
    ],
)
def test_bad_codes(x, w, says):
    with pytest.raises(checks.UsageError, match=says):
        sram.convert(np.array(x), np.array(w), sram.Config())


def test_bad_path_and_key():
    x, w = np.zeros((1, 2)), np.zeros((2, 1))
    with pytest.raises(checks.UsageError, match="unknown path 'quick'"):
        sram.convert(x, w, sram.Config(), path="quick")
    with pytest.raises(checks.UsageError, match="jax.random.key"):
        sram.convert(x, w, sram.Config(), chip_key=jnp.zeros(2, jnp.uint32))


def probabilities(u, n, sigma):
    """Of all codes, by following every branch of the decisions, float64.

    Args:
        u: difference of the lines, LSB.
        n: steps.
        sigma: std of the comparator's noise at every decision, LSB.
    """
    found = {}

    def follow(u, k, code, p):
        high = stats.norm.cdf(u / sigma)
        if k == 0:
            found[code] = found.get(code, 0) + p * high
            found[code - 1] = found.get(code - 1, 0) + p * (1 - high)
            return
        step = 2 ** (k - 1)
        follow(u - step, k - 1, code + step, p * high)
        follow(u + step, k - 1, code - step, p * (1 - high))

    follow(u, n, 0, 1.0)
    return found


@pytest.mark.parametrize("sigma", [0.3, 0.8, 3.0])
@pytest.mark.parametrize("x", [1, 14, 37])
def test_one_number_decides_all_steps_as_many_would(x, sigma):
    """Codes of 5 bits, of 200,000 reads; each step with noise of its own."""
    config = sram.Config(
        fold=0, lsb_units=4, out_bits=6, x_bits=6, sigma_cmp=sigma
    )
    for name in ("cell", "pulse", "line", "off"):
        config = dataclasses.replace(config, **{f"sigma_{name}": 0.0})
    n = 200_000
    code = sram.convert(
        np.full((n, 1), x), [[1]], config, read_key=jax.random.key(x)
    )
    want = probabilities((x + 0.5) / 4, config.steps, sigma)
    assert sum(want.values()) == pytest.approx(1)
    counts = np.array([np.sum(np.asarray(code) == c) for c in want])
    assert counts.sum() == n
    expected = n * np.array(list(want.values()))
    # Codes that are met less than ten times are taken together.
    rare = expected < 10
    pair = [
        np.append(a[~rare], a[rare].sum() + 1e-9) for a in (counts, expected)
    ]
    chi = np.sum((pair[0] - pair[1]) ** 2 / pair[1])
    # One in ten thousand by chance, of nine cases.
    assert chi < stats.chi2.ppf(1 - 1e-4, len(pair[0]) - 1)
    # A wrong decision of the first step would be far off.
    np.testing.assert_allclose(
        np.mean(code), expected @ list(want) / n, atol=5 * 4 * sigma / n**0.5
    )
