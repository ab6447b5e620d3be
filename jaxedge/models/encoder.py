"""BERT-shaped encoders, whose matrices are whatever leaf they find.

Devlin et al., arXiv:1810.04805: learned positions, attention to both sides, and
a layer normalisation after each part; without dropout.

Letters: B sequences, T tokens, S tokens that are attended to, H heads, D size
of a head, W width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models.layers import Dense

INIT = nn.initializers.normal(0.02)
# Least squared length that an embedding is divided by.
_SHORTEST = 1e-24


class Attention(nn.Module):
    """Attention to all real tokens.

    Attributes:
        heads: H, a divisor of the width.
    """

    heads: int

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        b, t, width = x.shape

        def project(name: str) -> jax.Array:
            y = Dense(width, INIT, bias=True, name=name)(x, key)
            return y.reshape(b, t, self.heads, -1)

        q, k, v = (project(name) for name in "qkv")
        scores = jnp.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
        scores = jnp.where(
            mask[:, None, None], scores, jnp.finfo(scores.dtype).min
        )
        share = jax.nn.softmax(scores.astype(jnp.float32), -1).astype(x.dtype)
        y = jnp.einsum("bhts,bshd->bthd", share, v).reshape(b, t, width)
        return Dense(width, INIT, bias=True, name="o")(y, key)


class Block(nn.Module):
    """A layer: attention and a feed-forward part, a norm after each sum.

    Attributes:
        hidden: width of the feed-forward part.
        heads: of the attention.
        eps: of the norms.
    """

    hidden: int
    heads: int
    eps: float

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        y = Attention(self.heads, name="attention")(x, mask, key)
        x = _norm(x + y, self.eps, "attention_norm")
        y = Dense(self.hidden, INIT, bias=True, name="up")(x, key)
        y = jax.nn.gelu(y, approximate=False)
        y = Dense(x.shape[-1], INIT, bias=True, name="down")(y, key)
        return _norm(x + y, self.eps, "feed_forward_norm")


class Encoder(nn.Module):
    """Tokens [B, T] to hidden states [B, T, W].

    Attributes:
        vocabulary: number of tokens.
        width: W, a multiple of `heads`.
        hidden: width of the feed-forward parts.
        depth: number of layers.
        heads: H.
        positions: most tokens of a sequence.
        kinds: number of token types.
        eps: added to the variances of the norms.
    """

    vocabulary: int
    width: int
    hidden: int
    depth: int
    heads: int
    positions: int = 512
    kinds: int = 2
    eps: float = 1e-12

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        *,
        mask: jax.Array | None = None,
        types: jax.Array | None = None,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Hidden states; those of padding mean nothing.

        Args:
            tokens: integers in [0, vocabulary), [B, T].
            mask: 1 for a real token and 0 for padding, [B, T], which no token
                attends to; None has no padding.
            types: of the tokens, integers in [0, kinds), [B, T]; None is 0.
            train: of no matter; every network takes it.
            key: read key, consumed.

        Raises:
            UsageError: for sizes, shapes or values out of range.
        """
        del train
        self._check(tokens, mask, types)
        if mask is None:
            mask = jnp.ones(tokens.shape, bool)
        if types is None:
            types = jnp.zeros_like(tokens)

        def table(name: str, rows: int) -> jax.Array:
            return jnp.asarray(self.param(name, INIT, (rows, self.width)))

        x = table("embedding", self.vocabulary)[tokens]
        x = x + table("type_embedding", self.kinds)[types]
        position = table("position_embedding", self.positions)
        x = x + position[None, : tokens.shape[1]]
        x = _norm(x, self.eps, "embedding_norm")
        for i in range(self.depth):
            block = Block(self.hidden, self.heads, self.eps, name=f"layer_{i}")
            x = block(x, mask != 0, key)
        return x

    def _check(
        self,
        tokens: jax.Array,
        mask: jax.Array | None,
        types: jax.Array | None,
    ) -> None:
        if self.width % self.heads:
            raise checks.UsageError(
                f"a width of {self.width} is no multiple of {self.heads} heads;"
                " change one of them."
            )
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise checks.UsageError(
                f"tokens are {tokens.dtype}{list(tokens.shape)}, but must be"
                " integers [B, T]."
            )
        if tokens.shape[1] > self.positions:
            raise checks.UsageError(
                f"the sequences have {tokens.shape[1]} tokens, but this network"
                f" has {self.positions} positions; cut them off."
            )
        checks.in_range("tokens", tokens, 0, self.vocabulary - 1)
        if types is not None:
            _check_shape("types", types, tokens)
            checks.in_range("types", types, 0, self.kinds - 1)
        if mask is not None:
            _check_shape("mask", mask, tokens)
            checks.in_range("mask", mask, 0, 1)


def sentence_embedding(hidden: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean over the real tokens, at a length of 1.

    Args:
        hidden: states of the tokens, [B, T, W].
        mask: 1 for a real token and 0 for padding, [B, T].

    Returns:
        [B, W]; zeros for a sequence without a real token.
    """
    _check_shape("mask", mask, hidden[..., 0])
    checks.in_range("mask", mask, 0, 1)
    wide = hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32))
    # States of padding do not enter, not even as 0 times infinity.
    total = jnp.where((mask != 0)[..., None], wide, 0).sum(-2)
    count = (mask != 0).sum(-1, keepdims=True)
    mean = total / jnp.maximum(count, 1)
    square = (mean**2).sum(-1, keepdims=True)
    # Of the square, as the slope of a root at 0 is infinite.
    y = mean * jax.lax.rsqrt(jnp.maximum(square, _SHORTEST))
    return y.astype(hidden.dtype)


def _norm(x: jax.Array, eps: float, name: str) -> jax.Array:
    """Layer normalisation, computed in float32 at least."""
    # The fast variance, E x^2 - (E x)^2, loses digits where the mean is large.
    norm = nn.LayerNorm(
        epsilon=eps, dtype=x.dtype, use_fast_variance=False, name=name
    )
    return norm(x)


def _check_shape(name: str, array: jax.Array, tokens: jax.Array) -> None:
    if array.shape != tokens.shape:
        raise checks.UsageError(
            f"{name} has shape {list(array.shape)}, but the tokens"
            f" {list(tokens.shape)}; give one number a token."
        )
