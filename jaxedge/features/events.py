"""Point sets of event cameras (arXiv:2312.09262, deplm 2)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks, keys
from jaxedge.features import shapes

SHORT = ("error", "repeat")


class Events(NamedTuple):
    """A recording of an event camera.

    Attributes:
        t: times [E], any unit and order. float32 tells microseconds apart for
            8 s only: give whole numbers for longer recordings.
        x: columns [E], pixels from 0.
        y: rows [E], pixels from 0.
        p: polarities [E], or None where they are not used, as in the paper.
    """

    t: ArrayLike
    x: ArrayLike
    y: ArrayLike
    p: ArrayLike | None = None


def from_events(
    key: jax.Array,
    events: Events,
    n: int,
    *,
    window: tuple[ArrayLike, ArrayLike] | None = None,
    size: tuple[int, int] = (128, 128),
    short: str = "error",
) -> jax.Array:
    """n events of a window, drawn without replacement, as points (t, x, y).

    t is the time since the first event of the window over that of its last, so
    in [0, 1], as we read the paper's (t - min) / max; x and y are divided by
    the largest pixel (127 for the paper's camera).

    Args:
        key: consumed. A larger n begins with the same events.
        events: a recording. To map over recordings, fill them up with times
            outside the window.
        n: how many, at least 1.
        window: (start, stop) in the unit of t, stop excluded, whole numbers if
            the times are; None takes all.
        size: width and height of the sensor, pixels, at least 2.
        short: what to do if the window has fewer than n events: "error", which
            traced events cannot have, or "repeat", which takes the drawn events
            again from the first. No event at all is an error, or NaN if traced.

    Returns:
        [n, 3], or [n, 4] with the polarity as the last column.

    Raises:
        UsageError: for too few events, an empty window, pixels beyond the
            sensor, an unknown `short`, NaN, or shapes that do not agree.
    """
    keys.check_key(key)
    checks.whole("n", n, 1)
    checks.choice("short", short, SHORT)
    known, columns = _recording(events, size)
    t = _times(known)
    _check_window(t, window)
    _check_count(known, window, n, short)
    return _drawn(key, t, columns, _inside(t, window), int(n))


@functools.partial(jax.jit, static_argnames="n")
def _drawn(
    key: jax.Array,
    t: jax.Array,
    columns: jax.Array,
    inside: jax.Array,
    n: int,
) -> jax.Array:
    count = jnp.sum(inside, dtype=jnp.int32)
    drawn = jnp.where(inside, jax.random.uniform(key, t.shape), -1)
    order = jax.lax.top_k(drawn, min(n, t.size))[1]
    idx = order[jnp.arange(n) % jnp.clip(count, 1, n)]
    time = _relative(t, inside).astype(columns.dtype)
    points = jnp.concatenate([time[:, None], columns], axis=-1)[idx]
    return jnp.where(count > 0, points, jnp.nan)


def _recording(events: Events, size: tuple[int, int]) -> tuple[Any, jax.Array]:
    """Times [E] as given, and the other columns [E, 2 or 3] as they will be."""
    arrays = {
        name: shapes.known(name, a)
        for name, a in events._asdict().items()
        if a is not None
    }
    found = {name: array.shape for name, array in arrays.items()}
    shapes.same("events", **found)
    if len(found["t"]) != 1 or not found["t"][0]:
        raise checks.UsageError(
            f"events have shape {found['t']}, but must be [E], E >= 1."
        )
    columns = []
    for name, pixels in zip("xy", size, strict=True):
        checks.whole(f"size of the sensor along {name}", pixels, 2)
        checks.in_range(name, arrays[name], 0, pixels - 1)
        columns.append(shapes.real(name, arrays[name]) / (pixels - 1))
    if "p" in arrays:
        columns.append(shapes.real("p", arrays["p"]))
    return arrays["t"], jnp.stack(columns, axis=-1)


def _times(t: Any) -> jax.Array:
    """Whole times stay whole, so that differences are exact."""
    if not jnp.issubdtype(t.dtype, jnp.integer):
        return shapes.real("t", t)
    # A 64-bit number would wrap around without a word.
    checks.in_range("t", t, 0, 2**31 - 1)
    return jnp.asarray(t, jnp.int32)


def _inside(t: Any, window: tuple[Any, Any] | None) -> Any:
    """Which times a window has."""
    if window is None:
        return t == t
    return (t >= window[0]) & (t < window[1])


def _check_window(t: jax.Array, window: tuple[Any, Any] | None) -> None:
    """Raises for bounds out of order or of another kind than the times."""
    if window is None:
        return
    start, stop = window
    checks.ordered("window start", start, "window stop", stop)
    for name, bound in (("window start", start), ("window stop", stop)):
        # A float32 bound would cut whole times beyond 2^24 in the wrong place.
        if t.dtype == jnp.int32 and not _whole(bound):
            raise checks.UsageError(
                f"{name} is {bound}, but the times are whole numbers below"
                " 2^31; give it in the same unit, as a whole number."
            )


def _whole(bound: Any) -> bool:
    """Whether a bound is a whole number that int32 holds."""
    if isinstance(bound, int):
        return -(2**31) <= bound < 2**31
    return jnp.issubdtype(jnp.result_type(bound), jnp.integer)


def _check_count(
    t: Any, window: tuple[Any, Any] | None, n: int, short: str
) -> None:
    """Raises for fewer events than `short` allows."""
    if not all(checks.concrete(a) for a in (t, *(window or ()))):
        if short == "repeat":
            return
        raise checks.UsageError(
            "how many events a window has is not known where they are traced;"
            " pass short='repeat'."
        )
    bounds = window and (np.asarray(window[0]), np.asarray(window[1]))
    count = int(np.sum(_inside(np.asarray(t), bounds)))
    if not count or (count < n and short == "error"):
        raise checks.UsageError(
            f"n is {n}, but the window has {count} events; take a longer"
            " window" + (", or pass short='repeat'." if count else ".")
        )


def _relative(t: jax.Array, inside: jax.Array) -> jax.Array:
    """Times from 0 at the first event inside to 1 at the last."""
    whole = jnp.issubdtype(t.dtype, jnp.integer)
    limits = jnp.iinfo(t.dtype) if whole else jnp.finfo(t.dtype)
    first = jnp.min(jnp.where(inside, t, limits.max))
    last = jnp.max(jnp.where(inside, t, limits.min))
    span = last - first
    time = jnp.where(inside, t - first, 0) / jnp.where(span > 0, span, 1)
    # XLA may multiply by the rounded 1 / span.
    return jnp.minimum(time, 1)
