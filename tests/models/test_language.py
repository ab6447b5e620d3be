"""What a language model says, against float64 and by hand."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices
from jaxedge.models import language
from jaxedge.models.layers import Dense
from jaxedge.models.transformer import Decoder

pytestmark = pytest.mark.usefixtures("compile_quickly")

V = 13


class Bigram(nn.Module):
    """Logits that depend on the last token alone: rows of a table [V, V]."""

    @nn.compact
    def __call__(self, tokens, *, key=None):
        return Dense(V, name="table")(jax.nn.one_hot(tokens, V), key)


TABLE = np.random.default_rng(0).normal(0, 2, (V, V)).astype(np.float32)
TOLD = TABLE - np.log(np.exp(TABLE.astype(np.float64)).sum(-1, keepdims=True))


def bigram(scale=1.0):
    table = jnp.asarray(scale * TABLE)
    return Bigram(), {"params": {"table": {"kernel": table}}}


@pytest.fixture(scope="module")
def decoder(trained):
    model = Decoder(V, 16, 20, 1, 4, 2)
    return model, trained(model, np.zeros((1, 3), np.int32))


def drawn(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, V, shape)


# Of three lengths, so that few programs check them.
SIZES = (
    (1, 2),
    (16, 4),
    (8, 1),
    (6, 3),
    (18, 2),
    (2, 1),
    (1, 2),
    (19, 1),
    (5, 4),
)


def pairs(n=9):
    """Contexts and continuations of `SIZES`."""
    return [
        (drawn(a, seed=i).tolist(), drawn(b, seed=i + 9).tolist())
        for i, (a, b) in enumerate(SIZES[:n])
    ]


def test_perplexity_is_that_of_float64():
    tokens = drawn(7, 6)
    told = TOLD[tokens[:, :-1], tokens[:, 1:]]
    seen = []
    got = language.perplexity(
        *bigram(), tokens, batch=3, progress=lambda *at: seen.append(at)
    )
    assert isinstance(got, float)
    np.testing.assert_allclose(got, np.exp(-told.mean()), rtol=1e-5)
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_a_model_that_knows_nothing_has_a_perplexity_of_its_vocabulary():
    got = language.perplexity(*bigram(0.0), drawn(2, 9), batch=3)
    np.testing.assert_allclose(got, V, rtol=1e-6)


def test_padding_changes_nothing(decoder):
    model, variables = decoder
    asked, seen = pairs(), []
    got = language.log_likelihood(
        *decoder, asked, batch=4, progress=lambda *at: seen.append(at)
    )
    assert seen[-1] == (9, 9) and seen == sorted(seen)
    # One after the other, without padding.
    apply = jax.jit(model.apply)
    for (context, text), total, count, greedy in zip(asked, *got, strict=True):
        both = np.array([*context, *text])
        logits = np.asarray(apply(variables, both[None]), np.float64)[0]
        told = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        each = told[np.arange(len(both) - 1), both[1:]]
        np.testing.assert_allclose(
            total, each[len(context) - 1 :].sum(), rtol=1e-4
        )
        assert count == len(text)
        likeliest = told.argmax(-1)[len(context) - 1 : len(both) - 1]
        assert greedy == (likeliest == text).all()


def test_what_is_likeliest_is_told():
    best = TOLD.argmax(-1)
    first, second = int(best[1]), int(best[best[1]])
    other = (second + 1) % V
    asked = [([1], [first, second]), ([1], [first, other]), ([5, 1], [first])]
    got = language.log_likelihood(*bigram(), asked)
    assert got.greedy.tolist() == [True, False, True]


def test_the_last_tokens_of_a_long_sequence_are_kept():
    asked = [([1, 2, 3, 4], [5, 6]), ([7], [8])]
    got = language.log_likelihood(*bigram(), asked, most=2)
    want = [TOLD[4, 5] + TOLD[5, 6], TOLD[7, 8]]
    np.testing.assert_allclose(got.total, want, rtol=1e-5)


def test_other_weights_and_other_texts_compile_nothing(compilations):
    model, variables = bigram()
    language.log_likelihood(model, variables, pairs(), batch=4)
    language.perplexity(model, variables, drawn(5, 6), batch=4)
    doubled = jax.tree.map(lambda a: 2 * a, variables)
    with compilations() as names:
        first = language.log_likelihood(model, doubled, pairs(7), batch=4)
        language.log_likelihood(Bigram(), doubled, pairs(5)[:3], batch=4)
        language.perplexity(Bigram(), doubled, drawn(3, 6), batch=4)
    assert not names and np.isfinite(first.total).all()


def test_chips_are_read_with_noise():
    model, variables = bigram()

    def on(**fields):
        spec = crossbar.Spec(devices.get("ideal", **fields))
        deploy = jax.jit(hardware.deploy)
        return {"params": deploy(jax.random.key(0), variables["params"], spec)}

    tokens, key = drawn(6, 5), jax.random.key(1)
    exact = language.perplexity(model, variables, tokens)
    np.testing.assert_allclose(
        language.perplexity(model, on(), tokens), exact, rtol=1e-3
    )
    noisy = on(read_noise=0.2)
    read = [
        language.perplexity(model, noisy, tokens, key=k)
        for k in (key, key, jax.random.key(2))
    ]
    assert read[0] == read[1] != read[2] and read[0] != exact


class Question(NamedTuple):
    prompts: tuple[tuple[str, str], ...]
    label: int


def encode(text):
    """Letters are tokens; a blank is the token 0."""
    return [0 if c == " " else 1 + ord(c) - ord("a") for c in text]


def test_answers_are_the_likeliest_by_sum_and_by_length():
    rng = np.random.default_rng(3)

    def word():
        return "".join(rng.choice([*"abcdefghijkl"], rng.integers(1, 6)))

    questions = [
        Question(
            tuple(
                (word() + " " * (i % 2), f" {word()}") for _ in range(2 + i % 3)
            ),
            i % 2,
        )
        for i in range(20)
    ]

    def by_hand(context, text):
        tokens = encode(context + text)
        start = len(context.rstrip())
        steps = zip(tokens[start - 1 : -1], tokens[start:], strict=True)
        return sum(TOLD[a, b] for a, b in steps)

    totals = [[by_hand(*prompt) for prompt in q.prompts] for q in questions]
    lengths = [[len(text) - 1 for _, text in q.prompts] for q in questions]
    right = [
        np.argmax(total) == q.label
        for total, q in zip(totals, questions, strict=True)
    ]
    right_norm = [
        np.argmax(np.divide(total, length)) == q.label
        for total, length, q in zip(totals, lengths, questions, strict=True)
    ]
    got = language.answer(questions, encode, *bigram(), batch=4)
    for a, b in zip(got.totals, totals, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    want = []
    for found in (right, right_norm):
        share = np.mean(found)
        want += [share, np.sqrt(share * (1 - share) / 19)]
    assert want[0] != want[2]
    np.testing.assert_allclose(got[:4], want)
    one = language.answer(questions[:1], encode, *bigram(), batch=4)
    assert np.isnan(one.acc_error)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m: language.perplexity(*m, [[1]]), r"int64\[1, 1\], but must"),
        (lambda m: language.perplexity(*m, [1, 2]), r"int64\[2\], but must"),
        (lambda m: language.perplexity(*m, [[1.0, 2]]), "are float64"),
        (lambda m: language.perplexity(*m, [[1, 2]], batch=0), "batch is 0"),
        (
            lambda m: language.log_likelihood(*m, [([1], [2]), ([], [1])]),
            "pair 1 has 0 tokens of context and 1 of",
        ),
        (
            lambda m: language.log_likelihood(*m, [([1], [])]),
            "pair 0 has 1 tokens of context and 0 of",
        ),
        (
            lambda m: language.log_likelihood(*m, [([1], [2, 3])], most=1),
            "pair 0 has 2 tokens, but `most` is 1",
        ),
        (lambda m: language.answer([], encode, *m), "no questions"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(UsageError, match=match) as error:
        call(bigram())
    assert "\n" not in str(error.value)
