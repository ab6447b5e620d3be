"""What a language model says of texts, on any hardware.

Functions of a network (called as (tokens, key=) for logits of the next ones),
its variables, whose leaves may be any hardware, and tokens.

Letters: N sequences, T tokens of one, B sequences at once, V vocabulary, Q
questions.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream

Progress = Callable[[int, int], None]
Encode = Callable[[str], Sequence[int]]
# Tokens of the shortest sequence that is computed; others have twice as many,
# four times, ..., so that few programs are compiled.
SHORTEST = 16


class Likelihoods(NamedTuple):
    """What continuations are worth.

    Attributes:
        total: log-likelihood of each, nats, [N] float64.
        tokens: of each, [N].
        greedy: whether each of its tokens is the likeliest one there, [N].
    """

    total: np.ndarray
    tokens: np.ndarray
    greedy: np.ndarray


class Asked(Protocol):
    """A question, such as those of `data.choices`."""

    @property
    def prompts(self) -> Sequence[tuple[str, str]]:
        """Of every choice a context and how it goes on."""
        ...

    @property
    def label(self) -> int:
        """The place of the right choice."""
        ...


class Answers(NamedTuple):
    """How well questions were answered.

    Attributes:
        acc: share whose right choice has the largest log-likelihood.
        acc_error: standard error of it; NaN of a single question.
        acc_norm: share whose right choice has the largest log-likelihood a
            character, as lm-evaluation-harness counts it: of the choice without
            the blank before it. Choices in ASCII have a byte a character.
        acc_norm_error: standard error of it.
        totals: log-likelihoods of the choices, nats, Q arrays.
    """

    acc: float
    acc_error: float
    acc_norm: float
    acc_norm_error: float
    totals: tuple[np.ndarray, ...]


def perplexity(
    model: nn.Module,
    variables: Any,
    tokens: Any,
    *,
    batch: int = 8,
    key: jax.Array | None = None,
    progress: Progress | None = None,
) -> float:
    """exp of the mean negative log-likelihood of a token, given those before.

    The first token of a sequence is given, T - 1 are told.

    Args:
        model: the network.
        variables: its parameters.
        tokens: [N, T], T at least 2.
        batch: B.
        key: read key, consumed; None reads without noise.
        progress: called with the sequences that are done and N.

    Raises:
        UsageError: for tokens of another shape or kind.
    """
    tokens = np.asarray(tokens)
    whole = np.issubdtype(tokens.dtype, np.integer)
    if not whole or tokens.ndim != 2 or tokens.shape[1] < 2 or not len(tokens):
        raise checks.UsageError(
            f"tokens are {tokens.dtype}{list(tokens.shape)}, but must be"
            " integers [N, T] with T at least 2."
        )
    checks.whole("batch", batch, 1)
    total = 0.0
    for rows, part in _batches(tokens, batch):
        found, _ = _told(model, variables, part, _read(key, rows[0]))
        # Thousands of terms add up on the host, in float64.
        total += np.asarray(found, np.float64)[: len(rows)].sum()
        if progress is not None:
            progress(int(rows[-1]) + 1, len(tokens))
    return float(np.exp(-total / tokens[:, 1:].size))


def log_likelihood(
    model: nn.Module,
    variables: Any,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch: int = 8,
    most: int | None = None,
    key: jax.Array | None = None,
    progress: Progress | None = None,
) -> Likelihoods:
    """Log-likelihoods of continuations, given what they continue.

    Sequences of about one length are computed together, with padding that comes
    last, where no token before it can see it. (Hardware that sets the range of
    its inputs by a whole batch sees it.)

    Args:
        model: a network whose tokens see those before them alone.
        variables: its parameters.
        pairs: tokens of a context, one or more, and of what follows, likewise.
        batch: B.
        most: tokens of a sequence; of a longer one the first are left out, as
            in lm-evaluation-harness. None takes all.
        key: read key, consumed; None reads without noise.
        progress: called with the sequences that are done and N.

    Returns:
        In the order of `pairs`.

    Raises:
        UsageError: for an empty context or continuation, or one that is longer
            than `most`.
    """
    checks.whole("batch", batch, 1)
    cut = [_sequence(i, *pair, most) for i, pair in enumerate(pairs)]
    counts = np.array([len(pair[1]) for pair in pairs])
    lengths = np.array([_padded(len(sequence), most) for sequence in cut])
    totals, greedy = np.zeros(len(cut)), np.ones(len(cut), bool)
    done = 0
    for length in sorted(set(lengths.tolist())):
        places = np.flatnonzero(lengths == length)
        tokens = np.zeros((len(places), length), np.int32)
        for row, place in zip(tokens, places, strict=True):
            row[: len(cut[place])] = cut[place]
        for rows, part in _batches(tokens, batch):
            told, first = _told(model, variables, part, _read(key, done))
            told, first = np.asarray(told, np.float64), np.asarray(first)
            # Rows that fill the batch up have no place.
            for row, best, place in zip(
                told, first, places[rows], strict=False
            ):
                end = len(cut[place]) - 1
                own = slice(end - counts[place], end)
                totals[place], greedy[place] = row[own].sum(), best[own].all()
            done += len(rows)
            if progress is not None:
                progress(done, len(cut))
    return Likelihoods(totals, counts, greedy)


def answer(
    questions: Sequence[Asked],
    encode: Encode,
    model: nn.Module,
    variables: Any,
    *,
    batch: int = 8,
    most: int | None = None,
    key: jax.Array | None = None,
    progress: Progress | None = None,
) -> Answers:
    """Chooses the likeliest continuation of every question.

    Args:
        questions: one or more, such as `data.choices.load("arc_easy")`.
        encode: text to tokens.
        model: as for `log_likelihood`, and so are the others.
        variables: its parameters.
        batch: B.
        most: tokens of a sequence.
        key: read key, consumed.
        progress: called with the sequences that are done and their number.

    Raises:
        UsageError: as `log_likelihood`, or if there is no question.
    """
    if not len(questions):
        raise checks.UsageError("there are no questions; give one or more.")
    prompts = [prompt for asked in questions for prompt in asked.prompts]
    pairs = [encoded(encode, *prompt) for prompt in prompts]
    found = log_likelihood(
        model,
        variables,
        pairs,
        batch=batch,
        most=most,
        key=key,
        progress=progress,
    )
    lengths = np.array([len(text.removeprefix(" ")) for _, text in prompts])
    ends = np.cumsum([len(asked.prompts) for asked in questions])[:-1]
    labels = np.array([asked.label for asked in questions])
    totals = np.split(found.total, ends)
    by_length = np.split(found.total / np.maximum(lengths, 1), ends)
    right, right_norm = (
        np.array([scores.argmax() for scores in each]) == labels
        for each in (totals, by_length)
    )
    return Answers(*_share(right), *_share(right_norm), tuple(totals))


@functools.partial(jax.jit, static_argnums=0)
def _told(
    model: nn.Module, variables: Any, tokens: jax.Array, key: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Of every token but the first, both [B, T - 1].

    Its log-likelihood, float32, and whether it is the likeliest.
    """
    logits: Any = model.apply(variables, tokens[:, :-1], key=key)
    logits, after = logits.astype(jnp.float32), tokens[:, 1:]
    said = jnp.take_along_axis(logits, after[..., None], -1)[..., 0]
    return said - jax.nn.logsumexp(logits, -1), logits.argmax(-1) == after


def _batches(
    tokens: np.ndarray, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and their tokens, [B, T]; the last are filled up with row 0."""
    for start in range(0, len(tokens), batch):
        rows = np.arange(start, min(start + batch, len(tokens)))
        filled = np.pad(rows, (0, batch - len(rows)))
        yield rows, tokens[filled].astype(np.int32)


def _read(key: jax.Array | None, start: Any) -> jax.Array | None:
    return None if key is None else stream(key, "read", int(start))


def _padded(length: int, most: int | None) -> int:
    """The length that a sequence is filled up to, its last token included."""
    padded = SHORTEST
    while padded < length - 1:
        padded *= 2
    return 1 + (padded if most is None else min(padded, most))


def _sequence(
    i: int, context: Sequence[int], text: Sequence[int], most: int | None
) -> list[int]:
    """Context and continuation, of which the last `most` + 1 are kept."""
    if not len(context) or not len(text):
        raise checks.UsageError(
            f"pair {i} has {len(context)} tokens of context and {len(text)} of"
            " what follows; give one or more of both, such as a token of the"
            " beginning."
        )
    if most is not None and len(text) > most:
        raise checks.UsageError(
            f"what follows in pair {i} has {len(text)} tokens, but `most` is"
            f" {most}; raise it."
        )
    both = [*context, *text]
    return both if most is None else both[-most - 1 :]


def encoded(
    encode: Encode, context: str, text: str
) -> tuple[list[int], list[int]]:
    """Tokens of both, as those of the two together go on.

    Blanks at the end of the context belong to what follows, since tokens begin
    with them (lm-evaluation-harness).
    """
    bare = context.rstrip()
    before, both = list(encode(bare)), list(encode(context + text))
    return before, both[len(before) :]


def _share(right: np.ndarray) -> tuple[float, float]:
    """A share and its standard error, of n - 1."""
    n = len(right)
    error = right.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(right.mean()), float(error)
