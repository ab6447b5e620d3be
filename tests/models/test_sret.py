"""Recursive transformers beside the published forward pass, in numpy."""

import math

import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.models import sret

pytestmark = pytest.mark.usefixtures("compile_quickly")

# 4 x 4 tokens of 4, then 2 x 2 of 8; every option differs between the stages.
TINY = sret.Sret(
    3, 32, 2, (2, 4), (4, 2), (2, 1), (4, 1), (2, 1), 1.5, 1.0,
    mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
IMAGES = np.zeros((2, 32, 32, 3), np.float32)


@pytest.fixture(scope="module")
def tensors():
    """Random numbers by the names and in the shapes of the published code."""
    rng = np.random.default_rng(0)
    found = {}

    def draw(name, *shape, mean=0.0):
        std = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.3
        found[name] = rng.normal(mean, std, shape).astype(np.float32)

    def norm(name, width, batch=False):
        draw(f"{name}.weight", width, mean=1.0)
        draw(f"{name}.bias", width)
        if batch:
            draw(f"{name}.running_mean", width)
            var = rng.uniform(0.5, 2, width)
            found[f"{name}.running_var"] = var.astype(np.float32)
            found[f"{name}.num_batches_tracked"] = np.int64(7)

    def linear(name, outputs, *inputs):
        draw(f"{name}.weight", outputs, *inputs)
        draw(f"{name}.bias", outputs)

    def part(at, width, hidden, weights):
        norm(f"{at}.norm{weights // 2}", width)
        linear(f"{at}.mlp.fc1", hidden, width)
        linear(f"{at}.mlp.fc2", width, hidden)
        for i in range(weights):
            draw(f"{at}.coefficient{i + 1}.bias", 1, mean=1.0)

    for i, (outputs, inputs) in enumerate([(2, 3), (4, 2), (4, 4)]):
        linear(f"patch_embed.conv{i + 1}", outputs, inputs, 3, 3)
        norm(f"patch_embed.bn{i + 1}", outputs, batch=True)
    draw("pos_embed", 1, 4, 4, 4)
    linear("pools.0.conv", 8, 1, 3, 3)
    for stage, (depth, blocks, width) in enumerate([(4, 2, 4), (2, 1, 8)]):
        at = f"transformers.{stage}.blocks"
        for i in range(depth):
            part(f"{at}.{2 * i + 1}", width, width, 2)
        uses = depth // blocks
        for i in range(blocks):
            first = f"{at}.{2 * uses * i}"
            norm(f"{first}.norm1", width)
            linear(f"{first}.attn.qkv", 3 * width, width)
            linear(f"{first}.attn.proj", width, width)
            part(first, width, int(1.5 * width), 4)
            again = f"{at}.{2 * uses * i + 2}"
            for name in [n for n in found if n.startswith(f"{first}.")]:
                found[name.replace(first, again)] = found[name]
    norm("norm", 8)
    linear("head", 3, 8)
    return found


def forward(ref, tensors, x):
    """The published network in float64, from tensors by their names.

    Where that shuffles tokens, every second one is in a group.
    """
    t = {name: np.asarray(a, np.float64) for name, a in tensors.items()}

    def linear(name, a):
        return a @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(name, a):
        centred = a - a.mean(-1, keepdims=True)
        std = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return centred / std * t[f"{name}.weight"] + t[f"{name}.bias"]

    def mlp(at, a):
        a = linear(f"{at}.mlp.fc1", a)
        erf = np.vectorize(math.erf)
        return linear(f"{at}.mlp.fc2", a * (1 + erf(a / math.sqrt(2))) / 2)

    def attention(at, a, heads, groups):
        width = a.shape[-1]
        qkv = linear(f"{at}.attn.qkv", a)
        y = np.zeros_like(a)
        for group in groups:
            for head in np.split(np.arange(width), heads):
                q, k, v = (
                    qkv[:, group][..., i * width + head] for i in range(3)
                )
                score = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(len(head)))
                share = score / score.sum(-1, keepdims=True)
                y[:, group, head[0] : head[-1] + 1] = share @ v
        return linear(f"{at}.attn.proj", y)

    def stage(number, a, heads, groups, regroups):
        tokens = np.arange(a.shape[1])
        names = {n.split(".")[3] for n in t if f"transformers.{number}." in n}
        for i in range(len(names)):
            at = f"transformers.{number}.blocks.{i}"
            one, two, *more = (
                t[f"{at}.coefficient{j}.bias"]
                for j in range(1, 3 if i % 2 else 5)
            )
            if i % 2:
                a = one * a + two * mlp(at, norm(f"{at}.norm1", a))
                continue
            first = i % 4 == 0
            sets = (
                np.split(tokens, groups)
                if first
                else [tokens[j::regroups] for j in range(regroups)]
            )
            y = attention(at, norm(f"{at}.norm1", a), heads, sets)
            a = one * a + two * y
            three, four = more
            a = three * a + four * mlp(at, norm(f"{at}.norm2", a))
        return a

    def conv(name, a, each=False):
        kernel = t[f"{name}.weight"].transpose(2, 3, 1, 0)
        a = np.pad(a, [(0, 0), (1, 1), (1, 1), (0, 0)])
        if each:  # Two outputs of every channel.
            parts = [
                ref.conv(a[..., o // 2, None], kernel[..., o, None], (2, 2))
                for o in range(kernel.shape[-1])
            ]
            return np.concatenate(parts, -1) + t[f"{name}.bias"]
        return ref.conv(a, kernel, (2, 2)) + t[f"{name}.bias"]

    for i in (1, 2, 3):
        x = conv(f"patch_embed.conv{i}", x)
        at = f"patch_embed.bn{i}"
        x = (x - t[f"{at}.running_mean"]) / np.sqrt(
            t[f"{at}.running_var"] + 1e-5
        )
        x = ref.relu(x * t[f"{at}.weight"] + t[f"{at}.bias"])
    x = x + t["pos_embed"].transpose(0, 2, 3, 1)
    x = stage(0, x.reshape(2, 16, 4), 2, 4, 2).reshape(2, 4, 4, 4)
    x = conv("pools.0.conv", x, each=True)
    x = stage(1, x.reshape(2, 4, 8), 4, 1, 1)
    return linear("head", norm("norm", x.mean(1)))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return rng.normal(size=IMAGES.shape).astype(np.float32)


def test_scores_are_those_of_the_published_pass(tensors, images, reference):
    variables = sret.from_torch(TINY, tensors)
    got = jax.jit(TINY.apply)(variables, images)
    want = forward(reference, tensors, images.astype(float))
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


def test_vvtqs_files_have_queries_keys_and_values_apart(tensors):
    apart = {}
    for name, array in tensors.items():
        if ".qkv." not in name:
            apart[name] = array
            continue
        for part, third in zip("qkv", np.split(array, 3), strict=True):
            apart[name.replace("qkv", f"proj_{part}")] = third
    got = sret.from_torch(TINY, apart)
    want = sret.from_torch(TINY, tensors)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_uses_of_a_block_that_differ_are_named(tensors):
    name = "transformers.0.blocks.2.mlp.fc1.bias"
    tensors = {**tensors, name: tensors[name] + 1}
    with pytest.raises(UsageError, match=rf"have no place .* {name}; check"):
        sret.from_torch(TINY, tensors)


def test_the_published_count():
    shapes = jax.eval_shape(
        sret.sret_tiny().init,
        jax.random.key(0),
        np.zeros((1, 224, 224, 3), np.float32),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))

    def norm(width):
        return 2 * width

    def dense(inputs, outputs):
        return (inputs + 1) * outputs

    # Convolutions with norms, positions, pools, norm and classifier.
    want = dense(27, 32) + dense(9 * 32, 64) + dense(9 * 64, 64)
    want += norm(32) + 2 * norm(64) + 28 * 28 * 64
    want += dense(9, 128) + dense(9, 256) + norm(256) + dense(256, 1000)
    for width, hidden, blocks, uses in [
        (64, 230, 2, 4),
        (128, 460, 5, 10),
        (256, 921, 3, 6),
    ]:
        block = 4 * dense(width, width) + 2 * norm(width) + 4
        block += dense(width, hidden) + dense(hidden, width)
        behind = 2 * dense(width, width) + norm(width) + 2
        want += blocks * block + uses * behind
    assert count == want
    assert round(count / 1e6, 1) == 4.8  # As its page has it.


@pytest.mark.parametrize("order", [None, [3, 0, 5, 1, 2, 4]])
@pytest.mark.parametrize("spread", [False, True])
def test_groups_are_joined_as_they_were(spread, order):
    order = None if order is None else np.array(order)
    groups = sret.Groups(3, spread, order)
    x = np.arange(6.0).reshape(1, 6, 1)
    parts = np.asarray(groups.split(x))[0, :, :, 0]
    mixed = np.arange(6) if order is None else order
    want = mixed.reshape(2, 3).T if spread else mixed.reshape(3, 2)
    np.testing.assert_array_equal(parts, want)
    np.testing.assert_array_equal(groups.join(groups.split(x)), x)


def test_training_shuffles_and_leaves_parts_out(tensors, images):
    variables = sret.from_torch(TINY, tensors)
    model = TINY.clone(shuffle=True)

    @jax.jit
    def train(key):
        y, _ = model.apply(
            variables, images, train=True, rngs={"dropout": key},
            mutable=["batch_stats"],
        )  # fmt: skip
        return y

    one, two = (train(jax.random.key(seed)) for seed in (0, 1))
    assert np.isfinite(one).all() and (one != two).any()
    np.testing.assert_array_equal(train(jax.random.key(0)), one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"groups": (3, 1)},
            r"groups are \(3, 1\), but must divide the 16 tok",
        ),
        ({"regroups": (2, 3)}, "regroups are .*, but must divide the 4 tokens"),
        ({"blocks": (3, 1)}, r"depths are \(4, 2\), but must be multiples of"),
        (
            {"depths": (4,)},
            r"depths is \(4,\), but must have a number for each",
        ),
        ({"heads": (2, 3)}, r"heads are \(2, 3\), but each must be a multiple"),
        ({"head_size": 1, "heads": (3, 3)}, "head_size is 1 and the first sta"),
        ({"image": 36}, "image is 36, but must be a multiple of the patch, 8"),
        ({"image": 64}, r"\(2, 32, 32, 3\), but must be \[B, 64, 64, C\]"),
        ({"drop_path": 1.0}, "drop_path is 1.0, but must lie in"),
        ({"between": 0.0}, "between is 0.0, but must lie in"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, message):
    model = TINY.clone(**changes)
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)
