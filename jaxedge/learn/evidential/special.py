"""Differences of gamma functions that keep their digits in float32.

psi(S) - psi(a), or ln Gamma(S) - sum ln Gamma(a), are small differences of
large numbers, of which float32 leaves few digits. Here the large parts cancel
on paper: an argument is raised by `_RAISE` through the recurrence, whose terms
mostly have one sign, and from there Stirling's series (DLMF 5.5, 5.11) leaves
remainders that fall like 1 / x or faster. Derivatives are closed forms too.

Arguments are positive and at least float32. Results are right to a few units
in the last place of float32 from 1e-6 to 1e9, and to about nine digits in
float64, where the series end. Below 1e-19 the squares of reciprocals overflow.
"""

import jax
import jax.numpy as jnp

# From here on three terms of a series leave an error below 3e-9.
_RAISE = 6


def trigamma(x: jax.Array) -> jax.Array:
    """psi'(x)."""
    return 1 / x + trigamma_excess(x)


def trigamma_excess(x: jax.Array) -> jax.Array:
    """psi'(x) - 1 / x > 0, which falls from 1 / x^2 to 1 / (2 x^2)."""
    # psi'(x) = psi'(x + 1) + 1 / x^2 less the same of 1 / x.
    head = sum(1 / ((x + k) ** 2 * (x + k + 1)) for k in range(_RAISE))
    return head + _trigamma_rest(x + _RAISE)


def digamma_excess(x: jax.Array) -> jax.Array:
    """psi(x + 1) - ln x > 0, which falls from -ln x to 1 / (2 x)."""
    y = x + _RAISE
    head = sum(1 / (x + k) for k in range(1, _RAISE))
    low = jnp.log(y / x) - head - 1 / (2 * y) - _digamma_rest(y)
    return jnp.where(x < _RAISE, low, 1 / (2 * x) - _digamma_rest(x))


@jax.custom_jvp
def digamma_difference(a: jax.Array, d: jax.Array) -> jax.Array:
    """psi(a + d) - psi(a), with all its digits however small d is.

    Args:
        a: positive, any shape.
        d: at least 0, same shape.

    Returns:
        At least 0, same shape.
    """
    b = a + d
    head = sum(d / ((a + k) * (b + k)) for k in range(_RAISE))
    a, b = a + _RAISE, b + _RAISE
    tail = jnp.log1p(d / a) + d / (2 * a * b)
    return head + tail + (_digamma_rest(a) - _digamma_rest(b))


@digamma_difference.defjvp
def _digamma_difference_jvp(primals, tangents):
    a, d = primals
    by_a, by_d = trigamma_difference(a, d), trigamma(a + d)
    return digamma_difference(a, d), by_a * tangents[0] + by_d * tangents[1]


def trigamma_difference(a: jax.Array, d: jax.Array) -> jax.Array:
    """psi'(a + d) - psi'(a) <= 0, as `digamma_difference`."""
    b = a + d
    total = 1 / (a * b)
    for k in range(_RAISE):
        # 1 / (x^2 (x + 1)) at a + k less that at b + k, over d.
        of_a, of_b = 1 / (a + k), 1 / (b + k)
        next_a, next_b = 1 / (a + k + 1), 1 / (b + k + 1)
        total += of_b * next_a * (of_a * (of_a + of_b) + of_b * next_b)
    return _trigamma_rest(b + _RAISE) - _trigamma_rest(a + _RAISE) - d * total


def bend(a: int, b: jax.Array, rate: jax.Array) -> jax.Array:
    """ln Gamma(a) - ln Gamma(b) + (b - a) (psi(b) - 1 + rate).

    At a rate of 1 that is the integral of (x - a) psi'(x) from a to b: at least
    0, and growing like b. In sums where the linear parts cancel, any rate gives
    the same, and one near a / b keeps the terms small.

    Args:
        a: at least 1.
        b: positive, any shape.
        rate: same shape.

    Returns:
        Same shape.
    """
    d = b - a
    raised_a, raised_b = a + _RAISE, b + _RAISE
    head = 0
    for k in range(_RAISE):
        # Each step of the recurrence takes its share of the logarithm of the
        # raised arguments along, lest both grow and cancel.
        ratio = (b + k) / raised_b * (raised_a / (a + k))
        away = d / raised_b * ((_RAISE - k) / (a + k))
        head += log(ratio, away) - away * (a + k) / (b + k)
    last = log(raised_b / raised_a, d / raised_a) - d / raised_b
    rest = _gamma_rest(jnp.full_like(b, raised_a)) - _gamma_rest(raised_b)
    tail = d * (rate - raised_a / raised_b) - (a - 0.5) * last
    return head + tail + (rest - d * _digamma_rest(raised_b))


def log(x: jax.Array, away: jax.Array) -> jax.Array:
    """ln x with all its digits near 1, given away = x - 1."""
    return jnp.where(x < 0.5, jnp.log(x), jnp.log1p(jnp.maximum(away, -0.5)))


def _trigamma_rest(x: jax.Array) -> jax.Array:
    """psi'(x) - 1 / x, for x of at least `_RAISE`."""
    v = 1 / x
    w = v * v
    return w * (1 / 2 + v * (1 / 6 - w * (1 / 30 - w / 42)))


def _digamma_rest(x: jax.Array) -> jax.Array:
    """ln x - 1 / (2 x) - psi(x), likewise."""
    w = 1 / (x * x)
    return w * (1 / 12 - w * (1 / 120 - w / 252))


def _gamma_rest(x: jax.Array) -> jax.Array:
    """ln Gamma(x) - (x - 1/2) ln x + x - ln(2 pi) / 2, likewise."""
    v = 1 / x
    w = v * v
    return v * (1 / 12 - w * (1 / 360 - w / 1260))
