"""Point sets of real meshes, event recordings and images."""

import gzip
import zipfile

import jax
import numpy as np
import pytest

from jaxedge.features import points


def off(text):
    """Vertices of an OFF file, and its convex polygons as triangles."""
    head, counts, *lines = text.splitlines()
    assert head == "OFF"
    total = int(counts.split()[0])
    vertices = np.array([line.split() for line in lines[:total]], np.float32)
    polygons = [[int(i) for i in line.split()[1:]] for line in lines[total:]]
    triangles = [
        (corners[0], *pair)
        for corners in polygons
        for pair in zip(corners[1:], corners[2:], strict=False)
    ]
    return vertices, np.array(triangles)


@pytest.fixture(scope="module")
def meshes(real_file):
    path = real_file("geometric_shapes/geometric_shapes_off.zip")
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in ("3d_cube", "3d_sphere", "2d_circle"):
            inside = f"raw/{name}/train/{name}.off"
            found[name] = off(archive.read(inside).decode())
    return found


def spread(cloud):
    """The three variances along the principal axes, largest first."""
    return np.linalg.eigvalsh(np.cov(np.asarray(cloud, np.float64).T))[::-1]


def test_meshes_become_their_shapes(meshes, key):
    clouds = {
        name: points.normalise(points.from_mesh(key, *mesh, 2048))
        for name, mesh in meshes.items()
    }
    radius = {k: np.linalg.norm(c, axis=-1) for k, c in clouds.items()}
    for r in radius.values():
        assert r.max() == pytest.approx(1, rel=1e-5)
    # A sphere is one radius, 1/3 on every axis; the mesh is a little inside.
    assert radius["3d_sphere"].min() > 0.9
    np.testing.assert_allclose(spread(clouds["3d_sphere"]), 1 / 3, atol=0.04)
    # A circle lies in a plane.
    assert spread(clouds["2d_circle"])[2] < 1e-6
    # The faces of a cube are 1 / sqrt(3) from its centre.
    cube = np.linalg.norm(clouds["3d_cube"], np.inf, axis=-1)
    assert np.median(radius["3d_cube"]) > 0.6 and cube.min() > 0.4


def test_farthest_points_cover_a_mesh_better_than_random_ones(meshes, key):
    cloud = points.normalise(points.from_mesh(key, *meshes["3d_cube"], 1024))
    idx = points.farthest_points(cloud, 64, start=0)

    def hole(centroids):
        return float(points.nearest(1, centroids, cloud)[1].max()) ** 0.5

    chosen = hole(points.group(cloud, idx))
    assert chosen < 0.7 * hole(points.from_cloud(key, cloud, 64, replace=False))
    # Every point lies in the ball of some centroid of that radius.
    balls = points.ball_query(
        chosen * 1.0001, 1024, cloud, points.group(cloud, idx)
    )
    assert np.unique(balls).size == 1024


def test_recordings_become_points(real_file, key):
    with np.load(real_file("nmnist_small/nmnist_small.npz")) as data:
        ends = data["test_offsets"][:2]
        part = slice(int(ends[0]), int(ends[1]))
        x, y, p, dt = (
            data[f"test_{n}"][part] for n in ("x", "y", "p", "dt_us")
        )
    t = np.cumsum(dt, dtype=np.int64)
    events = points.Events(t, x, y, p)
    window = (0, 105_000)  # the first of three saccades
    found = np.asarray(
        points.from_events(key, events, 512, window=window, size=(34, 34))
    )
    assert found[:, 0].min() >= 0 and found[:, 0].max() <= 1
    inside = t < window[1]
    span = t[inside].max() - t[inside].min()
    table = np.stack([t - t[inside].min(), x * 1.0, y * 1.0, p * 1.0], -1)
    back = found * [span, 33, 33, 1]
    apart = np.abs(back[:, None] - table[None][:, inside]).max(-1)
    # Microseconds in float32, in a span of 1e5.
    assert apart.min(1).max() < 0.05
    assert {*np.unique(found[:, 3])} == {0, 1}


def test_images_become_the_rule_of_the_paper(real_file):
    path = real_file("fashion_mnist/t10k-images-idx3-ubyte.gz")
    with gzip.open(path) as file:
        raw = file.read(16 + 784 * 4)[16:]
    byte = np.frombuffer(raw, np.uint8).reshape(4, 28, 28)
    img = (byte.astype(np.float32) / 255 - 0.5) / 0.5
    found = np.asarray(points.from_image(img, "pixels"))
    assert found.shape == (4, 784, 6)
    np.testing.assert_array_equal(found[..., 0], img.reshape(4, 784))
    assert found[0, 28 * 3 + 5, 1] == np.float32(3 / 28 - 0.5)
    # The first layer of the paper's network.
    start = jax.random.randint(jax.random.key(1), (4,), 0, 784)
    idx = points.farthest_points(found[..., :3], 512, start=start)
    assert all(np.unique(row).size == 512 for row in np.asarray(idx))
    centroids = points.group(found[..., :3], idx)
    ball = points.ball_query(0.15, 32, found[..., :3], centroids)
    around = points.group(found[..., :3], ball) - centroids[:, :, None]
    assert np.linalg.norm(around, axis=-1).max() <= 0.15 * (1 + 1e-6)
