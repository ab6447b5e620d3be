"""Swin transformers beside those of other libraries.

vision/README.md tells where the networks come from.
"""

from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models import swin
from jaxedge.models.vit import Attention

pytestmark = pytest.mark.usefixtures("compile_quickly")

FOLDER = Path(__file__).parent / "vision"
TINY = swin.Swin(
    5, 32, 4, 8, (2, 2), (2, 4), 4, 2.0,
    mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
IMAGES = np.zeros((2, 32, 32, 3), np.float32)


def read(name):
    """Tensors, images and scores of a file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    x, y = arrays.pop("x"), arrays.pop("y")
    return {k.removeprefix("tensors/"): a for k, a in arrays.items()}, x, y


@pytest.fixture(scope="module")
def apply():
    return jax.jit(TINY.apply)


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_scores_are_those_of_other_libraries(library, apply):
    tensors, x, y = read(f"swin_{library}")
    got = apply(swin.from_torch(TINY, tensors), x)
    np.testing.assert_allclose(got, y, rtol=0, atol=2e-5 * np.abs(y).max())


def test_the_first_files_merge_at_the_end_of_a_stage():
    tensors, _, _ = read("swin_timm")
    renames = ("layers.1.downsample", "layers.0.downsample"), ("d.fc.", "d.")
    first = {}
    for name, array in tensors.items():
        for old, new in renames:
            name = name.replace(old, new)
        first[name] = array
    # Tables that these files hold beside what is learned.
    first["layers.0.blocks.1.attn_mask"] = np.zeros((4, 16, 16), np.float32)
    first["layers.0.blocks.0.attn.relative_position_index"] = np.eye(16)
    got = swin.from_torch(TINY, first)
    want = swin.from_torch(TINY, tensors)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_the_published_count():
    shapes = jax.eval_shape(
        swin.swin_tiny().init,
        jax.random.key(0),
        np.zeros((1, 224, 224, 3), np.float32),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    # What timm and torchvision count.
    assert count == 28_288_354


def test_sites_are_within_windows():
    seen = {}

    def record(following, args, kwargs, context):
        if isinstance(context.module, Attention):
            seen[context.module.path[0]] = args[0].shape
        return following(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(TINY.init, jax.random.key(0), IMAGES)
    # 8 x 8 tokens of 8 in four windows, then 4 x 4 of 16 in one.
    assert seen == {
        "block_0_0": (2, 4, 16, 8),
        "block_0_1": (2, 4, 16, 8),
        "block_1_0": (2, 1, 16, 16),
        "block_1_1": (2, 1, 16, 16),
    }


def test_images_need_not_be_square(key):
    model = TINY.clone(image=(32, 16), depths=(2,), heads=(2,))
    x = np.random.default_rng(0).normal(size=(1, 32, 16, 3)).astype("f4")
    variables = jax.jit(model.init)(key, x)
    # 8 x 4 tokens: windows are shifted along the height alone, by 2. The last
    # two rows and the first two are in a window, but do not meet.
    params = variables["params"]["block_0_1"]
    assert params["position_embedding"].shape == (49, 2)
    apart = swin._apart((8, 4), (4, 4), (2, 0))
    assert apart.shape == (2, 16, 16) and not apart[0].any()
    upper = np.arange(16) < 8
    np.testing.assert_array_equal(apart[1] != 0, upper[:, None] != upper[None])
    assert np.isfinite(jax.jit(model.apply)(variables, x)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": (2,)}, r"depths are \(2, 2\) and heads \(2,\)"),
        ({"heads": (3, 4)}, "a width of 8 is no multiple of 3 heads"),
        ({"window": 3}, "window is 3, but must divide the 8 x 8 tokens of st"),
        ({"patch": 7}, "image is 32, but must be a multiple of the patch, 7"),
        ({"image": 64}, r"\(2, 32, 32, 3\), but must be \[B, 64, 64, C\]"),
        ({"patch": 32}, "stage 1 has 1 x 1 tokens, of which no two by two"),
        ({"depths": (2, 0)}, "depths is 0, but must lie in"),
        ({"drop_path": -0.1}, "drop_path is -0.1, but must lie in"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, message):
    model = TINY.clone(**changes)
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)


def test_tensors_that_do_not_fit_are_named():
    tensors, _, _ = read("swin_torchvision")
    name = "features.2.reduction.weight"
    gone = {k: a for k, a in tensors.items() if k != name}
    with pytest.raises(UsageError, match=rf"\(torchvision\) lack {name}"):
        swin.from_torch(TINY, gone)
    tensors[name] = tensors[name].T
    with pytest.raises(UsageError, match=rf"{name} \(32, 16\) for params/merg"):
        swin.from_torch(TINY, tensors)
