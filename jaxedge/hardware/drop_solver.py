"""The iteration behind `wires.iterate`, and its adjoint.

A cell gets the voltage of its driver less what the wires drop, and that is a
sum over the currents of its lines, Z i, with Z symmetric and positive: cells
share the segments between them and their driver or ground. With i = sqrt(G) w,

    (1 + sqrt(G) Z sqrt(G)) w = sqrt(G) V.

The eigenvalues begin at 1 and grow with what the wires take of the voltage, so
conjugate gradients need few steps, and lose no digits to wires that conduct
thousands of times better than cells. Z is applied by running sums.

Letters: R rows (word lines), C columns (bit lines), B vectors.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Vectors of a block: their nodes should stay in the caches of a CPU.
BLOCK = 8


def line_currents(g, v, word, bit, tolerance, corrections: int, steps: int):
    """Currents of an array, with gradients.

    Args:
        g: conductances, S, [R, C].
        v: voltages of the drivers, V, [B, R].
        word: resistance of a segment of a word line, ohm.
        bit: of a segment of a bit line.
        tolerance: largest last change of a current, relative to the largest of
            its vector.
        corrections: at most so many.
        steps: conjugate gradient steps of one correction, at most.

    Returns:
        Currents [B, C] and (largest relative change, steps in all).
    """
    blocks = -(-len(v) // BLOCK)
    pad = ((0, blocks * BLOCK - len(v)), (0, 0))
    v_blocks = jnp.pad(v, pad).reshape(blocks, BLOCK, -1)
    current, (change, used) = jax.lax.map(
        lambda v: _block(g, v, word, bit, tolerance, corrections, steps),
        v_blocks,
    )
    current = current.reshape(-1, g.shape[1])[: len(v)]
    return current, (jnp.max(change), jnp.sum(used))


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _block(g, v, word, bit, tolerance, corrections, steps):
    return _forward(g, v, word, bit, tolerance, corrections, steps)[0]


def _forward(g, v, word, bit, tolerance, corrections, steps):
    drive = jnp.broadcast_to(v.T[:, None], (*g.shape, len(v)))
    w, change, used = _solve(g, drive, word, bit, tolerance, corrections, steps)
    saved = g, w, drive, word, bit, tolerance
    return (_grounds(g, w), (change, used)), saved


def _backward(corrections, steps, saved, slopes):
    """The same network with the slopes as voltages of whole columns."""
    g, w, drive, word, bit, tolerance = saved
    slope = jnp.broadcast_to(slopes[0].T[None], drive.shape)
    a, _, _ = _solve(g, slope, word, bit, tolerance, corrections, steps)
    root = jnp.sqrt(g)[..., None]
    i, j = root * w, root * a
    along, down = _word_sums(i), _bit_sums(i)
    volts = drive - word * along - bit * down
    back = slope - word * _word_sums(j) - bit * _bit_sums(j)
    return (
        jnp.sum(volts * back, -1),
        jnp.sum(j, 1).T,
        -jnp.sum(j * along),
        -jnp.sum(j * down),
        jnp.zeros_like(tolerance),
    )


_block.defvjp(_forward, _backward)


def _solve(g, drive, word, bit, tolerance, corrections, steps):
    """Scaled currents w, the last change of the outputs, steps in all."""
    root = jnp.sqrt(g)[..., None]

    def apply(w):
        i = root * w
        return w + root * (word * _word_sums(i) + bit * _bit_sums(i))

    right = root * drive

    def go(state):
        _, change, _, count = state
        return (count < corrections) & (change > tolerance)

    def step(state):
        w, _, used, count = state
        # The first comes near the tolerance, others say how near it was.
        share = jnp.where(count == 0, 0.1 * tolerance, 0.1)
        more, n = _gradients(apply, right - apply(w), share, steps)
        before, after = _grounds(g, w), _grounds(g, w + more)
        largest = jnp.max(jnp.abs(after), 1)
        moved = jnp.max(jnp.abs(after - before), 1)
        change = jnp.max(moved / jnp.where(largest > 0, largest, 1))
        return w + more, change, used + n, count + 1

    start = (
        jnp.zeros_like(right),
        jnp.asarray(jnp.inf, g.dtype),
        jnp.int32(0),
        jnp.int32(0),
    )
    w, change, used, _ = jax.lax.while_loop(go, step, start)
    return w, change, used


def _gradients(apply, right, share, steps):
    """Conjugate gradients until residuals have shrunk to a share."""
    first = _dot(right, right)

    def go(state):
        _, _, _, rho, step = state
        return (step < steps) & jnp.any(rho > share**2 * first)

    def step(state):
        x, residual, p, rho, i = state
        q = apply(p)
        alpha = _ratio(rho, _dot(p, q))
        x, residual = x + alpha * p, residual - alpha * q
        new = _dot(residual, residual)
        return x, residual, residual + _ratio(new, rho) * p, new, i + 1

    zero = jnp.zeros_like(right)
    start: Any = (zero, right, right, first, jnp.int32(0))
    x, _, _, _, used = jax.lax.while_loop(go, step, start)
    return x, used


def _dot(a, b):
    """Scalar products of the vectors, [1, 1, B]."""
    # A sum over rows that fill vector instructions, which few vectors do not.
    parts = jnp.reshape(a * b, (a.shape[0], -1))
    sums = jnp.ones(len(parts), a.dtype) @ parts
    return jnp.sum(sums.reshape(1, *a.shape[1:]), 1, keepdims=True)


def _ratio(a, b):
    """a / b, 0 where b is."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def _grounds(g, w):
    """Currents into the grounds, [B, C]."""
    return jnp.sum(jnp.sqrt(g)[..., None] * w, 0).T


def _word_sums(i):
    """sum_k (1 + min(c, k)) i_rk, what cells share on the way to a driver."""
    total, levers = _levers(jnp.swapaxes(i, 0, 1))
    segments = jnp.arange(1, len(levers) + 1, dtype=i.dtype)[:, None, None]
    return jnp.swapaxes(segments * total[None] - levers, 0, 1)


def _bit_sums(i):
    """sum_k (R - max(r, k)) i_kc, what they share on the way to a ground."""
    total, levers = _levers(i)
    return (levers[-1] + total)[None] - levers


def _levers(a):
    """The sum of all rows, and sum_{k<r} (r - k) a_k for each row r.

    A scan, which reads every row once.
    """

    def add(sums, row):
        total, lever = sums
        lever = lever + total
        return (total + row, lever), lever

    zero = jnp.zeros_like(a[0])
    (total, _), levers = jax.lax.scan(add, (zero, zero), a)
    return total, levers
