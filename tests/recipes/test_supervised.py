import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxedge import data, models
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices, sram
from jaxedge.recipes import optimizers, supervised

EXAMPLE = jnp.ones((1, 4, 1, 1))


def softmax_gradient(kernel, x, y):
    """(loss, gradient of the mean loss) of logits x W, in float64."""
    x = np.asarray(x, np.float64).reshape(len(y), -1)
    logits = x @ kernel
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    hot = np.eye(kernel.shape[1])[y]
    return -np.log((p * hot).sum(1)).mean(), x.T @ (p - hot) / len(y)


def kernel_of(learned):
    return np.asarray(learned["Dense_0"]["kernel"], np.float64)


def linear(optimiser, **options):
    rule = supervised.weights_rule()
    return supervised.make(
        models.Mlp((3,)), EXAMPLE, rule, optimiser, **options
    )


def test_labels_of_positions_are_counted_one_by_one(key):
    logits = jax.random.normal(key, (3, 4, 5))
    y = np.array([[0, 1, -1, 4], [-1, -1, -1, 2], [3, 3, 3, 3]])
    weight = np.array([1, 1, 0], np.float32)  # The last row is padding.
    batch = data.Batch(np.zeros(0), jnp.asarray(y), jnp.asarray(weight))
    sums = supervised.cross_entropy(logits, batch)
    rows = np.asarray(logits, np.float64)[:2][y[:2] >= 0]
    known = y[:2][y[:2] >= 0]
    log_p = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    loss = -log_p[np.arange(4), known].sum()
    assert sums["count"] == 4
    assert sums["accuracy"] == (rows.argmax(1) == known).sum()
    np.testing.assert_allclose(sums["loss"], loss, rtol=1e-6)


def test_steps_match_numpy(key, batch):
    rate, momentum, decay, epochs = 0.5, 0.9, 5e-4, 3
    sgd = optimizers.make(
        optimizers.Optimizer(rate, momentum, decay), epochs, 2
    )
    recipe = linear(sgd)
    state = recipe.init(key)
    update = jax.jit(recipe.update)
    want, buffer = kernel_of(state.learned), 0
    for step in range(2 * epochs):
        x, y = batch(step)[:2]
        loss, gradient = softmax_gradient(want, x, y)
        buffer = momentum * buffer + gradient + decay * want
        epoch = step // 2
        want = want - rate * (1 + np.cos(np.pi * epoch / epochs)) / 2 * buffer
        state, sums = update(state, batch(step))
        np.testing.assert_allclose(kernel_of(state.learned), want, rtol=1e-4)
        np.testing.assert_allclose(sums["loss"] / len(y), loss, rtol=1e-5)
        assert sums["count"] == len(y) and state.step == step + 1
    assert epoch == 2  # The rate has changed twice.


def test_smoothed_labels_move_the_step_and_not_the_loss(key, batch):
    plain, smooth = (
        linear(optax.sgd(1.0), smoothing=share) for share in (0.0, 0.3)
    )
    state, (x, y) = plain.init(key), batch(0)[:2]
    kernel = np.asarray(kernel_of(state.learned), np.float64)
    after, sums = smooth.update(state, batch(0))
    loss, _ = softmax_gradient(kernel, x, y)
    np.testing.assert_allclose(sums["loss"] / len(y), loss, rtol=1e-5)
    # d/dz of the cross-entropy with a target q is p - q.
    x = np.asarray(x, np.float64).reshape(len(y), -1)
    p = np.exp(x @ kernel)
    p /= p.sum(1, keepdims=True)
    q = 0.7 * np.eye(p.shape[1])[np.asarray(y)] + 0.3 / p.shape[1]
    want = kernel - x.T @ (p - q) / len(y)
    np.testing.assert_allclose(kernel_of(after.learned), want, rtol=1e-4)


def test_targets_of_a_batch_are_learned_instead_of_labels(key, batch):
    recipe = linear(optax.sgd(1.0))
    state, (x, y) = recipe.init(key), batch(0)[:2]
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(3), len(y)).astype(np.float32)
    after, sums = recipe.update(state, batch(0)._replace(target=jnp.asarray(q)))
    kernel = kernel_of(state.learned)
    loss, _ = softmax_gradient(kernel, x, y)
    np.testing.assert_allclose(sums["loss"] / len(y), loss, rtol=1e-5)
    x = np.asarray(x, np.float64).reshape(len(y), -1)
    p = np.exp(x @ kernel)
    p /= p.sum(1, keepdims=True)
    want = -(q * np.log(p)).sum()
    np.testing.assert_allclose(sums["objective"], want, rtol=1e-5)
    want = kernel - x.T @ (p - q) / len(y)
    np.testing.assert_allclose(kernel_of(after.learned), want, rtol=1e-4)


def test_the_average_is_the_network_in_the_end(key, batch):
    recipe = linear(optax.sgd(0.5), average=0.8)
    state, update = recipe.init(key), jax.jit(recipe.update)
    want = kernel_of(state.learned)
    for step in range(4):
        state, _ = update(state, batch(step))
        want = 0.8 * want + 0.2 * kernel_of(state.learned)
    found = kernel_of(recipe.finish(state)["params"])
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    assert np.abs(found - kernel_of(state.learned)).max() > 1e-3


def test_bfloat16_activations_move_weights_of_float32(key, batch):
    steps = {}
    for dtype in ("float32", "bfloat16"):
        recipe = linear(optax.sgd(0.5), dtype=dtype)
        state, _ = recipe.update(recipe.init(key), batch(0))
        kernel = state.learned["Dense_0"]["kernel"]
        assert kernel.dtype == jnp.float32
        steps[dtype] = kernel_of(state.learned) - kernel_of(
            recipe.init(key).learned
        )
    apart = np.abs(steps["bfloat16"] - steps["float32"]).max()
    # 8 bits of a product: other than in float32, and by a per cent at most.
    assert 0 < apart < 0.01 * np.abs(steps["float32"]).max()


def test_padded_rows_weigh_nothing(key, batch):
    recipe = linear(optax.sgd(1.0))
    state = recipe.init(key)
    full = batch(0)
    half = full._replace(weight=full.weight.at[10:].set(0))
    # What stands in a padded row is of no matter.
    other = half._replace(
        x=half.x.at[10:].set(9), y=(half.y + jnp.arange(20) // 10) % 3
    )
    evaluate, update = jax.jit(recipe.evaluate), jax.jit(recipe.update)
    kernel = kernel_of(state.learned)
    for part, n in ((full, 20), (half, 10), (other, 10)):
        x, y = np.asarray(part.x)[:n], np.asarray(part.y)[:n]
        loss, gradient = softmax_gradient(kernel, x, y)
        sums = evaluate(recipe.finish(state), part)
        assert sums["count"] == n
        np.testing.assert_allclose(sums["loss"], n * loss, rtol=1e-5)
        right = np.argmax(x.reshape(n, -1) @ kernel, 1) == y
        assert sums["accuracy"] == right.sum()
        learned = kernel_of(update(state, part)[0].learned)
        np.testing.assert_allclose(learned, kernel - gradient, rtol=1e-4)


def test_chips_of_every_age_are_trained_on(key, batch):
    """A cell that halves in time tells the age that each step has seen."""
    device = devices.get(
        "pcm_nandakumar2019", write_error=0.0, flicker=0.0, t0=1.0, drift=5.0
    )
    spec = crossbar.Spec(device, seconds=1e6)
    placement = supervised.place("aged_chips", spec, False)
    one = linear(optax.sgd(0.0), placement=placement)
    _, losses = jax.lax.scan(
        lambda state, _: one.update(state, batch(0)), one.init(key), length=8
    )
    assert np.unique(losses["loss"]).size == 8

    def loss(seconds):
        fixed = dataclasses.replace(spec, seconds=seconds)
        recipe = linear(
            optax.sgd(0.0), placement=supervised.place("one_chip", fixed, False)
        )
        return recipe.update(recipe.init(key), batch(0))[1]["loss"]

    ends = sorted(float(loss(t)) for t in (0.0, 1e6))
    spread = 0.2 * (ends[1] - ends[0])  # Chips differ in their drift.
    assert ends[0] - spread < losses["loss"].min()
    assert losses["loss"].max() < ends[1] + spread
    with pytest.raises(UsageError, match="give the greatest age"):
        supervised.place("aged_chips", crossbar.Spec(device), False)
    # Chips of hardware that does not age are fresh at any time.
    placement = supervised.place("aged_chips", sram.Spec(), False)
    assert placement.fresh and not placement.aged


@pytest.mark.parametrize("fresh", [False, True])
def test_hardware_in_the_loop(key, batch, fresh):
    def recipe(program_noise, read_noise):
        device = devices.Programmed(
            program_noise=program_noise, read_noise=read_noise
        )
        placement = supervised.Placement(crossbar.Spec(device), fresh)
        # Nothing is learned, so that only the hardware can change the loss.
        return linear(optax.sgd(0.0), placement=placement)

    @jax.jit
    def losses(key, program_noise, read_noise):
        one = recipe(program_noise, read_noise)
        _, sums = jax.lax.scan(
            lambda state, _: one.update(state, batch(0)),
            one.init(key),
            length=4,
        )
        return sums["loss"]

    ideal, chips, reads = (
        losses(key, *noise) for noise in ((0.0, 0.0), (0.1, 0.0), (0.0, 0.1))
    )
    np.testing.assert_array_equal(ideal, ideal[0])
    assert len(set(chips.tolist())) == (4 if fresh else 1)
    assert abs(chips[0] - ideal[0]) > 1e-3  # The one chip is a noisy one.
    assert len(set(reads.tolist())) == 4  # A read is always another one.
    # The chip belongs to the key of the run.
    np.testing.assert_array_equal(losses(key, 0.1, 0.0), chips)
    assert losses(jax.random.key(1), 0.1, 0.0)[0] != chips[0]


def test_steps_see_other_squares_of_their_images(key):
    """A sum of all pixels is learned from the squares that were cut."""
    crop = supervised.crops(2, (4, 4, 1))
    assert crop is not None
    seen = []

    def augment(key, batch):
        batch = crop(key, batch)
        seen.append(batch.x.shape)
        return batch

    recipe = supervised.make(
        models.Mlp((3,)),
        jnp.ones((1, 2, 2, 1)),
        supervised.weights_rule(),
        optax.sgd(0.0),
        augment=augment,
    )
    x = jax.random.normal(key, (20, 4, 4, 1))
    batch = data.Batch(x, jnp.zeros(20, jnp.int32), jnp.ones(20))
    state, update = recipe.init(key), jax.jit(recipe.update)
    following, first = update(state, batch)
    _, again = update(state, batch)
    _, second = update(following, batch)
    assert seen == [(20, 2, 2, 1)]
    assert first["loss"] == again["loss"] != second["loss"]


def test_only_images_as_large_are_cut():
    assert supervised.crops(None, (4,)) is None
    for shape in ((4, 3, 1), (16,)):
        with pytest.raises(UsageError, match="data.crop is 4, but the inputs"):
            supervised.crops(4, shape)
