"""Secure aggregation: a server learns the sum of vectors and none of them.

A reference of the protocol of Bonawitz et al. 2017 (CCS,
doi:10.1145/3133956.3133982), to simulate rounds, count bits and test real
implementations against. Vectors are rounded to whole numbers modulo 2^32; every
pair of clients adds and subtracts one mask, every client adds one of its own,
and what must be taken off the sum is recovered from Shamir shares, so that
clients may drop out at any time while `threshold` of them are left. Sums are
exact in the modulus.

    plan = secure_sum.plan(clients=5, threshold=3, clip=8.0)
    total = secure_sum.simulate(plan, key, updates_CxT, sent_C)

What it is not: the pairs' seeds come from a dealer, not from a Diffie-Hellman
agreement; threefry with 64 bits stands for a cryptographic generator; nothing
is signed or encrypted, and clients do not compare notes about who dropped out
(the paper's rounds 0, 1 and 3). Seeds are for one sum only: a second vector
under the same masks tells the difference of both.

Letters: C clients, N entries of a vector, T the shape of a leaf.
"""

from collections.abc import Mapping
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.core.trees import path_name
from jaxedge.learn.federated import clients as stacks
from jaxedge.learn.federated import shamir
from jaxedge.learn.federated.fixed_point import Encoded as Encoded
from jaxedge.learn.federated.fixed_point import Plan as Plan
from jaxedge.learn.federated.fixed_point import decode as decode
from jaxedge.learn.federated.fixed_point import encode as encode
from jaxedge.learn.federated.fixed_point import plan as plan


class TooFewClients(checks.UsageError):
    """Fewer clients are left than the threshold; the sum stays unknown."""


class Secrets(NamedTuple):
    """The seeds of the masks, all of them, which no single party holds.

    Attributes:
        seeds_CxC: key data uint32 [C, C, 2]: of the pair (u, v) off the
            diagonal, which u and v know; of u's own mask on it.
    """

    seeds_CxC: np.ndarray


class Shares(NamedTuple):
    """What the holders keep of each other's seeds.

    Attributes:
        limbs_HxCxC: of holder h about the seeds [u, v] as u shared them,
            int64 [C, C, C, 2, 2].
    """

    limbs_HxCxC: np.ndarray


class Revealed(NamedTuple):
    """What one holder tells the server at the end.

    Attributes:
        own: its shares of the own seeds of clients that sent their vector,
            {u: limbs}.
        pairs: its shares of the pair seeds of clients that did not, with those
            that did, {(u, v): limbs}.
    """

    own: dict[int, np.ndarray]
    pairs: dict[tuple[int, int], np.ndarray]


class Total(NamedTuple):
    """The sum of the vectors that were sent.

    Attributes:
        values: pytree without the axis of clients, float64.
        words: the exact sum modulo 2^32, uint32 [N].
        clipped: how many values were beyond the clip.
    """

    values: Any
    words: np.ndarray
    clipped: int


def agree(plan: Plan, key: jax.Array) -> Secrets:
    """The seeds of one sum, in the place of a key agreement.

    Args:
        plan: of the sum.
        key: typed, shape []; consumed, and never used for another sum.
    """
    check_key(key)
    n = plan.clients
    seeds = np.array(jax.random.bits(stream(key, "seeds"), (n, n, 2)))
    low = np.tril_indices(n, -1)
    seeds[low] = seeds[low[::-1]]
    return Secrets(seeds)


def share(plan: Plan, secrets: Secrets, key: jax.Array) -> Shares:
    """Every client's shares of its seeds for all clients."""
    limbs = shamir.split(secrets.seeds_CxC)
    polynomials = stream(key, "shares")
    return Shares(
        shamir.share(polynomials, limbs, plan.clients, plan.threshold)
    )


def mask(plan: Plan, secrets: Secrets, client: int, words: Any) -> np.ndarray:
    """What a client sends: its vector under its own and its pairs' masks.

    y_u = x_u + PRG(b_u) + sum_{v > u} PRG(s_uv) - sum_{v < u} PRG(s_uv) modulo
    2^32 (Bonawitz et al. 2017, section 4.2).

    Args:
        plan: of the sum.
        secrets: of all; only the row of the client is used.
        client: u in [0, C).
        words: of `encode`, uint32 [N].

    Returns:
        uint32 [N].
    """
    _check_client(plan, client)
    words = np.asarray(words)
    if words.ndim != 1 or words.dtype != np.uint32:
        raise checks.UsageError(
            f"words have dtype {words.dtype} and shape {words.shape}, but must"
            " be uint32 [N]; use encode."
        )
    signs = _signs(plan.clients, client)
    return words + _masks(secrets.seeds_CxC[client], signs, words.size)


def reveal(plan: Plan, shares: Shares, holder: int, sent: Any) -> Revealed:
    """What a client tells of the others' seeds, once it knows who sent.

    Of each client either the own or the pair seeds, never both: both together
    would uncover its vector.

    Args:
        plan: of the sum.
        shares: of all; only those of the holder are used.
        holder: the client that tells, in [0, C).
        sent: the clients whose vectors arrived.

    Raises:
        TooFewClients: if fewer have sent than the threshold.
    """
    _check_client(plan, holder)
    sent = _check_sent(plan, sent)
    limbs = shares.limbs_HxCxC[holder]
    gone = [u for u in range(plan.clients) if u not in sent]
    return Revealed(
        {u: limbs[u, u] for u in sent},
        {(u, v): limbs[u, v] for u in gone for v in sent},
    )


def unmask(
    plan: Plan,
    masked: Mapping[int, np.ndarray],
    revealed: Mapping[int, Revealed],
) -> np.ndarray:
    """The sum of the vectors that arrived, modulo 2^32.

    Args:
        plan: of the sum.
        masked: by client, what `mask` gave, uint32 [N].
        revealed: by client, what `reveal` gave for exactly these.

    Returns:
        uint32 [N], exact.

    Raises:
        TooFewClients: if fewer vectors or answers than the threshold are there.
        UsageError: for answers about other clients, vectors of several lengths,
            or shares that contradict each other.
    """
    sent = _check_sent(plan, masked)
    if len(revealed) < plan.threshold:
        raise TooFewClients(
            f"{len(revealed)} clients have answered, but {plan.threshold} are"
            " needed to take the masks off; repeat the round."
        )
    gone = [u for u in range(plan.clients) if u not in sent]
    wanted = ({*sent}, {(u, v) for u in gone for v in sent})
    for holder, told in revealed.items():
        _check_client(plan, holder)
        if ({*told.own}, {*told.pairs}) != wanted:
            raise checks.UsageError(
                f"client {holder} answered about other clients than the"
                f" {len(sent)} whose vectors arrived; ask all for the same."
            )
    vectors = [np.asarray(masked[u]) for u in sent]
    if len({v.shape for v in vectors}) > 1:
        raise checks.UsageError(
            f"vectors have shapes {sorted({v.shape for v in vectors})}, but"
            " must be of one length."
        )
    total = np.sum(vectors, 0, dtype=np.uint32)
    return total - _left_over(plan, sent, gone, revealed, total.size)


def simulate(
    plan: Plan,
    key: jax.Array,
    values_CxT: Any,
    sent_C: ArrayLike | None = None,
    answered_C: ArrayLike | None = None,
    *,
    saturate: bool = False,
) -> Total:
    """A whole secure sum of stacked clients, with drop-outs; on the host.

    For a weighted mean clients send w x and w, and the sums are divided.

    Args:
        plan: of the sum.
        key: typed, shape []; consumed.
        values_CxT: pytree of arrays [C, ...] within the clip.
        sent_C: whose vectors arrive, bool [C]; None is all.
        answered_C: who still answers at the end, bool [C]; None is those who
            sent.
        saturate: as for `encode`.

    Returns:
        The sum over `sent_C`.

    Raises:
        TooFewClients: if fewer are left than the threshold.
        UsageError: for shapes that do not agree, or as `encode`.
    """
    n = stacks.count(values=values_CxT)
    if n != plan.clients:
        raise checks.UsageError(
            f"values has {n} clients, but the plan has {plan.clients}."
        )
    sent = _who("sent", sent_C, range(n), n)
    answered = _who("answered", answered_C, sent, n)
    paths, tree = jax.tree_util.tree_flatten_with_path(values_CxT)
    leaves = [_real(path_name(path), leaf) for path, leaf in paths]
    flat_CxN = np.concatenate([x.reshape(n, -1) for x in leaves], 1)
    secrets = agree(plan, key)
    shares = share(plan, secrets, key)
    encoded = {u: encode(plan, flat_CxN[u], saturate=saturate) for u in sent}
    masked = {u: mask(plan, secrets, u, e.words) for u, e in encoded.items()}
    revealed = {h: reveal(plan, shares, h, sent) for h in answered}
    words = unmask(plan, masked, revealed)
    ends = np.cumsum([x[0].size for x in leaves])[:-1]
    parts = np.split(decode(plan, words), ends)
    parts = [p.reshape(x.shape[1:]) for p, x in zip(parts, leaves, strict=True)]
    clipped = sum(e.clipped for e in encoded.values())
    return Total(jax.tree.unflatten(tree, parts), words, clipped)


def _left_over(plan, sent, gone, revealed, n) -> np.ndarray:
    """The masks that do not cancel in the sum, uint32 [N]."""
    total = np.zeros(n, np.uint32)
    seeds = np.zeros((plan.clients, 2), np.uint32)
    for u in sent:
        seeds[u] = _recover(
            plan, [r.own[u] for r in revealed.values()], revealed
        )
    own = np.zeros(plan.clients, np.uint32)
    own[sent] = 1
    total += _masks(seeds, own, n)
    for u in gone:
        signs = -_signs(plan.clients, u)
        signs[[*gone, u]] = 0
        pairs = np.zeros_like(seeds)
        for v in sent:
            told = [r.pairs[u, v] for r in revealed.values()]
            pairs[v] = _recover(plan, told, revealed)
        total += _masks(pairs, signs, n)
    return total


def _recover(plan: Plan, told: Any, holders: Any) -> np.ndarray:
    points = np.asarray([*holders]) + 1
    return shamir.join(shamir.recover(np.stack(told), points, plan.threshold))


def _signs(n: int, client: int) -> np.ndarray:
    """Of the masks in a client's vector: 1 or -1, modulo 2^32, [C]."""
    signs = np.where(np.arange(n) < client, -1, 1)
    return signs.astype(np.int64).astype(np.uint32)


def _masks(seeds: np.ndarray, signs: np.ndarray, n: int) -> np.ndarray:
    return np.asarray(_expand(seeds, signs, n=n))


@functools.partial(jax.jit, static_argnames="n")
def _expand(seeds: jax.Array, signs: jax.Array, *, n: int) -> jax.Array:
    """sum_v sign_v PRG(seed_v) modulo 2^32, one at a time: uint32 [N]."""

    def add(total, one):
        seed, sign = one
        bits = jax.random.bits(jax.random.wrap_key_data(seed), (n,))
        return total + sign * bits, None

    return jax.lax.scan(add, jnp.zeros(n, jnp.uint32), (seeds, signs))[0]


def _check_client(plan: Plan, client: int) -> None:
    checks.whole("client", client)
    checks.in_range("client", client, 0, plan.clients - 1)


def _check_sent(plan: Plan, sent: Any) -> list[int]:
    sent = sorted({*sent})
    for client in sent:
        _check_client(plan, client)
    if len(sent) < plan.threshold:
        raise TooFewClients(
            f"{len(sent)} of {plan.clients} clients have sent a vector, but the"
            f" threshold is {plan.threshold}; repeat the round."
        )
    return sent


def _who(
    name: str, mask_C: ArrayLike | None, default: Any, n: int
) -> list[int]:
    if mask_C is None:
        return [*default]
    mask = np.asarray(mask_C)
    if mask.shape != (n,) or mask.dtype != bool:
        raise checks.UsageError(
            f"{name} has dtype {mask.dtype} and shape {mask.shape}, but must be"
            f" bool [{n}]."
        )
    return np.flatnonzero(mask).tolist()


def _real(name: str, leaf: ArrayLike) -> np.ndarray:
    if not stacks.is_float(leaf):
        raise checks.UsageError(
            f"{name or 'the array'} has dtype {jnp.result_type(leaf)}, but only"
            " floats are summed; leave it out or convert it."
        )
    return np.asarray(leaf, np.float64)
