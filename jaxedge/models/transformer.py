"""LLaMA-shaped decoders, whose matrices are whatever leaf they find.

Touvron et al., arXiv:2302.13971: root-mean-square norms before each part,
rotary positions, gated feed-forward parts, and keys and values that several
heads may share (Ainslie et al., arXiv:2305.13245).

Letters: B sequences, T tokens, S tokens that are attended to, H heads, K of
them with keys and values of their own, D size of a head, W width, V vocabulary.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models.layers import Dense
from jaxedge.quantize import blocks

# How rotary positions pair the entries of a head: neighbours, as in the paper,
# or its two halves, as in the files of Hugging Face.
ROTARY = ("adjacent", "half")
# Matrices of a layer, and so those that may have a bias.
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
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


class Stretch(NamedTuple):
    """Slower rotary angles, for longer texts than those of the first training.

    The scaling "llama3" of Hugging Face: pairs that turn at most `low` times in
    a text are `factor` times as slow, those that turn `high` times or more stay
    as they are, and between these the rate is mixed linearly.

    Attributes:
        factor: at least 1.
        low: turns, below `high`.
        high: turns.
        context: tokens of a text of the first training.
    """

    factor: float
    low: float
    high: float
    context: int

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.in_range("factor", self.factor, 1)
        checks.in_range("low", self.low, 0)
        checks.ordered("low", self.low, "high", self.high)
        checks.whole("context", self.context, 1)

    def slow(self, rate: jax.Array) -> jax.Array:
        """The rates of pairs, radians a token, as they become."""
        turns = self.context * rate / (2 * math.pi)
        kept = jnp.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return rate * (kept + (1 - kept) / self.factor)


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
    x: jax.Array,
    position: jax.Array,
    theta: float,
    rotary: str,
    stretch: Stretch | None = None,
) -> jax.Array:
    """Turns pairs of entries by angles in proportion to the position.

    Pair i turns by position * theta^(-2 i / D) (Su et al., arXiv:2104.09864).

    Args:
        x: [B, T, H, D].
        position: of the tokens, [T].
        theta: base of the angles.
        rotary: which entries are pairs, of `ROTARY`.
        stretch: slows the angles; None does not.
    """
    half = x.shape[-1] // 2
    rate = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if stretch is not None:
        rate = stretch.slow(rate)
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
        size: D, even.
        theta: base of the rotary angles.
        rotary: of `ROTARY`.
        stretch: slows the angles.
        kv: block format of keys and values, see `Decoder`.
    """

    count: int
    of_keys: int
    size: int
    theta: float
    rotary: str
    stretch: Stretch | None
    kv: str | None = None


class Attention(nn.Module):
    """Attention to the tokens before, with rotary positions.

    Attributes:
        heads: its heads.
        biased: matrices with a bias, of `MATRICES`.
    """

    heads: Heads
    biased: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        kept: tuple[jax.Array, jax.Array] | None,
        start: jax.Array,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        b, t, width = x.shape
        heads, of_keys, size, theta, rotary, stretch, kv = self.heads
        position = start + jnp.arange(t)

        def project(name: str, count: int) -> jax.Array:
            dense = Dense(count * size, INIT, name in self.biased, name=name)
            return dense(x, key).reshape(b, t, count, size)

        def turn(x: jax.Array) -> jax.Array:
            return rotate(x, position, theta, rotary, stretch)

        q, k = turn(project("q", heads)), turn(project("k", of_keys))
        v = project("v", of_keys)
        if kv is not None:
            k, v = (blocks.fake_quant(a, blocks.of(kv)) for a in (k, v))
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
        y = jnp.einsum("bkgts,bskd->btkgd", share, v).reshape(b, t, -1)
        return Dense(width, INIT, "o" in self.biased, name="o")(y, key), kept


class Block(nn.Module):
    """A layer: attention and a gated feed-forward part, each with a norm.

    Attributes:
        hidden: width of the feed-forward part.
        heads: of the attention.
        eps: of the norms.
        biased: matrices with a bias, of `MATRICES`.
    """

    hidden: int
    heads: Heads
    eps: float
    biased: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None,
        kept: tuple[jax.Array, jax.Array] | None,
        start: jax.Array,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        attention = Attention(self.heads, self.biased, name="attention")
        y, kept = attention(
            RmsNorm(self.eps, name="attention_norm")(x), key, kept, start
        )
        x = x + y
        y = RmsNorm(self.eps, name="feed_forward_norm")(x)

        def dense(name: str, features: int, y: jax.Array) -> jax.Array:
            return Dense(features, INIT, name in self.biased, name=name)(y, key)

        gate = jax.nn.silu(dense("gate", self.hidden, y))
        y = gate * dense("up", self.hidden, y)
        return x + dense("down", x.shape[-1], y), kept


class Decoder(nn.Module):
    """A language model: tokens [B, T] to logits of the next ones, [B, T, V].

    Attributes:
        vocabulary: V.
        width: W.
        hidden: width of the feed-forward parts.
        depth: number of layers.
        heads: H.
        kv_heads: K, a divisor of H.
        theta: base of the rotary angles.
        rotary: of `ROTARY`.
        eps: of the norms.
        head_size: D, even; None is W / H.
        stretch: slows the rotary angles.
        biased: matrices with a bias, of `MATRICES`.
        kv: block format of keys and values along a head, of
            `quantize.blocks.NAMED`, whose scales are powers of two: those of
            other kinds depend on all tokens of a call. None keeps them exact.
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
    head_size: int | None = None
    stretch: Stretch | None = None
    biased: tuple[str, ...] = ()
    kv: str | None = None

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
        heads = Heads(
            self.heads, self.kv_heads, self._size(), self.theta, self.rotary,
            self.stretch, self.kv,
        )  # fmt: skip
        kept = []
        for i in range(self.depth):
            name = f"layer_{i}"
            block = Block(self.hidden, heads, self.eps, self.biased, name=name)
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
        shape = (self.depth, sequences, length, self.kv_heads, self._size())
        empty = jnp.zeros(shape, dtype)
        return Cache(empty, empty, jnp.int32(0))

    def _size(self) -> int:
        """Of a head."""
        if self.head_size is not None:
            return self.head_size
        return self.width // self.heads

    def _check(self, tokens: jax.Array) -> None:
        checks.choice("rotary", self.rotary, ROTARY)
        for name in self.biased:
            checks.choice("matrix in biased", name, MATRICES)
        if self.stretch is not None:
            self.stretch.check()
        check_kv(self.kv)
        if self.head_size is None:
            unfit = self.width % (2 * self.heads)
        else:
            checks.whole("head_size", self.head_size, 2)
            unfit = self.head_size % 2
        if unfit or self.heads % self.kv_heads:
            raise checks.UsageError(
                f"a width of {self.width}, {self.heads} heads and"
                f" {self.kv_heads} heads of keys do not fit: the width must be"
                " an even multiple of the heads (or head_size even), these one"
                " of the heads of keys."
            )
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise checks.UsageError(
                f"tokens are {tokens.dtype}{list(tokens.shape)}, but must be"
                " integers [B, T]."
            )
        checks.in_range("tokens", tokens, 0, self.vocabulary - 1)


def check_kv(kv: str | None) -> None:
    """Raises UsageError unless keys may be kept so, see `Decoder`."""
    if kv is not None and blocks.of(kv).scale != "e8m0":
        fit = [name for name, b in blocks.NAMED.items() if b.scale == "e8m0"]
        raise checks.UsageError(
            f"kv is {kv!r}, whose scales depend on tokens that are not there"
            f" yet; use one of {', '.join(fit)}."
        )


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
