"""The de-correlation of deep and radiomic features (RIDL, arXiv:2308.06933).

A network that sees radiomic features beside its own learns nothing new by
repeating them. The loss is the mean absolute product of the two kinds of
features over a bank of the last examples, as few fit in a batch of volumes.

Letters: B rows of a bank, N rows, F deep features, G radiomic features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks

# Added to the standard deviations over the bank (ridl 4).
EPS = 1e-7


class Bank(NamedTuple):
    """The features of the last examples, the newest first; see `push`.

    Attributes:
        deep_BxF: what the network made of them.
        radiomic_BxG: their radiomic features.
        ages_B: int32, how many pushes ago they came: 0 for the last one.
        filled_B: bool, whether a row holds an example yet.
    """

    deep_BxF: jax.Array
    radiomic_BxG: jax.Array
    ages_B: jax.Array
    filled_B: jax.Array


def empty(
    rows: int,
    deep: int,
    radiomic: int,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Bank:
    """A bank without examples.

    Args:
        rows: B, at least 2; RIDL has 25.
        deep: F.
        radiomic: G.
        dtype: of the features, floating.

    Raises:
        UsageError: for numbers out of range.
    """
    checks.whole("rows", rows, 2)
    checks.whole("deep", deep, 1)
    checks.whole("radiomic", radiomic, 1)
    return Bank(
        jnp.zeros((rows, deep), dtype),
        jnp.zeros((rows, radiomic), dtype),
        jnp.zeros(rows, jnp.int32),
        jnp.zeros(rows, bool),
    )


def push(bank: Bank, deep_NxF: ArrayLike, radiomic_NxG: ArrayLike) -> Bank:
    """Puts examples into a bank, where they replace the oldest rows.

    All of one push have age 0, so that a batch has a gradient as a whole.

    Args:
        bank: of B rows.
        deep_NxF: features of N <= B examples.
        radiomic_NxG: likewise.

    Returns:
        The bank, in its own dtypes.

    Raises:
        UsageError: for shapes that do not fit into the bank.
    """
    deep, radiomic = jnp.asarray(deep_NxF), jnp.asarray(radiomic_NxG)
    rows, n = len(bank.ages_B), deep.shape[0] if deep.ndim else 0
    for name, array, kept in (
        ("deep_NxF", deep, bank.deep_BxF),
        ("radiomic_NxG", radiomic, bank.radiomic_BxG),
    ):
        if array.shape != (n, *kept.shape[1:]) or not 0 < n <= rows:
            raise checks.UsageError(
                f"{name} has shape {array.shape}, but the bank needs 1 to"
                f" {rows} rows, as many of either kind, of {kept.shape[1]}"
                " features."
            )
    new = Bank(deep, radiomic, jnp.zeros(n, jnp.int32), jnp.ones(n, bool))
    aged = bank._replace(ages_B=bank.ages_B + bank.filled_B)
    return Bank(
        *(
            jnp.concatenate([first.astype(last.dtype), last[: rows - n]])
            for first, last in zip(new, aged, strict=True)
        )
    )


def loss(
    bank_deep_BxF: ArrayLike,
    bank_radiomic_BxG: ArrayLike,
    ages_B: ArrayLike,
    *,
    decay: ArrayLike = 0.99,
    squared: bool = False,
    standardise_radiomic: bool = False,
    standardise_deep: bool = True,
    valid_B: ArrayLike | None = None,
) -> jax.Array:
    """How far deep features repeat the radiomic ones, over a bank (ridl 4).

    With w = decay^age and deep features standardised over the bank,

        C = (w * (F - mean) / (sd + 1e-7))^T G / B,   [F, G],
        loss = mean |C| * B / sum w,

    sd with B - 1 below. Means and deviations have no gradient, and of the rows
    only those of age 0 have one. A deep feature that is constant over the bank
    adds nothing, but its slope is as steep as 1 / 1e-7 makes it.

    Args:
        bank_deep_BxF: features of B >= 2 examples.
        bank_radiomic_BxG: theirs; RIDL's are standardised by the statistics of
            the training set.
        ages_B: at least 0; 0 is the newest, and one row has it at least.
        decay: weight of a row that is one older, in (0, 1], a scalar.
        squared: C^2 in place of |C|, as an option of the released code.
        standardise_radiomic: whether G is standardised over the bank too.
        standardise_deep: whether F is.
        valid_B: bool, the rows that count, as `Bank.filled_B`; B is then their
            number. None counts all. Fewer than two have a loss of 0.

    Returns:
        A scalar, at least 0 and of at least float32.

    Raises:
        UsageError: for shapes that do not fit, fewer than 2 rows, NaN, a
            negative age, no (valid) row of age 0, or decay out of range.
    """
    deep = _features("bank_deep_BxF", bank_deep_BxF)
    radiomic = _features("bank_radiomic_BxG", bank_radiomic_BxG)
    _check_rows(bank_deep_BxF=deep, bank_radiomic_BxG=radiomic)
    ages, valid = _rows(ages_B, valid_B, len(deep))
    _check_decay(decay)

    newest = (ages == 0)[:, None]
    many = valid.sum() >= 2
    # Rows that do not count are 0, as NaN times a weight of 0 would stay.
    deep, radiomic = (
        jnp.where(
            valid[:, None],
            jnp.where(newest, array, jax.lax.stop_gradient(array)),
            0,
        )
        for array in (deep, radiomic)
    )
    if standardise_deep:
        deep = _standardised(deep, valid)
    if standardise_radiomic:
        radiomic = _standardised(radiomic, valid)
    weight = jnp.where(valid, decay ** ages.astype(deep.dtype), 0)
    total = jnp.where(many, weight.sum(), 1)
    # |C| B / sum w, in which B cancels.
    repeated = _product(deep * weight[:, None], radiomic) / total
    if squared:
        # C^2 B / sum w, in which it does not.
        repeated = repeated**2 * total / jnp.maximum(valid.sum(), 1)
    return jnp.where(many, jnp.abs(repeated).mean(), 0)


def correlation(deep_NxF: ArrayLike, radiomic_NxG: ArrayLike) -> jax.Array:
    """Pearson's correlation of every deep with every radiomic feature.

    Args:
        deep_NxF: features of N >= 2 examples.
        radiomic_NxG: theirs.

    Returns:
        [F, G], of at least float32; 0 for a feature that is constant.

    Raises:
        UsageError: for shapes that do not fit, fewer than 2 rows, or NaN.
    """
    deep = _features("deep_NxF", deep_NxF)
    radiomic = _features("radiomic_NxG", radiomic_NxG)
    _check_rows(deep_NxF=deep, radiomic_NxG=radiomic)
    return jnp.clip(_product(_unit(deep), _unit(radiomic)), -1, 1)


def mean_absolute_correlation(
    deep_NxF: ArrayLike, radiomic_NxG: ArrayLike
) -> jax.Array:
    """The mean of |`correlation`|, a scalar in [0, 1]; arguments as there."""
    return jnp.abs(correlation(deep_NxF, radiomic_NxG)).mean()


def _standardised(x_BxF: jax.Array, valid_B: jax.Array) -> jax.Array:
    """(x - mean) / (sd + EPS) of the rows that count, which are others 0."""
    x, n = x_BxF, valid_B.sum()
    # Twice, as the rounding error of a large mean may exceed the spread.
    for _ in range(2):
        mean = jax.lax.stop_gradient(x).sum(0, keepdims=True)
        x = jnp.where(valid_B[:, None], x - mean / jnp.maximum(n, 1), 0)
    square = (jax.lax.stop_gradient(x) ** 2).sum(0, keepdims=True)
    return x / (jnp.sqrt(square / jnp.maximum(n - 1, 1)) + EPS)


def _unit(x_NxF: jax.Array) -> jax.Array:
    """Centred columns of length 1, or 0 for one that is constant."""
    # From the first row, so that a constant is 0 without a rounding error.
    x = x_NxF - x_NxF[:1]
    x = x - x.mean(0, keepdims=True)
    # In units of the largest entry, whose square neither over- nor underflows;
    # the result does not depend on the unit, so neither does the gradient.
    size = jax.lax.stop_gradient(jnp.abs(x).max(0, keepdims=True))
    x = x / jnp.where(size > 0, size, 1)
    square = (x**2).sum(0, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a^T b for [B, F] and [B, G]."""
    # Accelerators would else drop to TensorFloat-32 or bfloat16.
    return jnp.matmul(a.T, b, precision=jax.lax.Precision.HIGHEST)


def _features(name: str, value: ArrayLike) -> jax.Array:
    """Features as an array of at least float32."""
    array = jnp.asarray(value)
    if array.ndim != 2 or not array.size or jnp.iscomplexobj(array):
        raise checks.UsageError(
            f"{name} is {array.dtype} of shape {array.shape}, but must be real"
            " numbers, rows of features."
        )
    if len(array) < 2:
        raise checks.UsageError(
            f"{name} has {len(array)} row, but a deviation needs 2 at least."
        )
    checks.finite(name, value)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _check_rows(**arrays: jax.Array) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        found = " and ".join(f"{k} has {len(a)}" for k, a in arrays.items())
        raise checks.UsageError(f"{found} rows; give one example a row.")


def _rows(
    ages: ArrayLike, valid: ArrayLike | None, rows: int
) -> tuple[jax.Array, jax.Array]:
    """Ages [B] and which rows count, [B] bool, of which one has age 0."""
    ages = jnp.asarray(ages)
    valid = jnp.ones(rows, bool) if valid is None else jnp.asarray(valid)
    if ages.shape != (rows,) or valid.shape != (rows,):
        raise checks.UsageError(
            f"ages_B has shape {ages.shape} and valid_B {valid.shape}, but the"
            f" bank has {rows} rows; give one of each a row."
        )
    if valid.dtype != bool:
        raise checks.UsageError(
            f"valid_B has dtype {valid.dtype}, but must be bool."
        )
    checks.in_range("ages_B", ages, 0)
    known = checks.concrete(ages) and checks.concrete(valid)
    if known and not (np.asarray(valid) & (np.asarray(ages) == 0)).any():
        raise checks.UsageError(
            "ages_B has no valid row of age 0, the only one with a gradient;"
            " push the newest examples first."
        )
    return ages, valid


def _check_decay(decay: ArrayLike) -> None:
    checks.in_range("decay", decay, 0, 1, open_low=True)
    if jnp.ndim(decay):
        raise checks.UsageError(
            f"decay has shape {jnp.shape(decay)}, but must be a scalar."
        )
