"""Critics, their penalties and constraints, in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.learn import wasserstein

pytestmark = pytest.mark.usefixtures("compile_quickly")

B, H, W, C = 5, 4, 3, 2
IMAGES, ROWS = (B, H, W, C), (B, 7)


@pytest.fixture
def double():
    """JAX with float64, for one test."""
    with jax.enable_x64(True):
        yield


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def linear(w, x):
    """f = w . x, whose slope is |w| everywhere."""
    return jnp.sum(x * w[None], axis=tuple(range(1, x.ndim)))


def quadratic(w, x):
    """f = sum of w x^2 / 2, whose gradient is w x."""
    return linear(w, jnp.square(x)) / 2


def penalty(critic, w, x, key, **given):
    """At known points: between samples that are the same."""
    return wasserstein.gradient_penalty(
        lambda x: critic(w, x), x, x, key, **given
    )


# Losses.


def test_losses_are_differences_of_means():
    w, real, fake = draw(*IMAGES[1:]), draw(*IMAGES), draw(*IMAGES, seed=1)
    flat = [np.float64(a).reshape(-1, w.size) for a in (w, real, fake)]
    of_real, of_fake = (np.mean(a @ flat[0][0]) for a in flat[1:])
    for critic in (linear, lambda w, x: linear(w, x)[:, None]):
        f = functools.partial(critic, w)
        np.testing.assert_allclose(
            wasserstein.critic_loss(f, real, fake), of_fake - of_real, rtol=1e-5
        )
        np.testing.assert_allclose(
            wasserstein.generator_loss(f, fake), -of_fake, rtol=1e-5
        )


def test_losses_have_the_gradients_of_means():
    w, real, fake = draw(*IMAGES[1:]), draw(*IMAGES), draw(*IMAGES, seed=1)

    def loss(w, fake):
        return wasserstein.critic_loss(lambda x: linear(w, x), real, fake)

    by_w, by_fake = jax.grad(loss, (0, 1))(w, fake)
    expected = np.float64(fake).mean(0) - np.float64(real).mean(0)
    np.testing.assert_allclose(by_w, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_fake[3], w / B, rtol=1e-6)


def test_the_best_linear_critic_finds_a_shift():
    """Two sets of one shape are as far apart as they are shifted."""
    real, shift = draw(*ROWS), np.float32([3, 4, 0, 0, 0, 0, 0])
    loss = wasserstein.critic_loss(
        lambda x: x @ (-shift / 5), real, real + shift
    )
    np.testing.assert_allclose(-loss, 5, rtol=1e-5)


# The gradient penalty.


@pytest.mark.parametrize("shape", [ROWS, (B, H, C), IMAGES])
def test_a_linear_critic_has_its_norm_as_slope(shape, key):
    w, x = draw(*shape[1:], seed=2), draw(*shape)
    size = np.linalg.norm(np.float64(w))
    f = functools.partial(linear, w)
    fake = draw(*shape, seed=1)
    found = wasserstein.gradient_penalty(f, x, fake, key)
    np.testing.assert_allclose(found, (size - 1) ** 2, rtol=1e-5)
    np.testing.assert_allclose(
        wasserstein.slopes(f, x), np.full(B, size), rtol=1e-6
    )


@pytest.mark.parametrize("target", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("one_sided", [False, True])
def test_targets_and_sides(target, one_sided, key):
    w, x = draw(*ROWS[1:]), draw(*ROWS)
    size = np.linalg.norm(np.float64(w))
    given = {"target": target, "one_sided": one_sided}
    value, slope = jax.value_and_grad(
        lambda w: penalty(linear, w, x, key, **given)
    )(w)
    excess = max(0, size - target) if one_sided else size - target
    np.testing.assert_allclose(value, excess**2, rtol=1e-5)
    np.testing.assert_allclose(slope, 2 * excess * w / size, rtol=1e-5)


def test_every_sample_has_its_own_slope(key):
    w, x = draw(*IMAGES[1:], seed=2), draw(*IMAGES)
    gradient = (np.float64(w) * np.float64(x)).reshape(B, -1)
    sizes = np.sqrt((gradient**2).sum(1))
    f = functools.partial(quadratic, w)
    np.testing.assert_allclose(wasserstein.slopes(f, x), sizes, rtol=1e-5)
    found = wasserstein.gradient_penalty(f, x, x, key)
    np.testing.assert_allclose(found, ((sizes - 1) ** 2).mean(), rtol=1e-5)


def test_the_released_form_has_a_slope_for_each_column(key):
    w, x = draw(*IMAGES[1:], seed=2), draw(*IMAGES)
    gradient = np.float64(w) * np.float64(x)
    columns = np.zeros((B, W, C))
    for row in range(H):
        columns += gradient[:, row] ** 2
    expected = np.mean((np.sqrt(columns) - 1) ** 2)
    released = penalty(quadratic, w, x, key, compat="released")
    np.testing.assert_allclose(released, expected, rtol=1e-5)
    assert abs(released / penalty(quadratic, w, x, key) - 1) > 0.1
    # Where axis 1 is all there is, nothing slips.
    rows, w = draw(*ROWS), draw(*ROWS[1:], seed=2)
    np.testing.assert_array_equal(
        penalty(quadratic, w, rows, key, compat="released"),
        penalty(quadratic, w, rows, key),
    )


def test_points_lie_between_by_one_uniform_number_a_sample(key):
    """f = (sum x)^2 / 2 F has the slope sqrt(F) a at a point of all a."""
    n, f = 4000, 8
    zeros, ones = np.zeros((n, f), np.float32), np.ones((n, f), np.float32)

    def found(real, fake):
        return wasserstein.gradient_penalty(
            lambda x: jnp.sum(x, 1) ** 2 / (2 * f), real, fake, key, target=0
        )

    # E a^2 = 1/3, with the variance 1/5 - 1/9; a number a pixel would make
    # 1/4 + 1/12 F, and one for all samples any square.
    limit = 5 * np.sqrt((1 / 5 - 1 / 9) / n)
    there, back = found(zeros, ones) / f, found(ones, zeros) / f
    assert abs(there - 1 / 3) < limit < 0.025
    # The mean of (1 - a)^2, of the same numbers, is another.
    assert 0 < abs(back - 1 / 3) < limit and there != back


def test_a_constant_critic_has_a_penalty_and_finite_gradients(key):
    """A first layer that is dead, and a last one of zeros."""
    x = draw(*IMAGES)

    def value(params):
        def critic(x):
            h = jax.nn.relu(x.reshape(len(x), -1) @ params[0] + params[1][None])
            return h @ params[2]

        return wasserstein.gradient_penalty(critic, x, x[::-1], key)

    size = H * W * C
    w, last = draw(size, 6), draw(6, 1, seed=1)
    for params in [
        (w, np.full(6, -1e3, np.float32), last),
        (w, np.zeros(6, np.float32), 0 * last),
        (0 * w, np.zeros(6, np.float32), last),
    ]:
        found, gradients = jax.value_and_grad(value)(params)
        assert found == 1
        assert all(np.isfinite(g).all() for g in gradients)


def by_hand(params, x):
    """The penalty of f = v . tanh(W x + b) in float64, [B, F] samples."""
    w, b, v = params
    tanh = np.tanh(x @ w + b)
    gradient = (v * (1 - tanh**2)) @ w.T
    return np.mean((np.sqrt((gradient**2).sum(1)) - 1) ** 2)


def test_second_derivatives_are_those_of_differences(double, key):
    rng = np.random.default_rng(0)
    params = [rng.normal(size=s) for s in ((7, 4), (4,), (4,))]
    x = rng.normal(size=ROWS)

    def value(params):
        w, b, v = params
        return wasserstein.gradient_penalty(
            lambda x: jnp.tanh(x @ w + b[None]) @ v, x, x, key
        )

    found, gradients = jax.jit(jax.value_and_grad(value))(params)
    np.testing.assert_allclose(found, by_hand(params, x), rtol=1e-12)
    for i, given in enumerate(params):
        expected = np.zeros(given.shape)
        for place in np.ndindex(given.shape):
            step = np.zeros(given.shape)
            step[place] = 1e-6
            up, down = (
                by_hand([*params[:i], given + s * step, *params[i + 1 :]], x)
                for s in (1, -1)
            )
            expected[place] = (up - down) / 2e-6
        # Central differences of float64 are right to about 1e-9.
        np.testing.assert_allclose(gradients[i], expected, rtol=0, atol=1e-8)


def test_a_critic_of_the_whole_batch_sees_one_sample_at_a_time(key):
    """f = x . mean of the batch, which is |x|^2 of a batch of one."""
    x = draw(*ROWS)

    def critic(x):
        return jnp.sum(x * jnp.mean(x, 0, keepdims=True), 1)

    found = wasserstein.slopes(critic, x)
    sizes = 2 * np.linalg.norm(np.float64(x), axis=1)
    np.testing.assert_allclose(found, sizes, rtol=1e-5)
    np.testing.assert_allclose(
        wasserstein.gradient_penalty(critic, x, x, key),
        ((sizes - 1) ** 2).mean(),
        rtol=1e-5,
    )


def test_penalties_under_transformations(key, compilations):
    w, real, fake = draw(*IMAGES[1:]), draw(*IMAGES), draw(*IMAGES, seed=1)

    def value(w, key, target):
        f = functools.partial(quadratic, w)
        given = {"target": target, "one_sided": True}
        return wasserstein.gradient_penalty(f, real, fake, key, **given)

    compiled = jax.jit(jax.vmap(value, (None, 0, None)))
    keys = jax.random.split(key, 3)
    found = compiled(w, keys, 1.0)
    loop = [value(w, k, 1.0) for k in keys]
    np.testing.assert_allclose(found, loop, rtol=1e-5)
    # The same key is the same penalty, another is another.
    np.testing.assert_array_equal(found, compiled(w, keys, 1.0))
    assert len({*np.asarray(found).tolist()}) == 3
    with compilations() as names:
        other = compiled(2 * w, keys, 0.5)
    assert not names and np.all(other > found)


def test_bfloat16_samples(key):
    x = jnp.asarray(draw(*IMAGES), jnp.bfloat16)
    w = jnp.asarray(draw(*IMAGES[1:], seed=2), jnp.bfloat16)
    value, slope = jax.value_and_grad(lambda w: penalty(quadratic, w, x, key))(
        w
    )
    assert value.dtype == jnp.float32 and slope.dtype == jnp.bfloat16
    gradient = np.asarray(w, np.float64) * np.asarray(x, np.float64)
    sizes = np.sqrt((gradient**2).sum((1, 2, 3)))
    # A product is rounded to 8 bits; their sum is not.
    np.testing.assert_allclose(value, ((sizes - 1) ** 2).mean(), rtol=2e-2)
    loss = wasserstein.critic_loss(functools.partial(linear, w), x, x + 1)
    assert loss.dtype == jnp.float32


# Constraints.


def test_clip():
    params = {
        "a": draw(4, 3),
        "b": [jnp.asarray(draw(5), jnp.bfloat16), jnp.arange(3)],
        "key": jax.random.key(1),
    }
    found = jax.jit(wasserstein.clip)(params, 0.25)
    np.testing.assert_array_equal(
        found["a"], np.minimum(np.maximum(params["a"], -0.25), 0.25)
    )
    assert abs(found["b"][0]).max() == 0.25
    assert found["b"][0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["b"][1], [0, 1, 2])
    assert found["key"] == params["key"]
    assert jax.tree.structure(found) == jax.tree.structure(params)


def iterated(w, u, steps):
    """Algorithm 1 of arXiv:1802.05957 in float64: sigma, u and v."""
    matrix = np.float64(w).reshape(-1, np.shape(w)[-1]).T
    u = np.float64(u)
    for _ in range(steps):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u @ matrix @ v, u, v


@pytest.mark.parametrize("shape", [(6,), (5, 6), (3, 2, 4), (2, 3, 2, 5)])
def test_spectral_norm_is_the_published_algorithm(shape, key):
    w = draw(*shape)
    u = wasserstein.power_start(key, w)
    assert u.shape == shape[-1:]
    np.testing.assert_allclose(jnp.linalg.norm(u), 1, rtol=1e-6)
    for steps in (1, 3):
        sigma, next_u, v = iterated(w, u, steps)
        scaled, found = wasserstein.spectral_norm(w, u, steps)
        np.testing.assert_allclose(scaled, w / sigma, rtol=1e-5)
        np.testing.assert_allclose(found, next_u, atol=1e-6)
        _, found = wasserstein.power_iteration(w, u, steps)
        np.testing.assert_allclose(found, v, atol=1e-6)


def test_spectral_norm_becomes_one_and_stays_in_evaluation(key):
    w = draw(3, 3, 4, 6)
    u = wasserstein.power_start(key, w)
    for _ in range(30):
        scaled, u = wasserstein.spectral_norm(w, u)
    singular = np.linalg.svd(np.float64(scaled).reshape(-1, 6))[1]
    np.testing.assert_allclose(singular[0], 1, rtol=1e-4)
    kept, same = wasserstein.spectral_norm(w, u, 0)
    np.testing.assert_allclose(same, u, rtol=1e-6)
    np.testing.assert_allclose(kept, scaled, rtol=1e-4)
    # The length of a given u does not count.
    np.testing.assert_allclose(
        wasserstein.spectral_norm(w, 7 * u, 0)[0], kept, rtol=1e-5
    )


def test_spectral_norm_has_the_gradient_of_sigma_alone(key):
    """For L = sum c w / sigma: (c - L u v^T) / sigma, u and v constant."""
    w, c = draw(4, 3, 5), draw(4, 3, 5, seed=1)
    u = wasserstein.power_start(key, w)
    found = jax.grad(lambda w: (c * wasserstein.spectral_norm(w, u)[0]).sum())(
        w
    )
    # After one step, when u and v would depend on w.
    sigma, u, v = iterated(w, u, 1)
    outer = np.outer(v, u).reshape(w.shape)
    expected = (c - (c * w).sum() / sigma * outer) / sigma
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_spectral_norm_of_any_scale(key, compilations):
    w = draw(4, 5)
    u = wasserstein.power_start(key, w)

    @jax.jit
    def both(w):
        total = jax.grad(lambda w: wasserstein.spectral_norm(w, u)[0].sum())
        return *wasserstein.spectral_norm(w, u), total(w)

    scaled, next_u, _ = both(w)
    with compilations() as names:
        small, large, none = both(1e-30 * w), both(1e30 * w), both(0 * w)
    assert not names
    for found in (small, large):
        np.testing.assert_allclose(found[0], scaled, rtol=1e-5)
        np.testing.assert_allclose(found[1], next_u, rtol=1e-5)
    np.testing.assert_array_equal(none[0], 0)
    np.testing.assert_allclose(none[1], u, rtol=1e-6)
    assert all(np.isfinite(a).all() for a in none)


def test_spectral_norms_of_several_critics(key):
    w, keys = draw(3, 4, 5), jax.random.split(key, 3)

    def one(key, w):
        return wasserstein.spectral_norm(w, wasserstein.power_start(key, w), 2)

    found = jax.jit(jax.vmap(one))(keys, w)
    for i in range(3):
        for a, b in zip(found, one(keys[i], w[i]), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


def test_a_bfloat16_kernel_stays_so(key):
    w = jnp.asarray(draw(4, 5), jnp.bfloat16)
    u = wasserstein.power_start(key, w)
    scaled, u = wasserstein.spectral_norm(w, u)
    assert scaled.dtype == jnp.bfloat16 and u.dtype == jnp.float32


# Input.

ONES = np.ones(ROWS, np.float32)
LINE = np.ones(4)
HOLE = np.where(np.arange(7) == 2, np.nan, ONES).astype(np.float32)


def total(x):
    return x.sum(tuple(range(1, x.ndim)))


def gp(real, fake, critic=total, key=None, **given):
    key = jax.random.key(0) if key is None else key
    return wasserstein.gradient_penalty(critic, real, fake, key, **given)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda w: w.critic_loss(total, ONES, ONES[:3]), r"fake \(3, 7\)"),
        (lambda w: w.critic_loss(total, HOLE, ONES), "real holds 5 NaN"),
        (lambda w: w.critic_loss(jnp.sum, ONES, ONES), r"shape \(\) of 5"),
        (lambda w: w.generator_loss(total, ONES.astype(int)), "fake is int"),
        (lambda w: w.generator_loss(total, ONES[0]), "two axes"),
        (lambda w: w.generator_loss(total, ONES[:0]), "none of them empty"),
        (lambda w: w.generator_loss(total, [[1.0], []]), "be an array"),
        (lambda w: gp(ONES, ONES[:, :3]), r"real has shape \(5, 7\)"),
        (lambda w: gp(ONES, HOLE), r"fake holds 5 NaN.*index \(0, 2\)"),
        (lambda w: gp(ONES, ONES, compat="relased"), "mean 'released'"),
        (lambda w: gp(ONES, ONES, target=-1), "target is -1"),
        (lambda w: gp(ONES, ONES, target=np.ones(5)), "must be one number"),
        (lambda w: gp(ONES, ONES, key=0), "jax.random.key"),
        (
            lambda w: gp(ONES, ONES, key=jax.random.split(jax.random.key(0))),
            "one key",
        ),
        (lambda w: gp(ONES, ONES, lambda x: x), r"\(1, 7\) of 1 samples"),
        (lambda w: gp(ONES, ONES, lambda x: jnp.ones(1, int)), "makes int"),
        (lambda w: w.slopes(total, HOLE), "x holds 5 NaN"),
        (lambda w: w.clip([ONES], 0), "bound is 0"),
        (lambda w: w.clip([ONES], -0.5), "bound is -0.5"),
        (lambda w: w.clip([ONES], np.nan), "bound is nan"),
        (lambda w: w.clip({"a": [HOLE]}, 1), r"params\['a'\]\[0\] holds"),
        (lambda w: w.spectral_norm(ONES, LINE), r"u has shape \(4,\)"),
        (lambda w: w.spectral_norm(ONES, 0 * ONES[0]), "u is 0"),
        (lambda w: w.spectral_norm(ONES, ONES[0], -1), "steps is -1"),
        (lambda w: w.spectral_norm(ONES, ONES[0], 1.5), "whole number"),
        (lambda w: w.spectral_norm(HOLE, ONES[0]), "w holds 5 NaN"),
        (lambda w: w.spectral_norm(2.0, ONES[0]), "w is one number"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UsageError, match=message):
        call(wasserstein)
