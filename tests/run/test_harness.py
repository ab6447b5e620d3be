"""What lm-evaluation-harness asks for, by a stand-in for its base class."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data.choices import Question
from jaxedge.models import language, transformer
from jaxedge.models.encoder import Encoder
from jaxedge.models.transformer import Decoder
from jaxedge.recipes.networks import Opened
from jaxedge.run import harness, main

pytestmark = pytest.mark.usefixtures("compile_quickly")

LETTERS = "#ABCDEFGHIJKLMNOPQRST ,."
MODEL = Decoder(len(LETTERS), 16, 24, 2, 2, 1)
APPLY = jax.jit(MODEL.apply)
TEXT = "THE CAT SAT, AND THE DOG RAN FAR. SO DID I."


class Base:
    """As `lm_eval.api.model.LM`, whose methods a subclass has to have."""

    def __init__(self):
        self.rank, self.world_size = 0, 1

    def loglikelihood(self, requests):
        raise NotImplementedError

    loglikelihood_rolling = generate_until = loglikelihood


def encode(text):
    """A token a letter; the first begins a text."""
    return [0, *(LETTERS.index(letter) for letter in text)]


def decode(tokens):
    return "".join(LETTERS[token] for token in tokens if token)


@pytest.fixture(scope="module")
def opened():
    example = np.zeros((1, 1), np.int32)
    variables = MODEL.init(jax.random.key(4), example)
    # Logits that differ, so that there is something to be said.
    variables = jax.tree.map(lambda a: 4 * a, variables)
    params = {"params": variables["params"]}
    return Opened(MODEL, params, encode, None, {}, {}, decode)


@pytest.fixture
def scorer(opened):
    return harness.adapter(opened, Base, batch=4, length=8)


def ask(*args):
    return types.SimpleNamespace(args=args)


def logits(opened, tokens):
    """Of the tokens after each, float64 log-probabilities [T, V]."""
    found = APPLY(opened.variables, jnp.asarray([tokens]))
    found = np.asarray(found, np.float64)[0]
    most = found.max(-1, keepdims=True)
    return found - most - np.log(np.exp(found - most).sum(-1, keepdims=True))


def test_it_is_what_the_harness_wants(scorer):
    assert isinstance(scorer, Base)
    assert (scorer.rank, scorer.world_size) == (0, 1)


def test_likelihoods_are_those_of_our_own_questions(opened, scorer):
    prompts = (
        (("THE CAT", " SAT"), ("THE CAT", " RAN")),
        (("A", "."), ("A", " B.")),
    )
    asked = [Question("", ("a", "b"), 0, pair) for pair in prompts]
    ours = language.answer(asked, encode, MODEL, opened.variables)
    found = scorer.loglikelihood([ask(*p) for pair in prompts for p in pair])
    totals = [total for total, _ in found]
    np.testing.assert_allclose(totals, np.concatenate(ours.totals), rtol=1e-6)
    assert all(type(greedy) is bool for _, greedy in found)
    # The blank at the end of a context belongs to what follows.
    (moved,) = scorer.loglikelihood([ask("THE CAT ", "SAT")])
    np.testing.assert_allclose(moved[0], totals[0], rtol=1e-6)


def test_nothing_before_is_the_beginning(opened, scorer):
    ((total, _),) = scorer.loglikelihood([ask("", "CAT")])
    told = logits(opened, encode("CA"))
    want = sum(told[i, LETTERS.index(c)] for i, c in enumerate("CAT"))
    np.testing.assert_allclose(total, want, rtol=1e-5)


def test_windows_tell_every_token_once():
    # The example of the harness: ten tokens, four of them at once.
    found = [*harness.windows(range(10), 99, 4)]
    assert found == [
        ([99], [0, 1, 2, 3]),
        ([3], [4, 5, 6, 7]),
        ([5, 6, 7], [8, 9]),
    ]
    assert [*harness.windows([], 99, 4)] == []
    assert [*harness.windows([5], 99, 4)] == [([99], [5])]


def test_a_long_text_is_told_window_by_window(opened, scorer):
    (total,) = scorer.loglikelihood_rolling([ask(TEXT)])
    tokens, want = encode(TEXT), 0.0
    for end in range(1, len(tokens)):
        # The window in which this token is told: the last one is moved.
        first = (end - 1) // 8 * 8
        first = min(first, len(tokens) - 9)
        told = logits(opened, tokens[first : first + 8])
        want += told[end - 1 - first, tokens[end]]
    np.testing.assert_allclose(total, want, rtol=1e-5)
    (short,) = scorer.loglikelihood_rolling([ask("CAT")])
    ((whole, _),) = scorer.loglikelihood([ask("", "CAT")])
    np.testing.assert_allclose(short, whole, rtol=1e-6)


def test_texts_are_continued_by_their_likeliest_tokens(opened, scorer):
    before = encode(TEXT[:20])
    found = transformer.generate(
        MODEL, opened.variables, jnp.asarray([before]), len(before) + 12
    )
    tokens = np.asarray(found)[0, len(before) :].tolist()
    end = tokens.index(0) if 0 in tokens else len(tokens)
    want = decode(tokens[:end])
    how = {"until": [], "max_gen_toks": 12, "do_sample": False}
    assert len(want) > 3
    assert scorer.generate_until([ask(TEXT[:20], how)]) == [want]
    stop = want[2]
    cut = want[: want.index(stop)]
    for until in (stop, [stop, "never"]):
        how = {"until": until, "max_gen_toks": 12}
        assert scorer.generate_until([ask(TEXT[:20], how)]) == [cut]
    with pytest.raises(UsageError, match="do_sample is true"):
        scorer.generate_until([ask("A", {"do_sample": True})])


def test_the_first_token_may_be_that_of_the_end(opened, tmp_path):
    def plain(text):
        return encode(text)[1:]

    bare = opened._replace(encode=plain)
    with pytest.raises(UsageError, match="no token of the beginning"):
        harness.adapter(bare, Base).loglikelihood([ask("", "CAT")])
    path = tmp_path / "tokenizer_config.json"
    path.write_text(
        json.dumps({"bos_token": None, "eos_token": {"content": "#"}})
    )
    named = bare._replace(files={path.name: path})
    found = harness.adapter(named, Base)
    assert found.prefix == 0
    assert found.loglikelihood([ask("", "CAT")]) == harness.adapter(
        opened, Base
    ).loglikelihood([ask("", "CAT")])


def test_scores_go_by_their_own_names():
    row = {
        "alias": "arc",
        "acc,none": 0.5,
        "acc_stderr,none": 0.1,
        "exact_match,strict": 1,
        "sample_len": 7,
    }
    assert harness.told(row) == {"acc": 0.5, "exact_match,strict": 1.0}


def test_scores_are_asked_of_the_harness(opened, monkeypatch):
    """With a package that looks like it."""
    package = types.ModuleType("lm_eval")
    api, model = types.ModuleType("lm_eval.api"), types.ModuleType("model")
    package.api, api.model, model.LM = api, model, Base  # type: ignore

    def simple_evaluate(lm, *, tasks, limit, **rest):
        if tasks == ["nothing"]:
            raise KeyError("no such task")
        ((total, _),) = lm.loglikelihood([ask("A", "B")])
        return {"results": {tasks[0]: {"total,none": total, "n": limit}}}

    package.simple_evaluate = simple_evaluate  # type: ignore
    for name, module in (
        ("lm_eval", package),
        ("lm_eval.api", api),
        ("lm_eval.api.model", model),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    found = harness.scores(opened, ["lm_eval:toy"], most=3)
    ((want, _),) = harness.adapter(opened, Base).loglikelihood([ask("A", "B")])
    assert found == {"lm_eval:toy": {"total": want, "n": 3.0}}
    with pytest.raises(UsageError, match="cannot run nothing.*no such task"):
        harness.scores(opened, ["lm_eval:nothing"])


def test_what_cannot_be_is_told(opened, monkeypatch, capsys):
    encoder = Encoder(9, 8, 8, 1, 2, 4)
    with pytest.raises(UsageError, match="give a decoder"):
        harness.adapter(opened._replace(model=encoder), Base)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match="pip install lm_eval"):
        harness.adapter(opened)
    assert main.console(["eval", "--model=no", "--tasks=lm_eval:arc"]) == 2
    assert "pip install lm_eval" in capsys.readouterr().err
