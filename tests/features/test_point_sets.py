"""Point sets of images, clouds and meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import points

# A tetrahedron whose faces have different areas, and a face without any.
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3.0]], np.float32)
FACES = np.array([[0, 1, 2], [0, 0, 1], [0, 1, 3], [0, 2, 3], [1, 2, 3]])


def image(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def rule(img):
    """The paper's rule, pixel by pixel (deplm 2)."""
    height, width = img.shape
    rows = []
    for i in range(height):
        for j in range(width):
            point = [img[i, j], i / height - 0.5, j / width - 0.5]
            rows.append(point + point)
    return np.array(rows)


# Images.


@pytest.mark.parametrize("shape", [(28, 28), (3, 5), (1, 4), (2, 1)])
def test_pixels_are_the_rule_of_the_paper(shape):
    img = image(*shape)
    found = points.from_image(img, "pixels")
    assert found.shape == (shape[0] * shape[1], 6)
    np.testing.assert_allclose(found, rule(img), atol=1e-7)
    np.testing.assert_array_equal(found, points.from_image(img))
    batch = points.from_image(np.stack([img, -img])[:, None])
    np.testing.assert_allclose(batch[1, 0], rule(-img), atol=1e-7)


def test_the_plane_keeps_brightness_out_of_the_distance():
    img = image(4, 6)
    found = points.from_image(img, "plane")
    expected = rule(img)
    np.testing.assert_allclose(found[:, :2], expected[:, 1:3], atol=1e-7)
    np.testing.assert_array_equal(found[:, 2], 0)
    np.testing.assert_array_equal(found[:, 3], img.ravel())


def test_colours_are_features():
    img = image(2, 4, 5, 3)
    found = points.from_image(img, "colour")
    assert found.shape == (2, 20, 8)
    grey = rule(img[1].mean(-1))
    np.testing.assert_allclose(found[1, :, :3], grey[:, :3], atol=1e-6)
    np.testing.assert_array_equal(found[1, :, 3:6], img[1].reshape(20, 3))
    np.testing.assert_allclose(found[1, :, 6:], grey[:, 1:3], atol=1e-6)
    # One channel is the paper's rule.
    one = points.from_image(img[..., :1], "colour")
    np.testing.assert_array_equal(one, points.from_image(img[..., 0]))


def test_the_brightest_pixels_come_first():
    img = image(3, 4, 5).round(1)
    found = np.asarray(points.from_image(img, "brightest", n=7))
    every = np.asarray(points.from_image(img))
    for one, rows in zip(found, every, strict=True):
        order = sorted(range(20), key=lambda i: (-rows[i, 0], i))
        np.testing.assert_array_equal(one, rows[order[:7]])


@pytest.mark.parametrize("mode", points.MODES)
def test_images_are_jitted_mapped_and_widened(mode):
    n = 9 if mode == "brightest" else None
    img = jnp.asarray(image(2, 5, 4, *[3] * (mode == "colour")))

    def f(img):
        return points.from_image(img, mode, n=n)

    found = f(img)
    assert found.dtype == jnp.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(jax.jit(f)(img), found, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(f)(img), found, atol=1e-6)
    half = f(img.astype(jnp.bfloat16))
    assert half.dtype == jnp.float32
    np.testing.assert_array_equal(
        half, f(img.astype(jnp.bfloat16).astype(jnp.float32))
    )
    # Only the coordinates do not depend on the image.
    slope = jax.grad(lambda img: f(img).sum())(img)
    assert {*np.unique(slope).round(3)} <= {0, 1, 2, np.float32(1.333)}
    assert np.any(slope)


# Clouds.


def test_a_cloud_is_drawn_with_or_without_replacement(key):
    cloud = np.arange(3 * 50 * 2, dtype=np.float32).reshape(3, 50, 2)
    again = np.asarray(points.from_cloud(key, cloud, 400))
    assert again.shape == (3, 400, 2)
    for rows, all_rows in zip(again, cloud, strict=True):
        # Each of 50 rows is missing with probability .98^400 = 3e-4.
        assert 45 <= len(np.unique(rows[:, 0])) <= 50
        np.testing.assert_array_equal(rows[:, 0] + 1, rows[:, 1])
        assert {*rows[:, 0]} <= {*all_rows[:, 0]}
    once = np.asarray(points.from_cloud(key, cloud, 50, replace=False))
    np.testing.assert_array_equal(np.sort(once, axis=1), cloud)
    # Clouds of one call are drawn apart, and not in order.
    order = once[..., 0] - cloud[:, :1, 0]
    assert np.any(order[0] != order[1]) and np.any(order[0] != np.arange(50))


def test_a_replaced_draw_is_uniform(key):
    cloud = np.arange(20, dtype=np.float32)[:, None]
    n = 20_000
    drawn = np.asarray(points.from_cloud(key, cloud, n))[:, 0].astype(int)
    counts = np.bincount(drawn, minlength=20)
    # chi-square of 19 degrees of freedom: mean 19, deviation 6.2.
    assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 19 + 5 * 6.2


@pytest.mark.parametrize("replace", [True, False])
def test_draws_of_clouds_are_jitted_mapped_and_repeatable(
    key, replace, compilations
):
    cloud = jnp.asarray(image(3, 30, 4))

    def f(key, cloud):
        return points.from_cloud(key, cloud, 12, replace=replace)

    found, jitted = f(key, cloud), jax.jit(f)
    np.testing.assert_array_equal(f(key, cloud), found)
    np.testing.assert_array_equal(jitted(key, cloud), found)
    keys = jax.random.split(key, 3)
    loop = [f(k, c) for k, c in zip(keys, cloud, strict=True)]
    np.testing.assert_array_equal(jax.vmap(f)(keys, cloud), loop)
    other = keys[1]
    with compilations() as names:
        jitted(other, cloud)
    assert not names


# Meshes.


def test_mesh_points_lie_on_the_faces_by_area(key):
    n = 40_000
    found = np.asarray(points.from_mesh(key, VERTICES, FACES, n), np.float64)
    assert found.shape == (n, 3)
    assert found.min() >= 0
    # Coordinates sum to 1 on the slanted face, and one is 0 on the others.
    slanted = np.abs(found / [1, 2, 3] @ np.ones(3) - 1) < 1e-5
    axis = np.argmin(found, axis=1)
    on = np.array(
        [slanted.sum(), *(np.sum(axis[~slanted] == i) for i in range(3))]
    )
    assert np.abs(found[~slanted].min(1)).max() < 1e-6
    # Slanted, x = 0, y = 0, z = 0: half the products of the edges.
    sides = np.array([3.0, 1.5, 1.0])
    areas = np.array([np.sqrt((sides**2).sum()), *sides])
    share = areas / areas.sum()
    deviation = np.sqrt(n * share * (1 - share))
    assert np.all(np.abs(on - n * share) < 5 * deviation)


def test_a_triangle_is_covered_evenly(key):
    n = 20_000
    found = points.from_mesh(key, VERTICES[:3], FACES[:1], n)
    x, y = np.asarray(found).T[:2]
    # Uniform over x, y / 2 >= 0 with x + y / 2 <= 1: mean 1/3, variance 1/18,
    # and a quarter of the area has x > 1/2.
    for side in (x, y / 2):
        assert abs(side.mean() - 1 / 3) < 5 * np.sqrt(1 / 18 / n)
        assert abs(side.var() - 1 / 18) < 5e-3 / 5
        share = np.mean(side > 0.5)
        assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n)


def test_meshes_are_jitted_mapped_and_repeatable(key, compilations):
    def f(key, vertices):
        return points.from_mesh(key, vertices, FACES, 30)

    found, jitted = f(key, VERTICES), jax.jit(f)
    np.testing.assert_array_equal(f(key, VERTICES), found)
    np.testing.assert_allclose(jitted(key, VERTICES), found, atol=1e-6)
    keys = jax.random.split(key, 3)
    loop = [f(k, VERTICES) for k in keys]
    mapped = jax.vmap(f, (0, None))(keys, VERTICES)
    np.testing.assert_allclose(mapped, loop, atol=1e-6)
    assert np.any(loop[0] != loop[1])
    other = keys[1]
    with compilations() as names:
        jitted(other, VERTICES)
    assert not names
    # Points move with their vertices.
    slope = jax.grad(lambda v: jitted(key, v).sum())(jnp.asarray(VERTICES))
    np.testing.assert_allclose(slope.sum(0), 30, rtol=1e-5)


IMG = image(4, 5)
KEY = jax.random.key(0)
CLOUD = image(6, 3)
MISUSES = {
    "unknown mode 'pixel'. Did you mean 'pixels'": lambda: points.from_image(
        IMG, "pixel"
    ),
    "holds bytes": lambda: points.from_image(np.zeros((4, 5), np.uint8)),
    r"img has shape \(20,\)": lambda: points.from_image(IMG.ravel()),
    r"must be \[..., H, W, K\]": lambda: points.from_image(IMG, "colour"),
    r"img has shape \(0, 5\)": lambda: points.from_image(IMG[:0]),
    "img holds 20 NaN": lambda: points.from_image(IMG * np.nan),
    "n is None, but": lambda: points.from_image(IMG, "brightest"),
    "n is 3, but": lambda: points.from_image(IMG, "pixels", n=3),
    "n is 21": lambda: points.from_image(IMG, "brightest", n=21),
    "n is 0": lambda: points.from_image(IMG, "brightest", n=0),
    "key must come from": lambda: points.from_cloud(3, CLOUD, 2),
    "n is 7": lambda: points.from_cloud(KEY, CLOUD, 7, replace=False),
    "n is -2": lambda: points.from_cloud(KEY, CLOUD, -2),
    r"points has shape \(3,\)": lambda: points.from_cloud(KEY, CLOUD[0], 2),
    "cut polygons": lambda: points.from_mesh(
        KEY, VERTICES, np.array([[0, 1, 2, 3]]), 5
    ),
    "whole numbers": lambda: points.from_mesh(
        KEY, VERTICES, FACES.astype(float), 5
    ),
    "faces is 4": lambda: points.from_mesh(KEY, VERTICES, FACES + 1, 5),
    "no area": lambda: points.from_mesh(KEY, VERTICES, FACES[1:2], 5),
    "vertices holds": lambda: points.from_mesh(
        KEY, VERTICES * np.inf, FACES, 5
    ),
    r"vertices has shape \(4, 2\)": lambda: points.from_mesh(
        KEY, VERTICES[:, :2], FACES, 5
    ),
}


@pytest.mark.parametrize("words", MISUSES)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
