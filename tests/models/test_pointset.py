"""The layers of point-set networks against loops, and the published sizes."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import models
from jaxedge.core.checks import UsageError
from jaxedge.models import pointset
from jaxedge.recipes import deplm

PATH = Path(__file__).parents[2] / "configs" / "deplm.py"
LAYERS = (
    pointset.Abstraction(6, 0.6, 3, 4),
    pointset.Abstraction(3, 1.0, 4, 5),
    pointset.Abstraction(None, 0.0, 0, 7),
)
INPUTS = pointset.Inputs(repeat_places=True, categories=2)
SEGMENTER = models.PointSegmenter(3, LAYERS, (6, 5, 4), INPUTS)


def published(variant):
    spec = importlib.util.spec_from_file_location("deplm_config", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = module.get_config(variant)
    return deplm.parse({name: given[name] for name in deplm.Settings._fields})


def sets(seed, n=12):
    """Two clouds, of category 0 and 1."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-0.5, 0.5, (2, n, 3))
    category = np.repeat(np.eye(2)[:, None], n, 1)
    return np.concatenate([place, category], -1).astype(np.float32)


@pytest.mark.parametrize(
    "variant, example, classes, shapes, readout",
    [
        (
            "fashion_mnist", (28, 28, 1), 10,
            [(6, 51), (54, 102), (105, 819)], (819, 10),
        ),
        (
            "dvs_gesture", (1024, 3), 10,
            [(3, 53), (56, 107), (110, 512)], (512, 10),
        ),
        (
            "shapenet", (2048, 19), 50,
            [
                (6, 117), (120, 80), (83, 234), (314, 80), (197, 117),
                (139, 117),
            ],
            (117, 50),
        ),
    ],
)  # fmt: skip
def test_the_published_networks(variant, example, classes, shapes, readout):
    """Sizes of deplm 3, and their sums: 91,809, 62,471 and 94,156."""
    model = published(variant).model
    network = models.PointClassifier(classes, model.layers, model.inputs)
    if model.decoder:
        network = models.PointSegmenter(
            classes, model.layers, model.decoder, model.inputs
        )
    params = jax.eval_shape(
        network.init, jax.random.key(0), jnp.zeros((1, *example))
    )["params"]
    kernels = {
        name: layer["Dense_0"]["kernel"].shape
        for name, layer in params.items()
        if name != "readout"
    }
    assert [*kernels.values()] == shapes
    total = sum(int(np.prod(shape)) for shape in shapes)
    expected = {
        "fashion_mnist": 91809, "dvs_gesture": 62471, "shapenet": 94156,
    }  # fmt: skip
    assert total == expected[variant]
    assert params["readout"]["kernel"].shape == readout


def test_an_abstraction_is_its_loop():
    """Against numpy in float64, one neighbourhood after the other."""
    size = pointset.Abstraction(5, 0.6, 3, 4)
    rng = np.random.default_rng(0)
    place = rng.uniform(-0.5, 0.5, (2, 12, 3)).astype(np.float32)
    features = rng.normal(size=(2, 12, 2)).astype(np.float32)
    near = pointset.locate(place, (size, LAYERS[-1]))
    where = near.chosen[0], near.near[0]
    layer = pointset.SetAbstraction(4)
    variables = layer.init(jax.random.key(0), place, features, where)
    centre, y = layer.apply(variables, place, features, where)
    kernel = np.float64(variables["params"]["Dense_0"]["kernel"])
    for b in range(2):
        chosen = farthest(place[b], 5)
        np.testing.assert_array_equal(centre[b], place[b, chosen])
        expected = abstracted(place[b], features[b], chosen, size, kernel)
        np.testing.assert_allclose(y[b], expected, rtol=1e-4, atol=1e-6)


def farthest(place, n):
    chosen, far = [0], np.full(len(place), 1e10)
    for _ in range(n - 1):
        far = np.minimum(far, ((place - place[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(far.argmax()))
    return chosen


def abstracted(place, features, chosen, size, kernel):
    rows = []
    for c in chosen:
        gap = ((place - place[c]) ** 2).sum(1)
        inside = np.flatnonzero(gap <= size.radius**2)[: size.neighbours]
        near = [place[inside] - place[c], features[inside]]
        # Statistics at their start: mean 0, variance 1.
        out = np.float64(np.concatenate(near, 1)) @ kernel
        rows.append(np.maximum(out.max(0) / np.sqrt(1 + 1e-5), 0))
    return np.stack(rows)


def propagated(fine, coarse, skip, features, kernel):
    rows = []
    for i, place in enumerate(fine):
        gap = ((coarse - place) ** 2).sum(1)
        nearest = np.argsort(gap, kind="stable")[:3]
        weight = 1 / (gap[nearest] + 1e-8)
        mixed = (weight / weight.sum()) @ features[nearest]
        out = np.concatenate([mixed, skip[i]]) @ kernel
        rows.append(np.maximum(out / np.sqrt(1 + 1e-5), 0))
    return np.stack(rows)


@pytest.fixture(scope="module")
def drawn():
    """Variables of the segmenter, whose weights are above rounding."""
    shapes = jax.eval_shape(SEGMENTER.init, jax.random.key(0), sets(0))
    shapes.pop("counts")
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[0].key == "batch_stats":
            ones = path[-1].key == "var"
            return np.full(leaf.shape, ones, np.float32)
        return rng.normal(size=leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def apply():
    return jax.jit(SEGMENTER.apply)


def test_a_segmentation_is_its_loop(drawn, apply):
    """Three abstractions, three propagations, a readout of every point."""
    params = jax.tree.map(np.float64, drawn["params"])
    kernel = {
        name: layer["Dense_0"]["kernel"]
        for name, layer in params.items()
        if name != "readout"
    }
    y = apply(drawn, sets(2))
    for b, cloud in enumerate(np.float64(sets(2))):
        place, category = cloud[:, :3], cloud[:, 3:]
        places, features = [place], [place]
        for i, size in enumerate(LAYERS[:2]):
            chosen = farthest(places[-1], size.points)
            weights = kernel[f"abstraction_{i}"]
            found = abstracted(places[-1], features[-1], chosen, size, weights)
            places.append(places[-1][chosen])
            features.append(found)
        whole = np.concatenate([places[-1], features[-1]], 1)
        out = (whole @ kernel["abstraction_2"]).max(0) / np.sqrt(1 + 1e-5)
        # One source is copied to everyone.
        state, at = np.maximum(out, 0)[None], places[-1][:1]
        skips = [np.concatenate([category, place, place], 1), *features[1:]]
        for i in range(3):
            fine = places[-1 - i]
            weights = kernel[f"propagation_{i}"]
            state = propagated(fine, at, skips[-1 - i], state, weights)
            at = fine
        head = params["readout"]
        expected = state @ head["kernel"] + head["bias"]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(y[b] / scale, expected / scale, atol=1e-5)


def test_what_is_located_once_stands_for_the_set(drawn, apply):
    where = jax.jit(SEGMENTER.locate)(sets(2))
    assert where.near[0].dtype == np.uint16
    assert [a.shape for a in where.chosen] == [(2, 6), (2, 3)]
    assert [a.shape for a in where.sources] == [
        (2, 3, 1),
        (2, 6, 3),
        (2, 12, 3),
    ]
    np.testing.assert_allclose(
        apply(drawn, where), apply(drawn, sets(2)), rtol=1e-5, atol=1e-5
    )


def test_the_columns_of_a_set():
    """Place, features, category; and images by their own scale."""
    inputs = pointset.Inputs(low=0.0, high=2.0, categories=2)
    x = jnp.arange(6.0).reshape(1, 1, 6)
    place, features, category = inputs.split(inputs.sets(x))
    assert (place[0, 0].tolist(), features[0, 0].tolist()) == ([0, 1, 2], [3])
    assert category[0, 0].tolist() == [4, 5]
    image = inputs.sets(jnp.array([0.0, 1.0, 2.0, 0.0]).reshape(1, 2, 2, 1))
    np.testing.assert_allclose(image[0, :, 0], [-1, 0, 1, -1])
    with pytest.raises(UsageError, match="at least 5 columns"):
        inputs.sets(x[..., :4])
