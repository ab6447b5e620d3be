"""Point sets of images, clouds and meshes.

A set is [N, C] of at least float32: the first three columns are the point, all
of them its features (arXiv:2312.09262, deplm 2).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks, keys
from jaxedge.features import shapes

MODES = ("pixels", "plane", "colour", "brightest")


def from_image(
    img: ArrayLike, mode: str = "pixels", *, n: int | None = None
) -> jax.Array:
    """The pixels of an image as points, row by row.

    Pixel (i, j) lies at r = i / H - 1/2, c = j / W - 1/2 and has value g:

        pixels     [g, r, c, g, r, c]                the paper's rule for images
        plane      [r, c, 0, g]                      g bends no distance
        colour     [m, r, c, g_1, ..., g_K, r, c]    m the mean of K channels
        brightest  as pixels, the n largest g first  strokes without background

    Args:
        img: [..., H, W], or [..., H, W, K] for colour, finite. The paper has g
            in [-1, 1], (byte / 255 - .5) / .5; a larger range weighs brightness
            more than place.
        mode: one of `MODES`.
        n: how many for `brightest`, 1 to H W; of equal values the first.

    Returns:
        [..., H W, C], or [..., n, 6] for `brightest`.

    Raises:
        UsageError: for an unknown mode, bytes, NaN, a wrong shape, or an n that
            is missing, too large or for another mode.
    """
    checks.choice("mode", mode, MODES)
    if (n is not None) != (mode == "brightest"):
        raise checks.UsageError(
            f"mode is {mode!r} and n is {n}, but n must be given for"
            " 'brightest' and for no other mode."
        )
    img = _image(img, 3 if mode == "colour" else 2)
    points = _pixels(img, mode)
    return points if n is None else _brightest(points, n)


def _image(img: Any, rank: int) -> jax.Array:
    """An image of at least `rank` axes, none of them empty."""
    img = img if isinstance(img, jax.Array) else np.asarray(img)
    if img.dtype == np.uint8:
        raise checks.UsageError(
            "img holds bytes, whose range would bury the places of the pixels;"
            " scale it first: (img / 255 - 0.5) / 0.5."
        )
    img = shapes.real("img", img)
    if img.ndim < rank or not all(img.shape[-rank:]):
        axes = "H, W, K" if rank == 3 else "H, W"
        raise checks.UsageError(
            f"img has shape {img.shape}, but must be [..., {axes}]."
        )
    return img


@functools.partial(jax.jit, static_argnames="mode")
def _pixels(img: jax.Array, mode: str) -> jax.Array:
    channels = img if mode == "colour" else img[..., None]
    *lead, height, width, _ = channels.shape
    value = channels.reshape(*lead, height * width, -1)
    place = _places(height, width, value)
    if mode == "plane":
        parts = [place, jnp.zeros_like(value), value]
    else:
        parts = [jnp.mean(value, axis=-1, keepdims=True), place, value, place]
    return jnp.concatenate(parts, axis=-1)


def _places(height: int, width: int, value: jax.Array) -> jax.Array:
    """(r, c) of all pixels, [..., H W, 2], for values [..., H W, 1]."""
    # In double precision, which XLA's division by a constant is not.
    row = np.arange(height) / height - 0.5
    column = np.arange(width) / width - 0.5
    grid = np.stack(np.meshgrid(row, column, indexing="ij"), axis=-1)
    flat = jnp.asarray(
        grid.reshape(*[1] * (value.ndim - 2), -1, 2), value.dtype
    )
    return jnp.broadcast_to(flat, (*value.shape[:-1], 2))


def _brightest(points: jax.Array, n: int) -> jax.Array:
    checks.whole("n", n, 1)
    shapes.at_most(n, points.shape[-2], "take all of them with mode 'pixels'")
    idx = jax.lax.top_k(points[..., 0], n)[1]
    return jnp.take_along_axis(points, idx[..., None], axis=-2)


def from_cloud(
    key: jax.Array, points: ArrayLike, n: int, *, replace: bool = True
) -> jax.Array:
    """n rows of each cloud at random.

    Args:
        key: consumed; draws for all clouds.
        points: [..., N, C], finite.
        n: how many, at least 1.
        replace: whether a row may be drawn again, as in the paper; else n is
            at most N.

    Returns:
        [..., n, C].

    Raises:
        UsageError: for n below 1, fewer points than n without replacement, NaN
            or a wrong shape.
    """
    keys.check_key(key)
    points = shapes.rows("points", points)
    checks.whole("n", n, 1)
    if not replace:
        shapes.at_most(n, points.shape[-2], "draw with replace=True")
    return _rows(key, points, int(n), replace)


@functools.partial(jax.jit, static_argnames=("n", "replace"))
def _rows(
    key: jax.Array, points: jax.Array, n: int, replace: bool
) -> jax.Array:
    *lead, available, _ = points.shape
    if replace:
        idx = jax.random.randint(key, (*lead, n), 0, available)
    else:
        drawn = jax.random.uniform(key, (*lead, available))
        idx = jax.lax.top_k(drawn, n)[1]
    return jnp.take_along_axis(points, idx[..., None], axis=-2)


def from_mesh(
    key: jax.Array, vertices: ArrayLike, faces: ArrayLike, n: int
) -> jax.Array:
    """n points on triangles, uniform over their area.

    A triangle is drawn by its area, then the point (1 - sqrt(u)) A +
    sqrt(u) (1 - v) B + sqrt(u) v C on it, with u and v uniform in [0, 1)
    (Osada et al., Shape distributions, ACM TOG 21, 2002, section 3.2).

    Args:
        key: consumed.
        vertices: [V, 3], finite, any unit.
        faces: whole numbers [F, 3], in [0, V).
        n: how many, at least 1.

    Returns:
        [n, 3], unit of the vertices.

    Raises:
        UsageError: for faces that are no triangles, name no vertex or have no
            area, n below 1, or NaN.
    """
    keys.check_key(key)
    checks.whole("n", n, 1)
    corners = _corners(vertices, faces)
    area = _area(corners)
    if checks.concrete(area) and not np.any(np.asarray(area)):
        raise checks.UsageError(
            "the faces have no area together; give triangles whose corners lie"
            " on no line."
        )
    return _on_faces(key, corners, area, int(n))


@jax.jit
def _area(corners: jax.Array) -> jax.Array:
    """Twice the area of each triangle, [F]."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return jnp.linalg.norm(jnp.cross(b - a, c - a), axis=-1)


@functools.partial(jax.jit, static_argnames="n")
def _on_faces(
    key: jax.Array, corners: jax.Array, area: jax.Array, n: int
) -> jax.Array:
    upto = jnp.cumsum(jax.lax.stop_gradient(area))
    chosen, u, v = jax.random.uniform(key, (3, n, 1), corners.dtype)
    # In (0, total], so that no face without area is found.
    place = (1 - chosen[:, 0]) * upto[-1]
    a, b, c = jnp.moveaxis(corners[jnp.searchsorted(upto, place)], 1, 0)
    root = jnp.sqrt(u)
    return (1 - root) * a + root * ((1 - v) * b + v * c)


def _corners(vertices: Any, faces: Any) -> jax.Array:
    """The corners of all triangles, [F, 3, 3]."""
    vertices, faces = shapes.rows("vertices", vertices), jnp.asarray(faces)
    whole = jnp.issubdtype(faces.dtype, jnp.integer)
    shape = vertices.shape, faces.shape
    good = shape == ((len(vertices), 3), (len(faces), 3)) and len(faces)
    if not (good and whole):
        raise checks.UsageError(
            f"vertices has shape {shape[0]} and faces {shape[1]} of dtype"
            f" {faces.dtype}, but must be [V, 3] and whole numbers [F, 3]; cut"
            " polygons into triangles."
        )
    checks.in_range("faces", faces, 0, len(vertices) - 1)
    return vertices[faces]
