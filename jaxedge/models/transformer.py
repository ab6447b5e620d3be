"""LLaMA-shaped decoders, whose matrices are whatever leaf they find.

Touvron et al., arXiv:2302.13971: root-mean-square norms before each part,
rotary positions, gated feed-forward parts, and keys and values that several
heads may share (Ainslie et al., arXiv:2305.13245).

Letters: B sequences, T tokens, S tokens that are attended to, H heads, K of
them with keys and values of their own, D size of a head, W width, V vocabulary.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models.layers import Dense

# How rotary positions pair the entries of a head: neighbours, as in the paper,
# or its two halves, as in the files of Hugging Face.
ROTARY = ("adjacent", "half")
INIT = nn.initializers.normal(0.02)


class Cache(NamedTuple):
    """Keys and values of the tokens so far, of every layer.

    Attributes:
        keys: [L, B, S, K, D], S the most tokens that it holds.
        values: likewise.
        length: tokens that are in it, int32 [].
    """

    keys: jax.Array
    values: jax.Array
    length: jax.Array


class RmsNorm(nn.Module):
    """Divides by the root mean square of the last axis, and scales.

    Attributes:
        eps: added to the mean square.
    """

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        power = jnp.mean(wide**2, -1, keepdims=True)
        y = (wide * jax.lax.rsqrt(power + self.eps)).astype(x.dtype)
        return y * jnp.asarray(scale, x.dtype).reshape(
            [1] * (x.ndim - 1) + [-1]
        )


def rotate(
    x: jax.Array, position: jax.Array, theta: float, rotary: str
) -> jax.Array:
    """Turns pairs of entries by angles in proportion to the position.

    Pair i turns by position * theta^(-2 i / D) (Su et al., arXiv:2104.09864).

    Args:
        x: [B, T, H, D].
        position: of the tokens, [T].
        theta: base of the angles.
        rotary: which entries are pairs, of `ROTARY`.
    """
    half = x.shape[-1] // 2
    rate = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = position.astype(jnp.float32)[:, None] * rate[None]
    cos, sin = (f(angle)[None, :, None] for f in (jnp.cos, jnp.sin))
    if rotary == "adjacent":
        a, b = x[..., 0::2], x[..., 1::2]
    else:
        a, b = x[..., :half], x[..., half:]
    cos, sin = (
        jnp.broadcast_to(f, a.shape).astype(x.dtype) for f in (cos, sin)
    )
    turned = a * cos - b * sin, a * sin + b * cos
    if rotary == "adjacent":
        return jnp.stack(turned, -1).reshape(x.shape)
    return jnp.concatenate(turned, -1)


class Heads(NamedTuple):
    """The heads of an attention.

    Attributes:
        count: H.
        of_keys: K, a divisor of H.
        theta: base of the rotary angles.
        rotary: of `ROTARY`.
    """

    count: int
    of_keys: int
    theta: float
    rotary: str


class Attention(nn.Module):
    """Attention to the tokens before, with rotary positions.

    Attributes:
        heads: its heads.
    """

    heads: Heads

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        kept: tuple[jax.Array, jax.Array] | None,
        start: jax.Array,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        b, t, width = x.shape
        heads, of_keys, theta, rotary = self.heads
        size = width // heads
        position = start + jnp.arange(t)

        def project(name: str, count: int) -> jax.Array:
            y = Dense(count * size, INIT, name=name)(x, key)
            return y.reshape(b, t, count, size)

        q = rotate(project("q", heads), position, theta, rotary)
        k = rotate(project("k", of_keys), position, theta, rotary)
        v = project("v", of_keys)
        if kept is not None:
            at = (0, start, 0, 0)
            k = jax.lax.dynamic_update_slice(
                kept[0], k.astype(kept[0].dtype), at
            )
            v = jax.lax.dynamic_update_slice(
                kept[1], v.astype(kept[1].dtype), at
            )
        kept = k, v
        # Heads that share keys are an axis of their own.
        q = q.reshape(b, t, of_keys, -1, size)
        scores = jnp.einsum("btkgd,bskd->bkgts", q, k) * size**-0.5
        seen = jnp.arange(k.shape[1])[None] <= position[:, None]
        scores = jnp.where(
            seen[None, None, None], scores, jnp.finfo(scores.dtype).min
        )
        share = jax.nn.softmax(scores.astype(jnp.float32), -1).astype(x.dtype)
        y = jnp.einsum("bkgts,bskd->btkgd", share, v).reshape(b, t, width)
        return Dense(width, INIT, name="o")(y, key), kept


class Block(nn.Module):
    """A layer: attention and a gated feed-forward part, each with a norm.

    Attributes:
        hidden: width of the feed-forward part.
        heads: of the attention.
        eps: of the norms.
    """

    hidden: int
    heads: Heads
    eps: float

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        kept: tuple[jax.Array, jax.Array] | None,
        start: jax.Array,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        attention = Attention(self.heads, name="attention")
        y, kept = attention(
            RmsNorm(self.eps, name="attention_norm")(x), key, kept, start
        )
        x = x + y
        y = RmsNorm(self.eps, name="feed_forward_norm")(x)
        gate = Dense(self.hidden, INIT, name="gate")(y, key)
        up = Dense(self.hidden, INIT, name="up")(y, key)
        down = Dense(x.shape[-1], INIT, name="down")
        return x + down(jax.nn.silu(gate) * up, key), kept


class Decoder(nn.Module):
    """A language model: tokens [B, T] to logits of the next ones, [B, T, V].

    Attributes:
        vocabulary: V.
        width: W, a multiple of `heads`; a head has an even size.
        hidden: width of the feed-forward parts.
        depth: number of layers.
        heads: H.
        kv_heads: K, a divisor of H.
        theta: base of the rotary angles.
        rotary: of `ROTARY`.
        eps: of the norms.
    """

    vocabulary: int
    width: int
    hidden: int
    depth: int
    heads: int
    kv_heads: int
    theta: float = 10000.0
    rotary: str = "half"
    eps: float = 1e-5

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        cache: Cache | None = None,
    ) -> Any:
        """Logits; with a cache also the cache with these tokens.

        Args:
            tokens: integers in [0, V), [B, T], that follow those of the cache.
            train: of no matter; every network takes it.
            key: read key, consumed.
            cache: from `cache`; None attends to these tokens alone.
        """
        del train
        self._check(tokens)
        table = self.param("embedding", INIT, (self.vocabulary, self.width))
        x = jnp.asarray(table)[tokens]
        start = jnp.int32(0) if cache is None else cache.length
        heads = Heads(self.heads, self.kv_heads, self.theta, self.rotary)
        kept = []
        for i in range(self.depth):
            block = Block(self.hidden, heads, self.eps, name=f"layer_{i}")
            one = None if cache is None else (cache.keys[i], cache.values[i])
            x, one = block(x, key, one, start)
            kept.append(one)
        x = RmsNorm(self.eps, name="norm")(x)
        logits = Dense(self.vocabulary, INIT, name="head")(x, key)
        if cache is None:
            return logits
        keys, values = (jnp.stack(part) for part in zip(*kept, strict=True))
        return logits, Cache(keys, values, start + tokens.shape[1])

    def cache(
        self, sequences: int, length: int, dtype: Any = jnp.float32
    ) -> Cache:
        """An empty cache of a number of sequences and tokens."""
        size = self.width // self.heads
        shape = (self.depth, sequences, length, self.kv_heads, size)
        empty = jnp.zeros(shape, dtype)
        return Cache(empty, empty, jnp.int32(0))

    def _check(self, tokens: jax.Array) -> None:
        checks.choice("rotary", self.rotary, ROTARY)
        if self.width % (2 * self.heads) or self.heads % self.kv_heads:
            raise checks.UsageError(
                f"a width of {self.width}, {self.heads} heads and"
                f" {self.kv_heads} heads of keys do not fit: the width must be"
                " an even multiple of the heads, these one of the heads of"
                " keys."
            )
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise checks.UsageError(
                f"tokens are {tokens.dtype}{list(tokens.shape)}, but must be"
                " integers [B, T]."
            )
        checks.in_range("tokens", tokens, 0, self.vocabulary - 1)


def generate(
    model: Decoder,
    variables: Any,
    prompt: jax.Array,
    length: int,
    *,
    key: jax.Array | None = None,
    temperature: float = 1.0,
) -> jax.Array:
    """Continues prompts token by token.

    Args:
        model: the network.
        variables: its parameters, on any hardware.
        prompt: [B, P], P at least 1.
        length: tokens with those of the prompt, at least P.
        key: draws the tokens, consumed; None takes the likeliest.
        temperature: of the draw, above 0.

    Returns:
        [B, length], the prompt first.
    """
    checks.in_range("temperature", temperature, 0, open_low=True)
    b, p = prompt.shape
    checks.whole("length", length, p)
    logits, cache = model.apply(variables, prompt, cache=model.cache(b, length))  # type: ignore[misc]

    def choose(logits: jax.Array, i: jax.Array) -> jax.Array:
        if key is None:
            return logits.argmax(-1)
        one = jax.random.fold_in(key, i)
        return jax.random.categorical(one, logits / temperature)

    def step(state: Any, i: jax.Array) -> tuple[Any, jax.Array]:
        last, cache = state
        logits, cache = model.apply(variables, last[:, None], cache=cache)  # type: ignore[misc]
        token = choose(logits[:, -1], i).astype(prompt.dtype)
        return (token, cache), token

    first = choose(logits[:, -1], jnp.int32(0)).astype(prompt.dtype)
    if length == p:
        return prompt
    steps = jnp.arange(1, length - p)
    _, rest = jax.lax.scan(step, (first, cache), steps)
    return jnp.concatenate([prompt, first[:, None], rest.T], 1)
