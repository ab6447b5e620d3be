"""Resistive wires: what an array of cells really delivers (IR drop).

Word line r is driven at its left end, bit line c is grounded at its bottom
end; one segment of wire lies between neighbouring cells, one between a driver
and its first cell, one between a last cell and its ground (the convention of
badcrossbar; device_physics 4.1). Every node obeys Kirchhoff's current law.

Letters: B vectors, R rows (word lines), C columns (bit lines).
"""

import functools
from typing import Any, NamedTuple
import warnings

import jax
from jax.core import Tracer
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.hardware.drop_solver import line_currents

METHODS = ("exact", "iterative")


class Solution(NamedTuple):
    """What `iterate` found.

    Attributes:
        current: into the grounds, A, [B, C] or [C].
        converged: bool []: whether the change is within the tolerance.
        change: what further corrections would change a current, at most,
            relative to the largest of its vector, []: the last correction
            times the bound of the rate at which they shrink.
        iterations: corrections, all blocks of vectors together, int32 [].
    """

    current: jax.Array
    converged: jax.Array
    change: jax.Array
    iterations: jax.Array


def solve(
    conductance: ArrayLike,
    voltage: ArrayLike,
    *,
    r_word: ArrayLike,
    r_bit: ArrayLike,
    method: str = "exact",
    tolerance: float = 1e-6,
) -> Any:
    """Currents of an array whose wires have a resistance.

    Args:
        conductance: of the cells, S, [R, C], at least 0.
        voltage: of the drivers, V, [B, R] or [R].
        r_word: resistance of one segment of a word line, ohm, above 0.
        r_bit: of one segment of a bit line.
        method: "exact" factorises the whole network on the host in float64;
            "iterative" is `iterate`, which can be compiled, mapped and
            differentiated.
        tolerance: of the iteration, relative to the largest current.

    Returns:
        Current into the grounds, A, [B, C] or [C]: a numpy array in float64
        ("exact") or a JAX array ("iterative"). An iteration that does not
        converge says so in a warning; `iterate` returns its flag.

    Raises:
        UsageError: for shapes that do not fit, a resistance that is not
            positive, a negative conductance, or traced values in "exact".
    """
    checks.choice("method", method, METHODS)
    if method == "iterative":
        found = iterate(
            conductance,
            voltage,
            r_word=r_word,
            r_bit=r_bit,
            tolerance=tolerance,
        )
        warn = functools.partial(_warn, tolerance)
        if isinstance(found.converged, Tracer):
            jax.debug.callback(warn, found.converged, found.change)
        else:
            warn(found.converged, found.change)
        return found.current
    given = (conductance, voltage, r_word, r_bit)
    if any(isinstance(value, Tracer) for value in given):
        raise checks.UsageError(
            "method 'exact' works on the host, outside of compiled functions;"
            " use method='iterative' inside."
        )
    g, v, word, bit = (np.asarray(value, np.float64) for value in given)
    _check(g, v, word, bit)
    current = _exact(g, np.atleast_2d(v), 1 / word, 1 / bit)
    return current if v.ndim == 2 else current[0]


def transfer(
    conductance: ArrayLike,
    *,
    r_word: ArrayLike,
    r_bit: ArrayLike,
    method: str = "exact",
    tolerance: float = 1e-6,
) -> Any:
    """The matrix that an array with its wires multiplies by.

    The network is linear: current = voltage @ transfer. Once it is known, a
    vector costs what it costs on ideal wires.

    Args:
        conductance: as in `solve`; so are the others.

    Returns:
        Siemens, [R, C], as `solve` returns currents.
    """
    return solve(
        conductance,
        np.eye(np.shape(conductance)[0]),
        r_word=r_word,
        r_bit=r_bit,
        method=method,
        tolerance=tolerance,
    )


@functools.partial(jax.jit, static_argnames="steps")
def _iterate(g, v, word, bit, tolerance, steps: int) -> Solution:
    found: Any = line_currents(g, v, word, bit, tolerance, steps)
    current, (change, iterations) = found
    return Solution(current, change <= tolerance, change, iterations)


def iterate(
    conductance: ArrayLike,
    voltage: ArrayLike,
    *,
    r_word: ArrayLike,
    r_bit: ArrayLike,
    tolerance: ArrayLike = 1e-6,
    steps: int = 500,
) -> Solution:
    """Currents by a few corrections of an approximate network.

    The unknowns are the currents of the cells; see `drop_solver`. The
    derivative is exact to the tolerance: one more solve of the network with
    its columns driven.

    Args:
        conductance: of the cells, S, [R, C], at least 0.
        voltage: of the drivers, V, [B, R] or [R].
        r_word: resistance of one segment of a word line, ohm, above 0.
        r_bit: of one segment of a bit line.
        tolerance: what further corrections may change a current, relative to
            the largest of its vector.
        steps: corrections of a block of vectors, at most.

    Returns:
        A `Solution`; look at `converged`.

    Raises:
        UsageError: as for `solve`.
    """
    # float32, or float64 where JAX has it and an array is so.
    wide = jnp.promote_types(jnp.result_type(conductance, voltage), jnp.float32)
    g, v, word, bit = (
        jnp.asarray(value, wide)
        for value in (conductance, voltage, r_word, r_bit)
    )
    _check(g, v, word, bit)
    checks.in_range("tolerance", tolerance, 0, open_low=True)
    checks.whole("steps", steps, 1)
    found = _iterate(g, jnp.atleast_2d(v), word, bit, tolerance, steps)
    if v.ndim == 1:
        found = found._replace(current=found.current[0])
    return found


def _check(g: Any, v: Any, word: Any, bit: Any) -> None:
    if g.ndim != 2 or not g.size or v.ndim not in (1, 2):
        raise checks.UsageError(
            f"wires need conductances [R, C] and voltages [B, R] or [R], got"
            f" {g.shape} and {v.shape}."
        )
    if v.shape[-1] != g.shape[0]:
        raise checks.UsageError(
            f"voltages of shape {v.shape} do not drive the {g.shape[0]} rows"
            f" of conductances of shape {g.shape}."
        )
    for name, value in (("r_word", word), ("r_bit", bit)):
        if value.ndim:
            raise checks.UsageError(
                f"{name} has shape {value.shape}, but must be one number."
            )
        checks.in_range(name, value, 0, open_low=True)
    checks.in_range("conductance", g, 0)
    checks.finite("voltage", v)


def _warn(tolerance: float, converged: Any, change: Any) -> None:
    if not np.all(converged):
        warnings.warn(
            "the wires did not converge: currents may still move by"
            f" {float(np.max(change)):.1e} of the largest, the tolerance is"
            f" {tolerance:.1e}; use method='exact', or more steps of"
            " wires.iterate.",
            stacklevel=2,
        )


# The exact network, on the host.


def _exact(
    g: np.ndarray, voltage: np.ndarray, word: np.ndarray, bit: np.ndarray
) -> np.ndarray:
    """Sparse nodal analysis: word nodes first, then bit nodes."""
    # Only host code needs scipy, and this room loads without it.
    from scipy import sparse
    from scipy.sparse import linalg

    rows, columns = g.shape
    n = rows * columns
    up = np.arange(n).reshape(rows, columns)
    down = up + n
    links = [
        (up, down, g),
        (up[:, :-1], up[:, 1:], word),
        (down[:-1], down[1:], bit),
    ]
    a = np.concatenate([link[0].ravel() for link in links])
    b = np.concatenate([link[1].ravel() for link in links])
    value = np.concatenate(
        [np.broadcast_to(x, start.shape).ravel() for start, _, x in links]
    )
    ends = np.concatenate([up[:, 0], down[-1]])
    leak = np.concatenate([np.full(rows, word), np.full(columns, bit)])
    matrix = sparse.csc_matrix(
        (
            np.concatenate([value, value, -value, -value, leak]),
            (
                np.concatenate([a, b, a, b, ends]),
                np.concatenate([a, b, b, a, ends]),
            ),
        ),
        shape=(2 * n, 2 * n),
    )
    factor = linalg.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
    )
    # The network is linear and its matrix symmetric: as many solves as there
    # are vectors, rows or columns, whichever are fewest.
    if columns < min(rows, len(voltage)):
        right = np.zeros((2 * n, columns))
        right[down[-1], np.arange(columns)] = bit
        return voltage @ (word * factor.solve(right)[up[:, 0]])
    if rows < len(voltage):
        right = np.zeros((2 * n, rows))
        right[up[:, 0], np.arange(rows)] = word
        return voltage @ (bit * factor.solve(right)[down[-1]]).T
    right = np.zeros((2 * n, len(voltage)))
    right[up[:, 0]] = word * voltage.T
    return (bit * factor.solve(right)[down[-1]]).T
