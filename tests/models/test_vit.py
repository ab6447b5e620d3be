"""Vision transformers beside those of other libraries.

vision/README.md tells where the networks come from.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models import vit

pytestmark = pytest.mark.usefixtures("compile_quickly")

FOLDER = Path(__file__).parent / "vision"
TINY = vit.Vit(
    5, 16, 8, 8, 2, 2, 2.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)
IMAGES = np.zeros((2, 16, 16, 3), np.float32)


def read(name):
    """Tensors, images and scores of a file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    prefix = "tensors/"
    return (
        {
            key.removeprefix(prefix): array
            for key, array in arrays.items()
            if key.startswith(prefix)
        },
        arrays["x"],
        arrays["y"],
    )


@pytest.fixture(scope="module")
def apply():
    return jax.jit(TINY.apply)


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_scores_are_those_of_other_libraries(library, apply):
    tensors, x, y = read(f"vit_{library}")
    got = apply(vit.from_torch(TINY, tensors), x)
    np.testing.assert_allclose(got, y, rtol=0, atol=2e-5 * np.abs(y).max())


def count(model, image):
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.zeros(image, np.float32)
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("model", "want"),
    # What timm counts.
    [(vit.deit_tiny(), 5_717_416), (vit.deit_small(), 22_050_664)],
)
def test_published_counts(model, want):
    assert count(model, (1, 224, 224, 3)) == want


def test_a_mean_over_patches_needs_no_token():
    mean = TINY.clone(pool="mean")
    # A token and its position.
    assert count(TINY, IMAGES.shape) - count(mean, IMAGES.shape) == 2 * 8
    tensors, x, _ = read("vit_timm")
    variables = vit.from_torch(TINY, tensors)["params"]
    variables.pop("token")
    variables["position_embedding"] = variables["position_embedding"][1:]
    # Without a way from one patch to the next all that counts is the set.
    for block in ("block_0", "block_1"):
        out = variables[block]["attention"]["out"]
        out["kernel"] = np.zeros_like(out["kernel"])
    variables["position_embedding"] *= 0
    run = jax.jit(mean.apply)
    turned = np.concatenate([x[:, 8:], x[:, :8]], 1)
    y = run({"params": variables}, x)
    np.testing.assert_allclose(
        run({"params": variables}, turned), y, rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(y[0], y[1], atol=1e-2)


class Halves:
    """A leaf of a site that halves what passes, and nothing else."""

    def __init__(self, seen):
        self.seen = seen

    def apply(self, x):
        self.seen.append(x.shape)
        return x / 2


def test_leaves_are_met_at_their_sites():
    tensors, x, _ = read("vit_timm")
    variables = vit.from_torch(TINY, tensors)
    seen = []
    attention = variables["params"]["block_0"]["attention"]
    exact = TINY.apply(variables, x)
    # Queries and keys by 2 are scores by 4; halved values are undone behind.
    for name in ("query", "key"):
        attention[f"{name}_site"] = Halves(seen)
        for leaf in ("kernel", "bias"):
            attention[name][leaf] = attention[name][leaf] * 2
    for name in ("value_site", "prob_site"):
        attention[name] = Halves(seen)
    attention["out"]["kernel"] = attention["out"]["kernel"] * 4
    got = TINY.apply(variables, x)
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-5)
    tokens, heads, size = 5, 2, 4
    each = (2, heads, tokens, size)
    assert seen == [each, each, each, (2, heads, tokens, tokens)]


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_parts_are_left_out_in_training_only(rate, key):
    model = TINY.clone(drop_path=rate)
    tensors, x, _ = read("vit_timm")
    variables = vit.from_torch(TINY, tensors)
    # Of the two blocks the first has a rate of 0.
    many = np.repeat(x[:1], 64, 0)
    exact = model.apply(variables, many[:2])
    if not rate:
        got = model.apply(variables, many[:2], train=True)
        np.testing.assert_array_equal(got, exact)
        return
    train = jax.jit(
        lambda k: model.apply(variables, many, train=True, rngs={"dropout": k})
    )
    got = np.asarray(train(key))
    # With each of two parts kept or not an example has one of four outputs:
    # that none of 64 examples has one of them has a chance of 4 (3 / 4)^64,
    # 4e-8.
    assert len(np.unique(got.round(3), axis=0)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "a width of 8 is no multiple of 3 heads"),
        ({"patch": 5}, "image is 16, but must be a multiple of the patch, 5"),
        ({"image": 24}, r"\(2, 16, 16, 3\), but must be \[B, 24, 24, C\]"),
        ({"pool": "first"}, "unknown pool 'first'.*mean, token"),
        ({"depth": 0}, "depth is 0, but must lie in"),
        ({"drop_path": 1.0}, "drop_path is 1.0, but must lie in"),
        ({"mean": (0.5,), "std": (1.0,)}, "have 3 channels, but the network"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, message):
    model = TINY.clone(**changes)
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)


NORM = "blocks.1.norm2.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NORM), rf"\(timm\) lack {NORM}; check that"),
        (
            lambda t: t.update({NORM: np.ones(7, np.float32)}),
            rf"do not fit the network: {NORM} \(7,\) for params/block_1/mlp_n",
        ),
        (
            lambda t: t.update({"head_dist.bias": np.ones(5, np.float32)}),
            r"have no place in the network for head_dist.bias",
        ),
        (
            lambda t: t.update({NORM: np.ones(8, np.int8)}),
            f"{NORM} is int8, but must be floating-point",
        ),
        (
            lambda t: t.update({NORM: np.full(8, np.nan, np.float32)}),
            f"{NORM} holds 8 NaN",
        ),
        (lambda t: t.clear(), r"\(none\) are of no known network; .* \(timm\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message):
    tensors, _, _ = read("vit_timm")
    change(tensors)
    with pytest.raises(UsageError, match=message):
        vit.from_torch(TINY, tensors)
