"""An encoder on any hardware; its equations are in test_hugging_face.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices
from jaxedge.models import encoder
from jaxedge.models.encoder import Encoder

pytestmark = pytest.mark.usefixtures("compile_quickly")

SIZES = dict(vocabulary=11, width=8, hidden=12, depth=1, heads=2, positions=9)
MODEL = Encoder(**SIZES)
MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])


def inputs(seed):
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 2, MASK.shape)
    return rng.integers(0, 11, MASK.shape), types


def embed(variables, tokens, mask, types, key=None):
    hidden = MODEL.apply(variables, tokens, mask=mask, types=types, key=key)
    return encoder.sentence_embedding(hidden, mask)


@pytest.fixture(scope="module")
def variables(trained):
    return trained(MODEL, inputs(0)[0])


@pytest.fixture(scope="module")
def apply():
    return jax.jit(MODEL.apply)


def test_padding_changes_no_real_token(variables, apply):
    (tokens, types), (other, kinds) = inputs(1), inputs(2)
    real = MASK == 1
    hidden = apply(variables, tokens, mask=MASK, types=types)
    changed = apply(
        variables,
        np.where(real, tokens, other),
        mask=MASK,
        types=np.where(real, types, kinds),
    )
    np.testing.assert_array_equal(hidden[real], changed[real])
    assert np.abs(hidden - changed)[~real].max() > 0.1
    alone = apply(variables, tokens[1:, :4], types=types[1:, :4])
    np.testing.assert_allclose(alone[0], hidden[1, :4], rtol=1e-5, atol=1e-5)


def test_jit_is_eager_and_new_values_do_not_recompile(
    variables, apply, compilations
):
    tokens, types = inputs(1)
    eager = MODEL.apply(variables, tokens, mask=MASK, types=types)
    got = apply(variables, tokens, mask=MASK, types=types)
    np.testing.assert_allclose(got, eager, rtol=1e-4, atol=1e-5)
    assert got.shape == (2, 7, 8) and got.dtype == jnp.float32
    tokens, types = inputs(2)
    with compilations() as names:
        apply(variables, tokens, mask=1 - MASK, types=types)
    assert not names


def test_bfloat16_parameters_make_bfloat16_states(variables, apply):
    tokens, types = inputs(1)
    exact = apply(variables, tokens, mask=MASK, types=types)
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), variables)
    got = apply(half, tokens, mask=MASK, types=types)
    assert got.dtype == jnp.bfloat16
    # 8 bits of mantissa over a layer; a norm brings the states to about 1.
    np.testing.assert_allclose(got.astype(np.float32), exact, atol=0.1)


def test_types_are_zero_and_all_tokens_real_by_default(variables, apply):
    tokens, types = inputs(1)
    plain = apply(variables, tokens)
    zeros, ones = np.zeros_like(types), np.ones_like(MASK)
    named = apply(variables, tokens, mask=ones, types=zeros)
    np.testing.assert_allclose(plain, named, rtol=1e-5, atol=1e-6)
    other = apply(variables, tokens, mask=ones, types=types)
    assert np.abs(other - named).max() > 0.1


def test_chips_are_a_batch_and_have_gradients(variables, key):
    tokens, types = inputs(1)
    device = devices.get("ideal", program_noise=0.1, read_noise=0.1)
    # Two matrices, as every one more takes a second to compile.
    plan = {"attention/q|up": crossbar.Spec(device)}

    def run(params, key):
        chip = hardware.deploy(key, params, plan)
        y = embed({"params": chip}, tokens, MASK, types, key)
        return y[0] @ y[1], y

    one = jax.jit(jax.grad(run, has_aux=True))
    many = jax.jit(jax.vmap(run, (None, 0)))
    params, keys = variables["params"], jax.random.split(key, 2)
    (slope, first), (_, second) = (one(params, k) for k in keys)
    _, together = many(params, keys)
    np.testing.assert_allclose(together, [first, second], rtol=1e-4, atol=1e-5)
    assert (first != second).all()
    for leaf in jax.tree.leaves(slope):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


def test_embeddings_are_means_of_real_tokens_of_length_one():
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=(2, 7, 5)).astype(np.float32)
    want = np.stack([hidden[0].mean(0), hidden[1, :4].mean(0)])
    want /= np.linalg.norm(want, axis=-1, keepdims=True)
    hidden[1, 4:] = np.inf
    pool = jax.jit(encoder.sentence_embedding)
    np.testing.assert_allclose(pool(hidden, MASK), want, rtol=1e-5)
    np.testing.assert_allclose(
        encoder.sentence_embedding(jnp.asarray(hidden), jnp.asarray(MASK > 0)),
        want,
        rtol=1e-5,
    )
    apart = jax.vmap(encoder.sentence_embedding)(hidden[:, None], MASK[:, None])
    np.testing.assert_allclose(apart[:, 0], want, rtol=1e-5)
    half = pool(jnp.asarray(hidden, jnp.bfloat16), MASK)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), want, atol=0.01)


def test_a_sentence_of_padding_alone_is_zero_with_finite_slopes(
    variables, apply
):
    tokens, types = inputs(1)
    nothing = np.zeros_like(MASK)
    hidden = apply(variables, tokens, mask=nothing, types=types)
    assert np.isfinite(hidden).all()

    @jax.jit
    @jax.value_and_grad
    def score(hidden):
        return encoder.sentence_embedding(hidden, nothing).sum()

    value, slope = score(hidden)
    assert value == 0 and np.isfinite(slope).all()
    # Nor is there a direction where the mean itself is zero.
    opposite = jnp.array([[[1.0, 2.0], [-1.0, -2.0]]])
    slope = jax.grad(
        lambda h: encoder.sentence_embedding(h, jnp.ones((1, 2))).sum()
    )(opposite)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"heads": 3}, {}, "width of 8 is no multiple of 3 heads"),
        ({"positions": 2}, {}, "have 3 tokens, but this network has 2 pos"),
        ({}, {"tokens": [[1.0]]}, "tokens are float32.1, 1., but must be"),
        ({}, {"tokens": [1, 2]}, "tokens are int32.2., but must be integers"),
        ({}, {"tokens": [[1, 11, 2]]}, "tokens is 11, but must lie in"),
        ({}, {"types": [[0, 2, 0]]}, "types is 2, but must lie in"),
        ({}, {"types": [[0, 1]]}, "types has shape .1, 2., but the tokens .1"),
        ({}, {"mask": [[1, 0]]}, "mask has shape .1, 2., but the tokens .1, 3"),
        ({}, {"mask": [[1, 0, -9]]}, "mask is -9, but must lie in"),
    ],
)
def test_bad_input_is_named(changes, given, message, key):
    given = {"tokens": [[1, 2, 3]], **given}
    given = {name: jnp.asarray(value) for name, value in given.items()}
    with pytest.raises(UsageError, match=message):
        Encoder(**{**SIZES, **changes}).init(key, given.pop("tokens"), **given)
    if "mask" in given:
        with pytest.raises(UsageError, match=message):
            hidden = jnp.zeros((1, 3, 4))
            encoder.sentence_embedding(hidden, given["mask"])
