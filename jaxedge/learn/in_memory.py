"""Learning in the memory itself: analogue SGD and the Tiki-Taka family.

The weights are states of cells, and every update is made of pulses. Such cells
step unequally up and down, so that pulses of both signs drive a weight to the
cell's symmetry point whatever the gradient says. The Tiki-Taka rules let a
fast array A gather gradients around its symmetry point and carry what it holds
over to a slow array C, one input at a time:

    v1  C <- C + rate A_i; the network is gamma A + C
        (Gokmen & Haensch, Front. Neurosci. 14:103 (2020))
    v2  H <- H + rate A_i, digital; where |H| passes a threshold, C gets
        single pulses (Gokmen, Front. Artif. Intell. 4:699148 (2021))
    c   v2 whose inputs change sign at random, so that what A holds of itself
        averages out (the chopper of Rasch et al. 2024)

in the form of IBM/aihwkit 1.2 (TransferCompound, BufferedTransferCompound,
ChoppedTransferCompound, with a buffer that keeps what it did not pass on).
Knows no device: an `Array` says what cells can do.

Letters: B vectors, I inputs, O outputs, R inputs a transfer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import stream

RULES = ("sgd", "tiki_taka", "tiki_taka_v2")


class Array(NamedTuple):
    """What a rule needs of an array of cells.

    Attributes:
        init: (key, w [I, O]) -> cells that show `w` as far as they can.
        weights: cells -> [I, O].
        outer: (key, cells, x [B, I], d [B, O], rate) -> cells to which rate
            sum_b x_b d_b^T was added in the mean.
        pulse: (key, cells, counts [I, O]) -> cells after signed pulses.
        step: typical change of a weight by one pulse.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    weights: Callable[[Any], jax.Array]
    outer: Callable[..., Any]
    pulse: Callable[[jax.Array, Any, jax.Array], Any]
    step: ArrayLike


class Transfer(NamedTuple):
    """How the fast array is carried over to the slow one.

    Attributes:
        fast_rate: learning rate of A, the same throughout.
        rate: of a transfer, relative to the network's learning rate.
        every: updates between two transfers.
        reads: R, inputs a transfer; the inputs take turns.
        gamma: share of A in the network's weights; 0 hides A.
        read_noise: std of one output of a read of A, in weights.
        threshold: of the buffer, in steps of C (version 2).
        momentum: share of what was passed on that stays in the buffer.
        chopper: probability that an input changes its sign after its
            transfer; 0 is version 2 without a chopper.
    """

    fast_rate: ArrayLike = 1.0
    rate: ArrayLike = 1.0
    every: int = 1
    reads: int = 1
    gamma: ArrayLike = 0.0
    read_noise: ArrayLike = 0.0
    threshold: ArrayLike = 1.0
    momentum: ArrayLike = 0.1
    chopper: ArrayLike = 0.0

    def check(self) -> None:
        """Raises UsageError for a number out of range."""
        checks.whole("every", self.every, 1)
        checks.whole("reads", self.reads, 1)
        for name in ("fast_rate", "rate", "gamma", "read_noise"):
            checks.in_range(name, getattr(self, name), 0)
        checks.in_range("threshold", self.threshold, 0, open_low=True)
        checks.in_range("momentum", self.momentum, 0, 1)
        checks.in_range("chopper", self.chopper, 0, 1)


class Single(NamedTuple):
    """State of analogue SGD: one array."""

    cells: Any


class Coupled(NamedTuple):
    """State of a Tiki-Taka rule.

    Attributes:
        fast: cells of A.
        slow: cells of C.
        buffer: H [I, O], in steps of C; zeros in version 1.
        signs: of the inputs [I], 1 or -1; always 1 without a chopper.
        updates: int32 [].
    """

    fast: Any
    slow: Any
    buffer: jax.Array
    signs: jax.Array
    updates: jax.Array


class Rule(NamedTuple):
    """A way to learn a weight matrix in cells.

    Attributes:
        init: (key, w [I, O]) -> state.
        weights: state -> [I, O], what the network multiplies by.
        update: (key, state, x [B, I], d [B, O], rate) -> state, one step down
            the gradient sum_b x_b d_b^T.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    weights: Callable[[Any], jax.Array]
    update: Callable[..., Any]


def sgd(array: Array) -> Rule:
    """Analogue SGD: every gradient is pulsed into the weights themselves."""

    def update(
        key: jax.Array,
        state: Single,
        x: jax.Array,
        d: jax.Array,
        rate: ArrayLike,
    ) -> Single:
        return Single(array.outer(key, state.cells, x, -d, rate))

    return Rule(
        init=lambda key, w: Single(array.init(key, w)),
        weights=lambda state: array.weights(state.cells),
        update=update,
    )


def tiki_taka(
    fast: Array, slow: Array, transfer: Transfer, *, version: int = 2
) -> Rule:
    """A Tiki-Taka rule.

    Args:
        fast: the cells of A.
        slow: the cells of C.
        transfer: how A is carried over.
        version: 1 writes what is read of A straight into C, by pulse trains;
            2 gathers it in a digital buffer first.
    """
    transfer.check()
    checks.choice("version", str(version), ("1", "2"))

    def init(key: jax.Array, w: jax.Array) -> Coupled:
        return Coupled(
            fast=fast.init(stream(key, "fast"), jnp.zeros_like(w)),
            slow=slow.init(stream(key, "slow"), w),
            buffer=jnp.zeros_like(w),
            signs=jnp.ones(w.shape[0], w.dtype),
            updates=jnp.int32(0),
        )

    def weights(state: Coupled) -> jax.Array:
        shown = slow.weights(state.slow)
        return shown + transfer.gamma * fast.weights(state.fast)

    def update(
        key: jax.Array,
        state: Coupled,
        x: jax.Array,
        d: jax.Array,
        rate: ArrayLike,
    ) -> Coupled:
        cells = fast.outer(
            stream(key, "gradient"),
            state.fast,
            x * state.signs[None],
            -d,
            transfer.fast_rate,
        )
        state = state._replace(fast=cells, updates=state.updates + 1)
        return jax.lax.cond(
            state.updates % transfer.every == 0,
            lambda: move(stream(key, "transfer"), state, rate),
            lambda: state,
        )

    def move(key: jax.Array, state: Coupled, rate: ArrayLike) -> Coupled:
        inputs = state.signs.shape[0]
        reads = min(transfer.reads, inputs)
        turn = state.updates // transfer.every - 1
        rows_R = (turn * reads + jnp.arange(reads)) % inputs
        read_RxO = _read(stream(key, "read"), fast, state, rows_R)
        read_RxO *= state.signs[rows_R][:, None]
        carry = _straight if version == 1 else _buffered
        given_RxO = jnp.multiply(transfer.rate, rate) * read_RxO
        state = carry(key, slow, transfer, state, rows_R, given_RxO)
        flips = jax.random.bernoulli(
            stream(key, "chopper"), transfer.chopper, (reads,)
        )
        turned = jnp.where(flips, -1, 1).astype(state.signs.dtype)
        return state._replace(signs=state.signs.at[rows_R].multiply(turned))

    def _read(
        key: jax.Array, fast: Array, state: Coupled, rows_R: jax.Array
    ) -> jax.Array:
        read = fast.weights(state.fast)[rows_R]
        noise = jax.random.normal(key, read.shape, read.dtype)
        return read + transfer.read_noise * noise

    return Rule(init, weights, update)


class Scaled(NamedTuple):
    """State of a rule whose array is multiplied by a digital factor."""

    scale: jax.Array
    state: Any


def scaled(rule: Rule, fill: ArrayLike) -> Rule:
    """A rule whose largest initial weight becomes `fill` in the cells.

    A digital factor an array, fixed at the start, gives the network its own
    weights back; learning rates stay those of the network's weights. Steps
    and write noise are then as small beside the weights as the cells allow
    (the weight scaling of Rasch et al., arXiv:1906.02698).
    """

    def init(key: jax.Array, w: jax.Array) -> Scaled:
        largest = jnp.max(jnp.abs(w))
        scale = jnp.where(largest > 0, largest, 1) / fill
        return Scaled(scale, rule.init(key, w / scale))

    def update(
        key: jax.Array,
        state: Scaled,
        x: jax.Array,
        d: jax.Array,
        rate: ArrayLike,
    ) -> Scaled:
        inner = rule.update(key, state.state, x, d / state.scale, rate)
        return state._replace(state=inner)

    return Rule(
        init=init,
        weights=lambda state: state.scale * rule.weights(state.state),
        update=update,
    )


def _straight(
    key: jax.Array,
    slow: Array,
    transfer: Transfer,
    state: Coupled,
    rows_R: jax.Array,
    given_RxO: jax.Array,
) -> Coupled:
    """Version 1: an outer product of one-hot inputs and what was read."""
    hot = jax.nn.one_hot(rows_R, state.signs.shape[0], dtype=given_RxO.dtype)
    cells = slow.outer(stream(key, "write"), state.slow, hot, given_RxO, 1.0)
    return state._replace(slow=cells)


def _buffered(
    key: jax.Array,
    slow: Array,
    transfer: Transfer,
    state: Coupled,
    rows_R: jax.Array,
    given_RxO: jax.Array,
) -> Coupled:
    """Version 2: at most one pulse a cell, the rest stays in the buffer."""
    full = state.buffer[rows_R] + given_RxO / slow.step
    passed = jnp.clip(jnp.trunc(full / transfer.threshold), -1, 1)
    kept = full - (1 - transfer.momentum) * passed * transfer.threshold
    counts = jnp.zeros(state.buffer.shape, jnp.int32)
    counts = counts.at[rows_R].set(passed.astype(jnp.int32))
    return state._replace(
        slow=slow.pulse(stream(key, "write"), state.slow, counts),
        buffer=state.buffer.at[rows_R].set(kept),
    )
