import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxedge import models
from jaxedge.models.unet import enlarge

# Inputs and outputs of the 19 convolutions, in their order (edge_pruning 3).
WIDTHS = [
    (1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256),
    (256, 256), (256, 256), (256, 256), (512, 256), (256, 128), (256, 128),
    (128, 64), (128, 64), (64, 32), (64, 32), (32, 32), (32, 2),
]  # fmt: skip


def images(n, height=16, width=16):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (n, height, width, 1)).astype(np.float32)


def test_the_papers_counts():
    shapes = jax.eval_shape(models.Unet().init, jax.random.key(0), images(1))
    params = shapes["params"]
    kernels = [params["Conv_0"]["kernel"].shape]
    for i in range(9):
        block = params[f"Twice_{i}"]
        kernels += [block[f"Conv_{j}"]["kernel"].shape for j in (0, 1)]
    found = [(*k, o) for *k, o in kernels[1:] + kernels[:1]]
    assert found == [
        *((3, 3, i, o) for i, o in WIDTHS[:-1]),
        (1, 1, *WIDTHS[-1]),
    ]
    assert len(found) == 19
    assert sum(np.prod(shape) for shape in found) == 4_313_440
    # With a scale and a bias of every normalisation.
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    assert sum(sizes) == 4_317_856 and len(sizes) == 19 + 2 * 18


def test_the_papers_operations(watched):
    model = models.Unet()
    x = jax.ShapeDtypeStruct((1, 48, 48, 1), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    variables.pop("counts")
    logits, layers, _ = jax.eval_shape(watched(model), variables, x)
    assert logits.shape == (1, 48, 48, 2)
    operations = sum(
        np.prod(y.shape) * x.shape[-1] * (1 if name == "Conv_0" else 9)
        for name, (x, y) in layers.items()
    )
    assert round(operations / 1e6, 1) == 351.2


@pytest.mark.parametrize("n, m", [(4, 5), (1, 3)])
@pytest.mark.parametrize("corners", [False, True])
def test_images_are_enlarged_as_scipy_does(corners, n, m):
    x = np.random.default_rng(1).normal(size=(2, n, m, 3)).astype(np.float32)

    def places(size):
        out = np.arange(2 * size)
        if corners:
            return out * (size - 1) / (2 * size - 1)
        return (out + 0.5) / 2 - 0.5

    grid = np.meshgrid(places(n), places(m), indexing="ij")
    expected = [
        [
            ndimage.map_coordinates(plane, grid, order=1, mode="nearest")
            for plane in np.moveaxis(image, -1, 0)
        ]
        for image in x.astype(np.float64)
    ]
    np.testing.assert_allclose(
        jax.jit(enlarge, static_argnums=1)(x, corners),
        np.moveaxis(expected, 1, -1),
        atol=1e-5,
    )


class Numpy:
    """The network in numpy's float64, given its variables."""

    def __init__(self, reference, variables, bits):
        self.ref, self.bits = reference, bits
        self.params, self.stats = variables["params"], variables["batch_stats"]

    def conv(self, x, kernel):
        edge = kernel.shape[0] // 2
        x = np.pad(x, [(0, 0), (edge, edge), (edge, edge), (0, 0)])
        return self.ref.conv(x, np.asarray(kernel, np.float64))

    def twice(self, x, i):
        name = f"Twice_{i}"
        for j in (0, 1):
            signed = i == j == 0
            x = self.ref.quantise(x, self.bits, signed)
            x = self.conv(x, self.params[name][f"Conv_{j}"]["kernel"])
            norm = self.params[name][f"Norm_{j}"]["BatchNorm_0"]
            x = self.ref.norm(x, self.stats[name][f"Norm_{j}"]["BatchNorm_0"])
            x = x * np.float64(norm["scale"]) + np.float64(norm["bias"])
            x = self.ref.relu(x)
        return x

    def __call__(self, x):
        x = np.float64(x)
        height, width = x.shape[1:3]
        fill = [(0, 0), (0, -height % 16), (0, -width % 16), (0, 0)]
        x = self.twice(np.pad(x, fill, mode="edge"), 0)
        levels = [x]
        for i in range(1, 5):
            x = self.twice(self.ref.pool(x), i)
            levels.append(x)
        for i, level in enumerate(levels[-2::-1], 5):
            zoom = np.stack([self.zoom(image) for image in x])
            x = self.twice(np.concatenate([level, zoom], -1), i)
        x = self.ref.quantise(x, self.bits)
        return self.conv(x, self.params["Conv_0"]["kernel"])[:, :height, :width]

    @staticmethod
    def zoom(image):
        places = [(np.arange(2 * n) + 0.5) / 2 - 0.5 for n in image.shape[:2]]
        grid = np.meshgrid(*places, indexing="ij")
        planes = [
            ndimage.map_coordinates(plane, grid, order=1, mode="nearest")
            for plane in np.moveaxis(image, -1, 0)
        ]
        return np.stack(planes, -1)


@pytest.mark.parametrize("bits, size", [(None, (19, 33)), (6, (16, 32))])
def test_the_network_is_the_papers(reference, trained, bits, size):
    """Against numpy and scipy in float64, sides of no multiple of 16 too."""
    model, x = models.Unet(base=4, bits=bits), images(2, *size)
    variables = trained(model, x)
    expected = Numpy(reference, variables, bits)(x)
    got = jax.jit(model.apply)(variables, x)
    assert got.shape == expected.shape == (2, *size, 2)
    off = np.abs(got - expected) / np.abs(expected).max()
    # An activation near a tie of the quantiser may move by a whole step.
    assert off.max() < (1e-4 if bits is None else 0.2)
    assert np.median(off) < (1e-5 if bits is None else 0.01)
