"""A decoder against its equations in float64, with and without a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices
from jaxedge.models import transformer
from jaxedge.models.transformer import Decoder

pytestmark = pytest.mark.usefixtures("compile_quickly")

SIZES = dict(vocabulary=11, width=16, hidden=20, depth=2, heads=4, kv_heads=2)


def made(rotary="half"):
    """A network with weights of every size, and tokens [2, 7]."""
    model = Decoder(**SIZES, rotary=rotary)
    tokens = jax.random.randint(jax.random.key(1), (2, 7), 0, 11)
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    leaves, tree = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(2)
    # The initial weights are small, and norms are all ones.
    leaves = [
        jnp.asarray(rng.normal(1 if a.ndim == 1 else 0, 0.3, a.shape), a.dtype)
        for a in leaves
    ]
    return model, {"params": jax.tree.unflatten(tree, leaves)}, tokens


def reference(params, tokens, rotary):
    """Logits of the equations, sequence by sequence, float64."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

    def norm(x, part):
        power = np.mean(x**2, -1, keepdims=True)
        return x / np.sqrt(power + 1e-5) * part["scale"]

    def turned(head, position):
        d = len(head)
        out = np.zeros(d)
        for i in range(d // 2):
            a, b = (
                (2 * i, 2 * i + 1) if rotary == "adjacent" else (i, i + d // 2)
            )
            angle = position * 10000.0 ** (-2 * i / d)
            c, s = np.cos(angle), np.sin(angle)
            out[a] = head[a] * c - head[b] * s
            out[b] = head[a] * s + head[b] * c
        return out

    def attention(x, part):
        d = SIZES["width"] // SIZES["heads"]
        q, k, v = (
            (x @ part[name]["kernel"]).reshape(len(x), -1, d) for name in "qkv"
        )
        y = np.zeros((len(x), SIZES["heads"], d))
        for t in range(len(x)):
            for h in range(SIZES["heads"]):
                g = h // (SIZES["heads"] // SIZES["kv_heads"])
                now = turned(q[t, h], t)
                scores = np.array(
                    [now @ turned(k[s, g], s) for s in range(t + 1)]
                )
                share = np.exp(scores / np.sqrt(d))
                y[t, h] = share @ v[: t + 1, g] / share.sum()
        return y.reshape(len(x), -1) @ part["o"]["kernel"]

    found = []
    for sequence in np.asarray(tokens):
        x = params["embedding"][sequence]
        for i in range(SIZES["depth"]):
            part = params[f"layer_{i}"]
            x = x + attention(
                norm(x, part["attention_norm"]), part["attention"]
            )
            y = norm(x, part["feed_forward_norm"])
            gate, up = (y @ part[name]["kernel"] for name in ("gate", "up"))
            gate = gate / (1 + np.exp(-gate))
            x = x + (gate * up) @ part["down"]["kernel"]
        found.append(norm(x, params["norm"]) @ params["head"]["kernel"])
    return np.array(found)


@pytest.mark.parametrize("rotary", transformer.ROTARY)
def test_logits_are_those_of_the_equations(rotary):
    model, variables, tokens = made(rotary)
    found = jax.jit(model.apply)(variables, tokens)
    want = reference(variables["params"], tokens, rotary)
    np.testing.assert_allclose(found, want, rtol=2e-4, atol=2e-4)


def test_a_cache_gives_what_the_whole_text_gives():
    model, variables, tokens = made()
    whole = jax.jit(model.apply)(variables, tokens)
    cache = model.cache(2, 9)
    step = jax.jit(lambda v, t, c: model.apply(v, t, cache=c))
    logits, cache = step(variables, tokens[:, :3], cache)
    np.testing.assert_allclose(logits, whole[:, :3], atol=1e-5)
    for i in range(3, 7):
        logits, cache = step(variables, tokens[:, i : i + 1], cache)
        np.testing.assert_allclose(logits[:, 0], whole[:, i], atol=1e-5)
    assert cache.length == 7


def test_no_token_sees_a_later_one():
    model, variables, tokens = made()
    apply = jax.jit(model.apply)
    other = tokens.at[:, 4].set((tokens[:, 4] + 1) % 11)
    first, second = apply(variables, tokens), apply(variables, other)
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    assert (np.abs(first - second)[:, 4:].max(-1) > 1e-3).all()


def test_texts_go_on_with_the_likeliest_or_with_drawn_tokens():
    model, variables, tokens = made()

    @jax.jit
    def go_on(key, temperature):
        return transformer.generate(
            model, variables, tokens[:, :2], 7, key=key, temperature=temperature
        )

    likely = transformer.generate(model, variables, tokens[:, :2], 7)
    np.testing.assert_array_equal(likely[:, :2], tokens[:, :2])
    logits = jax.jit(model.apply)(variables, likely)
    np.testing.assert_array_equal(likely[:, 2:], logits[:, 1:-1].argmax(-1))
    cold = go_on(jax.random.key(0), 1e-4)
    np.testing.assert_array_equal(cold, likely)
    one, two = (go_on(jax.random.key(k), 5.0) for k in (0, 1))
    assert (one != two).any()
    np.testing.assert_array_equal(one, go_on(jax.random.key(0), 5.0))
    alone = transformer.generate(model, variables, tokens[:, :2], 2)
    np.testing.assert_array_equal(alone, tokens[:, :2])


def test_drawn_tokens_have_the_probabilities_of_the_network():
    model, variables, tokens = made()
    n = 4000
    prompt = jnp.broadcast_to(tokens[:1, :3], (n, 3))
    drawn = jax.jit(
        lambda key: transformer.generate(model, variables, prompt, 4, key=key)
    )(jax.random.key(5))
    logits = jax.jit(model.apply)(variables, tokens[:1, :3])[0, -1]
    p = np.asarray(jax.nn.softmax(logits), np.float64)
    count = np.bincount(np.asarray(drawn[:, -1]), minlength=11)
    # Five standard errors of each of eleven shares.
    np.testing.assert_array_less(
        np.abs(count - n * p), 5 * np.sqrt(n * p * (1 - p)) + 1
    )


def test_it_runs_on_any_hardware_with_gradients():
    model, variables, tokens = made()
    device = devices.get("ideal")
    chip = hardware.deploy(
        jax.random.key(0),
        variables["params"],
        {"kernel": crossbar.Spec(device)},
    )
    # The embedding is a table and no product.
    assert not hardware.is_weight(chip["embedding"])
    y = jax.jit(model.apply)({"params": chip}, tokens, key=jax.random.key(1))
    want = jax.jit(model.apply)(variables, tokens)
    np.testing.assert_allclose(y, want, rtol=1e-3, atol=1e-3)
    slope = jax.jit(jax.grad(lambda v: jnp.mean(model.apply(v, tokens) ** 2)))(
        variables
    )
    for leaf in jax.tree.leaves(slope):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.parametrize(
    ("changes", "tokens", "message"),
    [
        ({"heads": 3}, [[1]], "width of 16, 3 heads and 2"),
        ({"kv_heads": 3}, [[1]], "4 heads and 3 heads of keys do not fit"),
        ({"rotary": "halve"}, [[1]], "unknown rotary 'halve'. Did you mean"),
        ({}, [1, 2], "tokens are int32.2., but must be integers .B, T."),
        ({}, [[1.0]], "tokens are float32"),
        ({}, [[11]], "tokens is 11, but must lie in"),
    ],
)
def test_bad_input_is_named(changes, tokens, message):
    model = Decoder(**{**SIZES, **changes})
    with pytest.raises(UsageError, match=message):
        model.init(jax.random.key(0), jnp.asarray(tokens))
    with pytest.raises(UsageError, match="length"):
        transformer.generate(*made()[:2], jnp.zeros((1, 4), jnp.int32), 3)


def test_keys_in_small_numbers_are_the_same_from_a_cache():
    model, variables, tokens = made()
    small = model.clone(kv="mxfp4")
    likely = transformer.generate(small, variables, tokens[:, :2], 7)
    logits = jax.jit(small.apply)(variables, likely)
    np.testing.assert_array_equal(likely[:, 2:], logits[:, 1:-1].argmax(-1))
    # Not a token at a time either do scales depend on those to come.
    step = jax.jit(lambda v, t, c: small.apply(v, t, cache=c))
    cache, parts = small.cache(2, 7), []
    for part in (likely[:, :3], likely[:, 3:4], likely[:, 4:]):
        found, cache = step(variables, part, cache)
        parts.append(found)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), logits, atol=1e-5)
    # And it is no exact network.
    exact = jax.jit(model.apply)(variables, likely)
    assert np.abs(exact - logits).max() > 0.01


@pytest.mark.parametrize(
    ("kv", "message"),
    [
        ("nvfp4", "kv is 'nvfp4', whose scales depend on.*mxfp4, mxfp4_search"),
        ("mxpf4", "unknown block format 'mxpf4'. Did you mean 'mxfp4'"),
    ],
)
def test_formats_of_keys_that_look_ahead_are_refused(kv, message):
    model, variables, tokens = made()
    with pytest.raises(UsageError, match=message):
        model.clone(kv=kv).apply(variables, tokens)
    with pytest.raises(UsageError, match=message):
        transformer.check_kv(kv)
