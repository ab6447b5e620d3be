"""A published decoder with its tokenizer, and files that are none."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.data import byte_pairs
from jaxedge.models import llama2c, transformer

ROOT = Path(os.environ.get("JAXEDGE_DATA", "")) / "checkpoints" / "stories260K"
real = pytest.mark.skipif(
    not (ROOT / "stories260K.bin").is_file(),
    reason="no checkpoints/stories260K below JAXEDGE_DATA",
)


@real
def test_the_published_network_tells_its_story():
    model, variables = llama2c.load(ROOT / "stories260K.bin")
    words = byte_pairs.load(ROOT / "tok512.bin", model.vocabulary)
    sizes = sum(a.size for a in jax.tree.leaves(variables))
    # 260,032 with the shared classifier, which is a matrix of its own here.
    assert sizes == 260_032 + 512 * 64
    prompt = jnp.array([words.encode("")])
    told = jax.jit(
        lambda v, p: transformer.generate(model, v, p, 60), static_argnums=()
    )(variables, prompt)
    text = words.decode(told[0].tolist())
    # What llama2.c itself prints at a temperature of zero.
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to"
        " play outside in the park. One day, she saw a big, red ball."
    )
    assert words.encode(text) == told[0].tolist()


def tiny(shared=True, **changes):
    """A file of a tiny network."""
    sizes = {
        "width": 4, "hidden": 6, "depth": 2, "heads": 2, "kv_heads": 1,
        "vocabulary": 7, "length": 3,
    } | changes  # fmt: skip
    w, h, n, a, k, v, t = sizes.values()
    d = w // a
    counts = [
        v * w, n * w, n * w * w, n * k * d * w, n * k * d * w, n * w * w,
        n * w, n * h * w, n * w * h, n * h * w, w, t * d // 2, t * d // 2,
    ]  # fmt: skip
    if not shared:
        counts.append(v * w)
    header = np.array([w, h, n, a, k, v if shared else -v, t], "<i4")
    numbers = np.arange(sum(counts), dtype="<f4") / 100
    return header.tobytes() + numbers.tobytes()


@pytest.mark.parametrize("shared", [True, False])
def test_matrices_have_a_row_an_output(shared, tmp_path):
    path = tmp_path / "tiny.bin"
    path.write_bytes(tiny(shared))
    model, variables = llama2c.load(path)
    params = variables["params"]
    np.testing.assert_allclose(
        params["embedding"], np.arange(28).reshape(7, 4) / 100
    )
    # After the embedding and the norms of both layers.
    start = 28 + 8
    q = np.arange(start, start + 32).reshape(2, 4, 4) / 100
    kernel = params["layer_1"]["attention"]["q"]["kernel"]
    np.testing.assert_allclose(kernel, q[1].T)
    head = np.asarray(params["head"]["kernel"]).T
    assert np.array_equal(head, params["embedding"]) == shared
    # The network takes them as they are.
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32)
    )
    found, want = (
        jax.tree.map(jnp.shape, v["params"]) for v in (variables, shapes)
    )
    assert found == want


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "does not begin as a checkpoint"),
        (b"PK" * 40, "does not begin as a checkpoint"),
        # Sizes that are cut, negative or no number of heads.
        (tiny()[:27], "does not begin as a checkpoint"),
        (b"\0\0\0\x80" + tiny()[4:], "does not begin as a checkpoint"),
        (tiny()[:12] + b"\3" + tiny()[13:], "does not begin as a checkpoint"),
        (tiny()[:-4] + b"\0\0\xc0\x7f", "net.bin: sin holds 1 NaN"),
        (tiny()[:-4], "bytes, but a network of its sizes has"),
        (tiny() + b"1234", "it is cut short, or of another version"),
    ],
)
def test_files_that_are_none(raw, message, tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=message):
        llama2c.load(path)
    with pytest.raises(UsageError, match="no file"):
        llama2c.load(tmp_path / "other.bin")
