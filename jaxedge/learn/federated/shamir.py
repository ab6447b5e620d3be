"""Shamir's threshold sharing of words over a prime field, on the host.

A secret is the value at 0 of a random polynomial of degree threshold - 1; a
share is its value at another point (Shamir 1979, How to share a secret). Fewer
shares than the threshold tell nothing, as many tell all. Words of 16 bits are
shared one by one modulo the Mersenne prime 2^31 - 1, whose products fit into
64 bits: whole numbers throughout, no rounding.

Letters: S secrets of any shape, H holders, L limbs.
"""

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key

PRIME = 2**31 - 1
_LIMB = 16


def split(words: np.ndarray) -> np.ndarray:
    """Words uint32 [...] as limbs of 16 bits, int64 [..., 2], low first."""
    words = np.asarray(words, np.uint32)
    limbs = [words & (2**_LIMB - 1), words >> _LIMB]
    return np.stack(limbs, -1).astype(np.int64)


def join(limbs: np.ndarray) -> np.ndarray:
    """The words uint32 [...] of limbs [..., 2].

    Raises:
        UsageError: for a limb beyond 16 bits: the shares were no shares.
    """
    if np.any(limbs >> _LIMB):
        raise checks.UsageError(
            "the recovered secret is beyond its range, so some shares are not"
            " of one secret; do not use the sum."
        )
    return (limbs[..., 0] | limbs[..., 1] << _LIMB).astype(np.uint32)


def polynomial(coefficients: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values modulo the prime, int64 [H, ...].

    Args:
        coefficients: in [0, prime), int64 [degree + 1, ...], constant first.
        points: in [0, prime), [H].
    """
    points = np.asarray(points, np.int64)
    shape = points.shape + (1,) * (coefficients.ndim - 1)
    points = points.reshape(shape)
    value = np.zeros(points.shape[:1] + coefficients.shape[1:], np.int64)
    for coefficient in coefficients[::-1]:
        value = (value * points + coefficient) % PRIME
    return value


def share(
    key: jax.Array, secrets: np.ndarray, holders: int, threshold: int
) -> np.ndarray:
    """Shares of secrets for holders at the points 1 to H.

    Args:
        key: typed, shape []; consumed.
        secrets: in [0, prime), int64 [...].
        holders: H, below the prime.
        threshold: how many shares recover the secrets, in [1, H].

    Returns:
        int64 [H, ...] in [0, prime).

    Raises:
        UsageError: for numbers outside their range.
    """
    check_key(key)
    checks.whole("holders", holders, 1)
    checks.whole("threshold", threshold, 1)
    checks.in_range("threshold", threshold, 1, holders)
    checks.in_range("a secret", secrets, 0, PRIME - 1)
    secrets = np.asarray(secrets, np.int64)
    random = _uniform(key, (threshold - 1,) + secrets.shape)
    coefficients = np.concatenate([secrets[None], random])
    return polynomial(coefficients, np.arange(1, holders + 1))


def recover(
    shares: np.ndarray, points: np.ndarray, threshold: int
) -> np.ndarray:
    """The secrets, by Lagrange's interpolation at 0; on the host.

    Args:
        shares: int64 [H, ...], of at least `threshold` holders.
        points: of the holders, [H], distinct.
        threshold: as of `share`.

    Returns:
        int64 [...] in [0, prime).

    Raises:
        UsageError: for too few shares, a point twice, or more shares than are
            needed that do not lie on one polynomial.
    """
    points = np.asarray(points, np.int64)
    if len({*points.tolist()}) != points.size or points.size < threshold:
        raise checks.UsageError(
            f"shares of {points.size} points {points.tolist()} cannot recover a"
            f" secret; {threshold} distinct ones are needed."
        )
    used, known = points[:threshold], np.asarray(shares, np.int64)
    for point, value in zip(points[threshold:], known[threshold:], strict=True):
        if np.any(_interpolate(known[:threshold], used, int(point)) != value):
            raise checks.UsageError(
                f"the share of point {point} is not on the polynomial of the"
                " others; a holder sent a wrong share."
            )
    return _interpolate(known[:threshold], used, 0)


def _interpolate(shares: np.ndarray, points: np.ndarray, at: int) -> np.ndarray:
    total = np.zeros(shares.shape[1:], np.int64)
    places = points.tolist()
    for j, of in enumerate(places):
        above, below = 1, 1
        for i, other in enumerate(places):
            if i != j:
                above = above * (at - other) % PRIME
                below = below * (of - other) % PRIME
        weight = above * pow(below, -1, PRIME) % PRIME
        total = (total + weight * shares[j]) % PRIME
    return total


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers in [0, prime), int64: 31 bits, redrawn if the prime."""

    def draw(key):
        return np.asarray(jax.random.bits(key, shape)) >> 1

    words = draw(key).astype(np.int64)
    turn = 0
    while (outside := words == PRIME).any():
        turn += 1
        words[outside] = draw(jax.random.fold_in(key, turn))[outside]
    return words
