"""The iteration behind `wires.iterate`, and its adjoint.

Node voltages are [R, C, B]: word lines, bit lines, vectors. `up` are the nodes
of the word lines, `down` those of the bit lines.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class _Nodes(NamedTuple):
    """Voltages as a sum of two: a coarse one and its correction."""

    up: jax.Array
    down: jax.Array
    fine_up: jax.Array
    fine_down: jax.Array


def _branches(up, down, driver, ground, g, word, bit):
    """Currents of word segments, cells and bit segments.

    Differences come first: they are exact where their product is not.
    """
    before = jnp.concatenate([driver[:, None], up[:, :-1]], 1)
    after = jnp.concatenate([down[1:], ground[None]], 0)
    return (
        word * (before - up),
        g[..., None] * (up - down),
        bit * (down - after),
    )


def _lines(g: jax.Array, segment: jax.Array) -> tuple[jax.Array, ...]:
    """Diagonals of the lines' matrices, [lines, nodes]; driven at the left."""
    nodes = g.shape[1]
    beside = jnp.full(nodes, 2.0, g.dtype).at[-1].set(1.0)
    side = jnp.full_like(g, -segment)
    return (
        side.at[:, 0].set(0),
        g + segment * beside[None],
        (side.at[:, -1].set(0)),
    )


def _line_solve(lines, x):
    below, main, above = lines
    return jax.lax.linalg.tridiagonal_solve(below, main, above, x)


def _correct(words, bits, g, short_up, short_down, steps, target):
    """Voltages that roughly cancel what is short at every node.

    Conjugate gradients on the bit nodes, for all vectors at once.
    """
    cell = g[..., None]

    def across(x):  # [R, C, B] <-> [C, R, B]
        return jnp.swapaxes(x, 0, 1)

    def apply(down):
        inner = _line_solve(words, cell * down)
        bit_part = _matvec(bits, across(down))
        return across(bit_part) - cell * inner

    def precondition(x):
        return across(_line_solve(bits, across(x)))

    def dot(a, b):
        return jnp.sum(a * b, (0, 1), keepdims=True)

    first = _line_solve(words, short_up)
    residual = short_down + cell * first
    z = precondition(residual)
    start = (
        jnp.zeros_like(residual), residual, z, dot(residual, z),
        jnp.int32(0),
    )  # fmt: skip
    norm = jnp.sqrt(start[3])

    def go(state):
        _, _, _, rho, step = state
        return (step < steps) & jnp.any(jnp.sqrt(rho) > target * norm)

    def step(state):
        x, residual, p, rho, i = state
        q = apply(p)
        power = dot(p, q)
        alpha = jnp.where(power > 0, rho / jnp.where(power > 0, power, 1), 0)
        x = x + alpha * p
        residual = residual - alpha * q
        z = precondition(residual)
        new = jnp.maximum(dot(residual, z), 0)
        beta = jnp.where(rho > 0, new / jnp.where(rho > 0, rho, 1), 0)
        return x, residual, z + beta * p, new, i + 1

    down, _, _, _, used = jax.lax.while_loop(go, step, start)
    up = first + _line_solve(words, cell * down)
    return up, down, used


def _matvec(lines, x):
    """Tridiagonal matrices times vectors, [lines, nodes, B]."""
    below, main, above = (d[..., None] for d in lines)
    y = main * x
    y = y.at[:, 1:].add(below[:, 1:] * x[:, :-1])
    return y.at[:, :-1].add(above[:, :-1] * x[:, 1:])


def _nodes(g, driver, ground, word, bit, tolerance, corrections, steps):
    """Node voltages for given voltages of drivers [R, B] and grounds [C, B]."""
    words = _lines(g, word)
    # Turned round, a bit line is driven where it is grounded.
    flipped = _lines(g.T[:, ::-1], bit)
    bits = (
        flipped[2][:, ::-1], flipped[1][:, ::-1], flipped[0][:, ::-1],
    )  # fmt: skip
    shape = (*g.shape, driver.shape[-1])
    zero = jnp.zeros(shape, g.dtype)

    def currents(nodes: _Nodes):
        still = jnp.zeros_like(driver), jnp.zeros_like(ground)
        coarse = _branches(nodes.up, nodes.down, driver, ground, g, word, bit)
        fine = _branches(nodes.fine_up, nodes.fine_down, *still, g, word, bit)
        return tuple(a + b for a, b in zip(coarse, fine, strict=True))

    def short(nodes: _Nodes):
        into, cells, out = currents(nodes)
        # What arrives at a node less what leaves it.
        leaving = jnp.concatenate([into[:, 1:], zero[:, :1]], 1)
        arriving = jnp.concatenate([zero[:1], out[:-1]], 0)
        return into - leaving - cells, arriving + cells - out

    def go(state):
        _, change, _, count = state
        return (count < corrections) & (change > tolerance)

    def step(state):
        nodes, _, used, count = state
        up, down, more = _correct(
            words, bits, g, *short(nodes), steps, target=1e-3
        )
        before = currents(nodes)[2][-1]
        up, fine_up = _add(nodes.up, nodes.fine_up, up)
        down, fine_down = _add(nodes.down, nodes.fine_down, down)
        nodes = _Nodes(up, down, fine_up, fine_down)
        after = currents(nodes)[2][-1]
        largest = jnp.max(jnp.abs(after), 0)
        moved = jnp.max(jnp.abs(after - before), 0)
        change = jnp.max(moved / jnp.where(largest > 0, largest, 1))
        return nodes, change, used + more, count + 1

    start = (
        _Nodes(zero, zero, zero, zero),
        jnp.asarray(jnp.inf, g.dtype),
        jnp.int32(0),
        jnp.int32(0),
    )
    nodes, change, used, _ = jax.lax.while_loop(go, step, start)
    return nodes, currents(nodes), change, used


def _add(coarse, fine, more):
    """(coarse + fine) + more as a sum of two, without losing digits."""
    total = coarse + more
    back = total - coarse
    lost = (coarse - (total - back)) + (more - back)
    return total, fine + lost


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def line_currents(g, v, word, bit, tolerance, corrections, steps):
    """Currents [B, C] and (change, iterations)."""
    return _forward(g, v, word, bit, tolerance, corrections, steps)[0]


def _forward(g, v, word, bit, tolerance, corrections, steps):
    ground = jnp.zeros((g.shape[1], len(v)), g.dtype)
    nodes, currents, change, used = _nodes(
        g, v.T, ground, word, bit, tolerance, corrections, steps
    )
    out = currents[2][-1].T
    saved = (g, word, bit, nodes, currents, tolerance)
    return (out, (change, used)), saved


def _backward(corrections, steps, saved, slopes):
    """The adjoint network: grounds driven by the slopes, drivers grounded."""
    g, word, bit, nodes, currents, tolerance = saved
    slope, _ = slopes
    still = jnp.zeros((g.shape[0], slope.shape[0]), g.dtype)
    adjoint, driven, _, _ = _nodes(
        g, still, slope.T, word, bit, tolerance, corrections, steps
    )
    cells = (adjoint.up - adjoint.down) + (adjoint.fine_up - adjoint.fine_down)
    drop = (nodes.up - nodes.down) + (nodes.fine_up - nodes.fine_down)
    # A branch of conductance x, current x d and adjoint current x e adds
    # -d e to the slope of x.
    return (
        -jnp.sum(cells * drop, -1),
        -driven[0][:, 0].T,
        -jnp.sum(driven[0] * currents[0]) / word**2,
        -jnp.sum(driven[2] * currents[2]) / bit**2,
        jnp.zeros_like(tolerance),
    )


line_currents.defvjp(
    lambda g, v, word, bit, tolerance, corrections, steps: _forward(
        g, v, word, bit, tolerance, corrections, steps
    ),
    _backward,
)
