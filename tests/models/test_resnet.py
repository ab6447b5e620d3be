import jax
import numpy as np
import pytest

from jaxedge import models
from jaxedge.core.checks import UsageError
from jaxedge.models import resnet

SMALL = {
    "pad": models.ResNet(5, 8, channels=(2, 4, 7)),
    "conv": models.ResNet(5, 14, "conv", channels=(2, 3, 4), eps=1e-3),
    "same": models.ResNet(
        5,
        8,
        "conv",
        (2, 3, 4),
        padding="SAME",
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
    ),
}


def images(n, size=8):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (n, size, size, 3)).astype(np.float32)


@pytest.fixture(params=SMALL)
def small(request, trained):
    """(model, variables)"""
    model = SMALL[request.param]
    return model, trained(model, images(1))


@pytest.mark.parametrize(
    "depth, shortcut, count",
    # The first two are the published checkpoints' (He et al. round them to
    # .27 M and .85 M), the third adds kernels and normalisations of 16 x 32
    # and 32 x 64.
    [
        (20, "pad", 269_722),
        (56, "pad", 853_018),
        (20, "conv", 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)),
    ],
)
def test_the_papers_counts(depth, shortcut, count):
    model = models.ResNet(depth=depth, shortcut=shortcut)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images(1, 32))
    assert sum(a.size for a in jax.tree.leaves(shapes["params"])) == count


def forward(ref, model, variables, x):
    """The network in float64, with loops over blocks and no flax."""
    params, stats = variables["params"], variables["batch_stats"]

    def unit(x, *path, stride=1):
        p, s = params, stats
        for name in path:
            p, s = p[name], s[name]
        kernel = p["Conv_0"]["kernel"].astype(np.float64)
        if kernel.shape[0] == 3:
            # At even sizes and stride 2, "SAME" pads below and right alone.
            late = model.padding == "SAME" and stride == 2
            pads = (0 if late else 1, 1)
            x = np.pad(x, [(0, 0), pads, pads, (0, 0)])
        x = ref.conv(x, kernel)[:, ::stride, ::stride]
        p, s = (a["Norm_0"]["BatchNorm_0"] for a in (p, s))
        x = (x - s["mean"]) / np.sqrt(s["var"].astype(float) + model.eps)
        return x * p["scale"] + p["bias"]

    x = (x.astype(np.float64) - model.mean) / model.std
    x = ref.relu(unit(x, "Unit_0"))
    each = (model.depth - 2) // 6
    for i in range(3 * each):
        stride = 2 if i in (each, 2 * each) else 1
        y = ref.relu(unit(x, f"Block_{i}", "Unit_0", stride=stride))
        y = unit(y, f"Block_{i}", "Unit_1")
        if stride == 2 and model.shortcut == "conv":
            x = unit(x, f"Block_{i}", "Unit_2", stride=2)
        elif stride == 2:
            wide = np.zeros(y.shape)
            before = (y.shape[-1] - x.shape[-1]) // 2
            wide[..., before : before + x.shape[-1]] = x[:, ::2, ::2]
            x = wide
        x = ref.relu(x + y)
    head = params["Dense_0"]
    return x.mean((1, 2)) @ head["kernel"].astype(float) + head["bias"]


def test_forward_matches_float64(small, reference):
    model, variables = small
    want = forward(reference, model, variables, images(2))
    got = jax.jit(model.apply)(variables, images(2))
    np.testing.assert_allclose(
        got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max()
    )


def test_folding_is_exact(small):
    model, variables = small
    folded = resnet.fold(variables, model.eps)
    want = jax.jit(model.apply)(variables, images(2))
    got = jax.jit(model.clone(folded=True).apply)(folded, images(2))
    np.testing.assert_allclose(
        got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max()
    )
    assert not np.array_equal(
        folded["params"]["Unit_0"]["Conv_0"]["kernel"],
        variables["params"]["Unit_0"]["Conv_0"]["kernel"],
    )


def test_a_folded_network_has_the_variables_that_it_asks_for(small):
    model, variables = small
    folded = resnet.fold(variables, model.eps)
    other = model.clone(folded=True)
    shapes = jax.eval_shape(other.init, jax.random.key(0), images(1))
    asked = jax.tree.map(np.shape, shapes["params"])
    assert jax.tree.map(np.shape, folded["params"]) == asked
    with pytest.raises(UsageError, match="is folded already"):
        resnet.fold(folded, model.eps)


def test_folding_is_differentiable(trained):
    model = SMALL["pad"]
    variables = trained(model, images(1))

    def total(variables):
        folded = resnet.fold(variables, model.eps)
        return sum(a.sum() for a in jax.tree.leaves(folded))

    for grad in jax.tree.leaves(jax.jit(jax.grad(total))(variables)):
        assert np.isfinite(grad).all()


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"depth": 18}, "depth is 18, but must be 6 n . 2.*8, 20"),
        ({"depth": 2}, "depth is 2, but"),
        ({"shortcut": "pads"}, "shortcut 'pads'. Did you mean 'pad'"),
        ({"mean": (0.0,)}, "have 3 channels, but the network has 1 means"),
    ],
)
def test_bad_fields_are_refused(changes, match, key):
    with pytest.raises(UsageError, match=match):
        jax.eval_shape(models.ResNet(**changes).init, key, images(1))
