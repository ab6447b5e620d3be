"""A network on in-SRAM macros: what folding and clipping are worth."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from jaxedge import hardware as hw
from jaxedge.core import checks
from jaxedge.hardware import calibration, sram
from jaxedge.hardware.converters import Range

CHIPS = 100


@functools.cache
def trained():
    """A trained MLP 64-64-10, and 719 test images with their labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order] / 16, labels[order]
    net = MLPClassifier((64,), max_iter=300, tol=1e-3, random_state=0)
    # Threads that wait for each other take many times as long as one.
    with threadpool_limits(1):
        net.fit(images[:1078], labels[:1078])
    params = {
        f"layer_{i}": {"kernel": jnp.asarray(w, jnp.float32)}
        for i, w in enumerate(net.coefs_)
    }
    biases = [jnp.asarray(b, jnp.float32) for b in net.intercepts_]
    x = jnp.asarray(images[1078:], jnp.float32)
    return params, biases, x, labels[1078:], images[:256]


def network(params, biases, x, key=None):
    """Logits [B, 10]."""
    keys = (None, None) if key is None else jax.random.split(key)
    h = hw.dot(x, params["layer_0"]["kernel"], key=keys[0])
    h = jax.nn.relu(h + jnp.broadcast_to(biases[0], h.shape))
    y = hw.dot(h, params["layer_1"]["kernel"], key=keys[1])
    return y + jnp.broadcast_to(biases[1], y.shape)


def plan(config, **fields):
    """Inputs of each layer in the range of the training images."""
    params, biases, _, _, images = trained()
    hidden = hw.dot(
        jnp.asarray(images, jnp.float32), params["layer_0"]["kernel"]
    )
    hidden = jax.nn.relu(hidden + jnp.broadcast_to(biases[0], hidden.shape))
    tops = jnp.ones(()), jnp.percentile(hidden, 99.8)
    return hw.Plan.of(
        {
            f"layer_{i}": sram.Spec(
                config, input_range=Range(jnp.zeros(()), top), **fields
            )
            for i, top in enumerate(tops)
        }
    )


@functools.partial(jax.jit, static_argnames="noisy")
def accuracies(plan, keys, noisy=True):
    """Of every chip on the test images, [n]."""
    params, biases, x, labels, _ = trained()

    def one(key):
        chip_key, read = jax.random.split(key)
        chip = hw.deploy(chip_key, params, plan)
        y = network(chip, biases, x, read if noisy else None)
        return jnp.mean(y.argmax(-1) == labels)

    return jax.lax.map(one, keys)


deploy = jax.jit(hw.deploy)
KEYS = jax.random.split(jax.random.key(3), CHIPS)
MODES = {
    "base": (0, 27),
    "fold": (8, 14),
    "fold_clip": (8, 7),
}


@functools.cache
def on_chips(mode, path="exact"):
    fold, lsb = MODES[mode]
    config = sram.Config(fold=fold, lsb_units=lsb)
    return np.asarray(accuracies(plan(config, path=path), KEYS))


@pytest.mark.usefixtures("run_quickly")
def test_folding_and_clipping_each_pay_on_digits():
    base, fold, clip = (on_chips(mode, "fast") for mode in MODES)
    # The same chips and reads: 100 pairs.
    for less, more in ((base, fold), (fold, clip)):
        gain = more - less
        assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(CHIPS)
    # Four bits alone: no errors, and an LSB of one unit.
    exact = sram.Config(fold=0, lsb_units=1, out_bits=14)
    int4 = float(
        accuracies(plan(exact.without_errors()), KEYS[:1], noisy=False)[0]
    )
    assert int4 > 0.95
    for path in ("exact", "fast"):
        assert abs(on_chips("fold_clip", path).mean() - int4) < 0.01


def test_the_fast_path_on_chips():
    exact, fast = on_chips("fold_clip"), on_chips("fold_clip", "fast")
    # Two samples of the same law.
    error = np.sqrt((exact.var() + fast.var()) / CHIPS)
    assert abs(exact.mean() - fast.mean()) < 3 * error


def test_calibration_chooses_for_every_layer():
    params, biases, x, labels, images = trained()
    start = plan(sram.Config(), clip_rate=1e-3)

    def run(chip):
        return network(chip, biases, jnp.asarray(images, jnp.float32))

    found = calibration.calibrate(jax.random.key(0), params, start, run)
    chosen = {
        name: (int(s.config.fold), int(s.config.lsb_units))
        for name, s in zip(found.patterns, found.specs, strict=True)
    }
    assert len(chosen) == 2
    # Sparse inputs are folded little, and all LSBs are small.
    assert all(lsb < 7 and fold < 8 for fold, lsb in chosen.values())
    # By the fast path, whose law is that of the exact one.
    fast = [dataclasses.replace(s, path="fast") for s in found.specs]
    fast = dataclasses.replace(found, specs=tuple(fast))
    better = np.asarray(accuracies(fast, KEYS))
    assert better.mean() > on_chips("fold_clip", "fast").mean() - 0.002
    # What was chosen does not clip more than was asked for.
    chip = deploy(jax.random.key(1), params, found)
    shares = calibration.saturation(run, chip)
    assert set(shares) == {"layer_0/kernel", "layer_1/kernel"}
    assert all(0 <= share < 0.005 for share in shares.values())
    small = jax.tree.map(lambda n: n * 0 + 1, found.specs[0].config.lsb_units)
    config = dataclasses.replace(found.specs[0].config, lsb_units=small)
    loud = dataclasses.replace(found.specs[0], config=config)
    loud = dataclasses.replace(found, specs=(loud, found.specs[1]))
    with pytest.warns(UserWarning, match="layer_0/kernel"):
        calibration.saturation(run, deploy(KEYS[0], params, loud))


# sram_cim 6: sparse inputs are better off unfolded at equal LSB, uniform ones
# folded.
@pytest.mark.parametrize("sparse", [True, False])
def test_the_best_folding_point_depends_on_the_inputs(sparse):
    rng = np.random.default_rng(0)
    if sparse:
        x = np.round(4 * np.maximum(rng.normal(size=(512, 64)), 0))
        x, w = np.clip(x, 0, 15), np.round(2.2 * rng.normal(size=(64, 64)))
        w = np.clip(w, -7, 7)
    else:
        x = rng.integers(0, 16, (512, 64))
        w = rng.integers(-7, 8, (64, 64))
    config = sram.Config()
    grid = sram.explore(x, w, config)
    at = list(grid.lsbs).index(7)
    assert (grid.error[0, at] < grid.error[8, at]) == sparse
    for fold, lsb in ((0, 7), (8, 7), (8, 14)):
        one = sram.Config(fold=fold, lsb_units=lsb)
        said = grid.error[fold, list(grid.lsbs).index(lsb)]
        whole = sram.predict(x, w, one).total
        assert abs(float(said / whole) - 1) < 0.01
        # The mean drop of the lines, counted.
        products = np.abs((x - fold)[:, :, None] * w).sum(1)
        line = grid.line(config)[fold, list(grid.lsbs).index(lsb)]
        expected = products.mean() / 2 / (256 * lsb)
        assert abs(float(line) / expected - 1) < 0.01
    found = sram.choose(x, w, config, clip_rate=0.0)
    assert float(found.clipped) == 0
    assert float(found.error) ** 2 <= float(grid.error[8, at])
    more = sram.choose(x, w, config, clip_rate=0.01)
    assert float(found.clipped) <= float(more.clipped) <= 0.01
    assert float(more.error) <= float(found.error)


def test_a_larger_layer_is_cut_into_arrays():
    rng = np.random.default_rng(1)
    w = jnp.asarray(rng.normal(size=(150, 5)), jnp.float32)
    x = jnp.asarray(rng.uniform(size=(7, 150)), jnp.float32)
    limits = Range(jnp.zeros(()), jnp.ones(()))
    for packing in ("dense", "even"):
        config = sram.Config(fold=0, lsb_units=1, out_bits=14, packing=packing)
        spec = sram.Spec(config.without_errors(), input_range=limits)
        leaf = jax.jit(spec.program)(jax.random.key(0), w)
        assert leaf.layout.row_tiles == 3
        codes = np.round(np.asarray(x) * 15)
        top = np.abs(np.asarray(w)).max() / 7
        weights = np.round(np.asarray(w) / top)
        expected = codes @ weights * top / 15
        found = jax.jit(hw.dot)(x, leaf)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(
            leaf.weights(), weights * top, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"config": 3}, "config is 3, but must be a sram.Config"),
        ({"path": "slow"}, "unknown path 'slow'"),
        ({"scaling": "row"}, "unknown scaling 'row'"),
        ({"clip_rate": 1.5}, "clip_rate is 1.5"),
        ({"input_percentile": 0.0}, "input_percentile is 0.0"),
        ({"weight_clip": 0.0}, "weight_clip is 0.0"),
        ({"input_range": Range(*jnp.eye(2)[0])}, "input_range.lo is 1.0"),
        ({"config": sram.Config(lsb_units=3.5)}, "lsb_units is 3.5"),
    ],
)
def test_bad_designs(fields, says):
    with pytest.raises(checks.UsageError, match=says):
        hw.program(jax.random.key(0), jnp.ones((2, 2)), sram.Spec(**fields))


def test_shapes_must_fit():
    with pytest.raises(checks.UsageError, match="x_int has"):
        sram.explore(np.zeros((4, 3)), np.zeros((2, 2)), sram.Config())
    with pytest.raises(checks.UsageError, match="must be"):
        sram.explore(np.zeros(3), np.zeros((3, 2)), sram.Config())
