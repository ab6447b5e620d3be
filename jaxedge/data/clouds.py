"""Points of many surfaces and recordings, in few compiled programs.

Things of unequal size are filled up to a power of four and drawn from in
blocks, so that data sets share a few programs and compile none for every thing.
Every thing has a key of its own: what is drawn from it depends on no other.

Letters: N things, B of them at a time, E rows of a thing, P points.
"""

from collections.abc import Callable, Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks, keys
from jaxedge.features import points

SEED = 0  # Any fixed number serves.
POINTS = 1024  # arXiv:2312.09262 draws so many of events and 2,048 of clouds.
_LEAST, _ROWS = 64, 2**20  # rows of a thing; of a block, at most
_BLOCK = 64  # things, at most
_LATEST = 2**31 - 1


def draw_keys(name: str, n: int) -> jax.Array:
    """Keys [n] of a stream; the first of them are those of a smaller n."""
    root = keys.stream(jax.random.key(SEED), name)
    return jax.vmap(functools.partial(jax.random.fold_in, root))(jnp.arange(n))


def of_surfaces(
    drawn: jax.Array, surfaces: Sequence[np.ndarray], n: int = POINTS
) -> np.ndarray:
    """Points of triangles, uniform over their area; see `points.from_mesh`.

    Args:
        drawn: keys [N].
        surfaces: N arrays [E, 3, 3] of corners, finite; some area in each.
        n: how many points, P.

    Returns:
        [N, P, 3] float32, unit of the corners.
    """
    # A triangle of three equal corners has no area, so no point.
    return _in_blocks(
        functools.partial(_from_surfaces, n=n), drawn, surfaces, fill=0
    )


def of_events(
    drawn: jax.Array,
    recordings: Sequence[np.ndarray],
    *,
    size: tuple[int, int],
    n: int = POINTS,
) -> np.ndarray:
    """Points (t, x, y) of events, without replacement; see `from_events`.

    Args:
        drawn: keys [N].
        recordings: N arrays [E, 3], int32 times from 0, columns and rows. Of
            fewer than n events the drawn ones are taken again.
        size: width and height of the sensor, pixels.
        n: how many points, P.

    Returns:
        [N, P, 3] float32 in [0, 1].

    Raises:
        UsageError: for a recording without events, or pixels beyond the sensor.
    """
    for i, rows in enumerate(recordings):
        if not len(rows):
            raise checks.UsageError(f"recording {i} holds no event; drop it.")
        for column, pixels in enumerate(size, 1):
            checks.in_range(
                f"column {column} of recording {i}", rows[:, column], 0,
                pixels - 1,
            )  # fmt: skip
    # A time below 0 lies in no window.
    return _in_blocks(
        functools.partial(_from_events, n=n, size=size),
        drawn,
        recordings,
        fill=-1,
    )


def of_rows(
    drawn: jax.Array, sizes: Sequence[int], n: int = POINTS
) -> np.ndarray:
    """Which rows of each thing are taken, with replacement.

    Args:
        drawn: keys [N].
        sizes: rows of each thing, at least 1.
        n: how many are taken, P.

    Returns:
        [N, P] int32, in [0, size).
    """
    return np.asarray(_row_numbers(drawn, jnp.asarray(sizes, jnp.int32), n))


def turns(y_N: np.ndarray) -> np.ndarray:
    """How many rows of a row's own class come before it, [N]."""
    turn_N = np.empty(len(y_N), np.int64)
    for label in np.unique(y_N):
        mine = y_N == label
        turn_N[mine] = np.arange(mine.sum())
    return turn_N


def in_turn(y_N: np.ndarray) -> np.ndarray:
    """An order of rows in which the classes take turns.

    So the first rows, which quick studies read, hold all classes alike.

    Args:
        y_N: labels [N].

    Returns:
        Row numbers [N]; rows of one class keep their order.
    """
    return np.lexsort((y_N, turns(y_N)))


def with_category(
    x_NxPx3: np.ndarray, category_N: np.ndarray, categories: int
) -> np.ndarray:
    """Points beside the one-hot category of their cloud.

    Args:
        x_NxPx3: places.
        category_N: whole numbers in [0, categories).
        categories: how many there are, K.

    Returns:
        [N, P, 3 + K] float32; every point of a cloud has the same last K.
    """
    one_hot = np.eye(categories, dtype=np.float32)[category_N]
    shape = (*x_NxPx3.shape[:2], categories)
    spread = np.broadcast_to(one_hot[:, None], shape)
    return np.concatenate([x_NxPx3, spread], -1, dtype=np.float32)


def _in_blocks(
    draw: Callable[[jax.Array, np.ndarray], jax.Array],
    drawn: jax.Array,
    things: Sequence[np.ndarray],
    fill: float,
) -> np.ndarray:
    """What `draw` gives for every thing, [N, ...]."""
    rooms = np.array([_room(len(thing)) for thing in things])
    found = {}
    for room in np.unique(rooms):
        mine = np.flatnonzero(rooms == room)
        block = min(_BLOCK, max(1, _ROWS // int(room)))
        for start in range(0, len(mine), block):
            part = mine[start : start + block]
            # Repeated to a full block, which is compiled already.
            part_B = np.resize(part, block)
            filled = _filled([things[i] for i in part], room, block, fill)
            values = np.asarray(draw(drawn[part_B], filled))
            found |= dict(zip(part.tolist(), values, strict=False))
    return np.stack([found[i] for i in range(len(things))])


def _room(n: int) -> int:
    """The least power of four that is not below n, but at least 64."""
    room = _LEAST
    while room < n:
        room *= 4
    return room


def _filled(
    things: Sequence[np.ndarray], room: int, block: int, fill: float
) -> np.ndarray:
    """Things as one array [B, E, ...]; those that are missing are the first."""
    first = things[0]
    array = np.full((block, room, *first.shape[1:]), fill, first.dtype)
    for i in range(block):
        thing = things[i % len(things)]
        array[i, : len(thing)] = thing
    return array


@functools.partial(jax.jit, static_argnames="n")
def _from_surfaces(
    drawn_B: jax.Array, corners_BxEx3x3: jax.Array, n: int
) -> jax.Array:
    total = corners_BxEx3x3.shape[1]
    faces = np.arange(3 * total).reshape(total, 3)

    def one(key, corners):
        return points.from_mesh(key, corners.reshape(-1, 3), faces, n)

    return jax.vmap(one)(drawn_B, corners_BxEx3x3)


@functools.partial(jax.jit, static_argnames=("n", "size"))
def _from_events(
    drawn_B: jax.Array, rows_BxEx3: jax.Array, n: int, size: tuple[int, int]
) -> jax.Array:
    def one(key, rows):
        return points.from_events(
            key, points.Events(*rows.T), n, window=(0, _LATEST), size=size,
            short="repeat",
        )  # fmt: skip

    return jax.vmap(one)(drawn_B, rows_BxEx3)


@functools.partial(jax.jit, static_argnames="n")
def _row_numbers(drawn_N: jax.Array, sizes_N: jax.Array, n: int) -> jax.Array:
    return jax.vmap(lambda key, size: jax.random.randint(key, (n,), 0, size))(
        drawn_N, sizes_N
    )
