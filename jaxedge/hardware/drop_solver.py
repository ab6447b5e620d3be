"""The iteration behind `wires.iterate`, and its adjoint.

A cell gets the voltage of its driver less what the wires drop, and that is a
sum over the currents of its lines, Z i, with Z symmetric and positive: cells
share the segments between them and their driver or ground. So

    i + G Z i = G V.

Z is applied by running sums. What a line drops is mostly its slowest wave, and
the network with these waves for wires has a direct solution of the size of one
side of the array (Woodbury's identity). Chebyshev iteration corrects it (Saad,
Iterative Methods for Sparse Linear Systems, algorithm 12.1): the eigenvalues of
the true network are 1 to 1 + spread in terms of the approximate one, and a
bound of the spread costs little and says how fast corrections shrink. Residuals
are computed anew each time, so that rounding errors do not add up.

Letters: R rows (word lines), C columns (bit lines), B vectors, M and F the more
numerous lines and the others.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Vectors of a block: their nodes should stay in the caches of a CPU.
BLOCK = 8


class Network(NamedTuple):
    """Cells and wires, and the solution for the slowest waves.

    Attributes:
        g: conductances, S, [R, C].
        word: resistance of a segment of a word line, ohm.
        bit: of a segment of a bit line.
        along: wave of a word line, times the root of its drop, [C].
        down: wave of a bit line, [R].
        many: inverse of each of the waves of the more numerous lines, [M, 1].
        ties: what these waves take from those of the other lines, [M, F].
        few: inverse of the waves of the other lines, the many eliminated,
            [F, F].
        spread: bound of the spread of the eigenvalues, [].
    """

    g: jax.Array
    word: jax.Array
    bit: jax.Array
    along: jax.Array
    down: jax.Array
    many: jax.Array
    ties: jax.Array
    few: jax.Array
    spread: jax.Array


def line_currents(g, v, word, bit, tolerance, steps: int):
    """Currents of an array, with gradients.

    Args:
        g: conductances, S, [R, C].
        v: voltages of the drivers, V, [B, R].
        word: resistance of a segment of a word line, ohm.
        bit: of a segment of a bit line.
        tolerance: what further corrections may change a current, relative to
            the largest of its vector.
        steps: corrections of a block of vectors, at most.

    Returns:
        Currents [B, C] and (largest relative change to come, steps in all).
    """
    blocks = -(-len(v) // BLOCK)
    pad = ((0, blocks * BLOCK - len(v)), (0, 0))
    v_blocks = jnp.pad(v, pad).reshape(blocks, BLOCK, -1)
    network = prepare(*jax.lax.stop_gradient((g, word, bit)))
    current, (change, used) = jax.lax.map(
        lambda v: _block(g, v, word, bit, network, tolerance, steps), v_blocks
    )
    current = current.reshape(-1, g.shape[1])[: len(v)]
    return current, (jnp.max(change), jnp.sum(used))


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _block(g, v, word, bit, network, tolerance, steps):
    return _forward(g, v, word, bit, network, tolerance, steps)[0]


def _forward(g, v, word, bit, network, tolerance, steps):
    del g, word, bit  # They are in the network; here for their slopes.
    volts = v.T[:, None]
    i, out, change, used = _solve(network, volts, tolerance, steps)
    return (out.T, (change, used)), (network, i, volts, tolerance)


def _backward(steps, saved, slopes):
    """The same network with the slopes as voltages of whole columns."""
    network, i, volts, tolerance = saved
    slope = slopes[0].T[None]
    j, *_ = _solve(network, slope, tolerance, steps)
    word, bit = network.word, network.bit
    along, down = _word_sums(i), _bit_sums(i)
    reached = volts - word * along - bit * down
    back = slope - word * _word_sums(j) - bit * _bit_sums(j)
    return (
        jnp.sum(reached * back, -1),
        jnp.sum(j, 1).T,
        -jnp.sum(j * along),
        -jnp.sum(j * down),
        jax.tree.map(jnp.zeros_like, network),
        jnp.zeros_like(tolerance),
    )


_block.defvjp(_forward, _backward)


def _solve(network: Network, volts, tolerance, steps):
    """Chebyshev iteration.

    Args:
        volts: of the cells if wires dropped nothing, [R, 1, B] or [1, C, B].

    Returns:
        Currents of the cells [R, C, B] and of the grounds [C, B], the largest
        relative change to come, corrections made.
    """
    g = network.g[..., None]
    radius = network.spread / 2
    middle = 1 + radius

    def go(state):
        *_, change, count = state
        return (count < steps) & (change > tolerance)

    def step(state):
        i, out, last, shrink, _, count = state
        drop = network.word * _word_sums(i) + network.bit * _bit_sums(i)
        more = approximate(network, g * (volts - drop) - i)
        size = 2 * middle - radius * shrink
        more = 2 / size * more + radius / size * shrink * last
        moved, shrink = jnp.sum(more, 0), radius / size
        out = out + moved
        moved, largest = (jnp.max(jnp.abs(x), 0) for x in (moved, out))
        change = jnp.max(moved / jnp.where(largest > 0, largest, 1))
        # Later corrections shrink at least as fast as a geometric series.
        change = change * shrink / (1 - shrink)
        return i + more, out, more, shrink, change, count + 1

    first = approximate(network, g * volts) / middle
    out, unknown = jnp.sum(first, 0), jnp.asarray(jnp.inf, g.dtype)
    start = first, out, first, radius / middle, unknown, jnp.int32(0)
    i, out, _, _, change, used = jax.lax.while_loop(go, step, start)
    return i, out, change, used


def prepare(g, word, bit) -> Network:
    """Solves the network of the slowest waves, and bounds what they miss."""
    along, rest = _wave(g.shape[1], word)
    down, below = _wave(g.shape[0], bit)
    down, below = down[::-1], below[::-1, ::-1]  # The ground is at the bottom.
    # An eigenvalue is at most the root of the sum of the squares of all.
    spread = jnp.sqrt(jnp.max(jnp.sum(g @ rest**2 * g, 1)))
    spread += jnp.sqrt(jnp.max(jnp.sum(below**2 @ g * g, 0)))
    # Waves of parallel lines meet those of the crossing lines alone.
    many, few = 1 + g @ along**2, 1 + down**2 @ g
    cross = g * along[None] * down[:, None]
    if g.shape[0] < g.shape[1]:
        many, few, cross = few, many, cross.T
    ties = cross / many[:, None]
    few = jnp.linalg.inv(jnp.diag(few) - cross.T @ ties)
    many = 1 / many[:, None]
    return Network(g, word, bit, along, down, many, ties, few, spread)


def _wave(n, ohm):
    """Slowest wave of a line of n cells, [n], and what it misses, [n, n].

    Cells j and k = 1..n share min(j, k) segments. The largest eigenvalue of
    this matrix is 1 / (4 sin^2 a), with sin(2 a j), a = pi / (4 n + 2).
    """
    j = jnp.arange(1, n + 1, dtype=ohm.dtype)
    a = jnp.pi / (4 * n + 2)
    wave = jnp.sqrt(ohm / (2 * n + 1)) / jnp.sin(a) * jnp.sin(2 * a * j)
    shared = ohm * jnp.minimum(j[None], j[:, None])
    return wave, shared - jnp.outer(wave, wave)


def approximate(network: Network, s):
    """Solves (1 + G Z) i = s, [R, C, B], with the slowest waves for Z."""
    g, along, down = network.g, network.along, network.down
    ends = [
        jnp.sum(s * along[None, :, None], 1),
        jnp.einsum("r,rcb->cb", down, s),
    ]
    order = 1 if g.shape[0] >= g.shape[1] else -1
    many, few = ends[::order]
    few = network.few @ (few - network.ties.T @ many)
    many = network.many * many - network.ties @ few
    rows, columns = (many, few)[::order]
    drop = along[None, :, None] * rows[:, None]
    drop += down[:, None, None] * columns[None]
    return s - g[..., None] * drop


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
