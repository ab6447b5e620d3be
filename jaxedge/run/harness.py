"""Decoders under lm-evaluation-harness, where that is installed.

    found = harness.scores(networks.open_model(DIR), ["lm_eval:arc_easy"])

The harness asks a language model for three things, which `Scorer` answers from
`models.language`; `adapter` makes it a subclass of the harness's own `LM`.

Letters: T tokens of a window.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models import language
from jaxedge.models.transformer import Decoder
from jaxedge.recipes.networks import Opened

# How a task of the harness is written among those of `assessment`.
PREFIX = "lm_eval:"
# Tokens of a prompt that are read at once; others one by one, so that few
# programs are compiled.
_CHUNK = 16
# Tokens that are written where a task does not say how many, as in the harness.
_TOKENS = 256


def adapter(opened: Opened, base: type | None = None, **how: Any) -> Any:
    """A network as the harness wants it.

    Args:
        opened: a decoder with its tokenizer.
        base: what it is a subclass of; None takes `lm_eval.api.model.LM`.
        **how: see `Scorer`.

    Raises:
        UsageError: for an encoder, or where the harness is not installed.
    """
    if not isinstance(opened.model, Decoder):
        raise checks.UsageError(
            "lm-evaluation-harness asks for likelihoods of texts, which an"
            " encoder does not tell; give a decoder."
        )
    kind: Any = _library().api.model.LM if base is None else base
    return type("JaxedgeLM", (Scorer, kind), {})(opened, **how)


def scores(
    opened: Opened,
    tasks: Sequence[str],
    *,
    most: int | None = None,
    **how: Any,
) -> dict[str, dict[str, float]]:
    """What a decoder scores in tasks of the harness.

    Args:
        opened: the network.
        tasks: names with `PREFIX`, those of tasks or of groups of them.
        most: examples of a task; None takes all.
        **how: see `Scorer`.

    Returns:
        By task, scores by the harness's names, such as "acc_norm".

    Raises:
        UsageError: as `adapter`, or for tasks that the harness does not know or
            whose data it cannot get.
    """
    library, names = _library(), [t.removeprefix(PREFIX) for t in tasks]
    lm = adapter(opened, **how)
    try:
        found = library.simple_evaluate(
            lm, tasks=names, limit=most, bootstrap_iters=0, log_samples=False
        )
    except checks.UsageError:
        raise
    except (ImportError, KeyError, OSError, ValueError) as error:
        raise checks.UsageError(
            f"lm-evaluation-harness cannot run {', '.join(names)} ({error});"
            " see `lm_eval ls tasks`, and whether the data can be reached."
        ) from error
    return {PREFIX + name: told(row) for name, row in found["results"].items()}


def told(row: Mapping[str, Any]) -> dict[str, float]:
    """Scores of a result of the harness, without the name of no filter."""
    return {
        name.removesuffix(",none"): float(value)
        for name, value in row.items()
        if isinstance(value, (int, float))
        and "stderr" not in name
        and name != "sample_len"
    }


def check(tasks: Sequence[str]) -> None:
    """Raises UsageError if tasks need the harness and it is not there."""
    if any(task.startswith(PREFIX) for task in tasks):
        _library()


class Scorer:
    """What the harness asks a language model for.

    Requests have `args`: a context and what follows it; a text; or a context
    and how it is to go on.
    """

    def __init__(
        self, opened: Opened, *, batch: int = 8, length: int = 1024
    ) -> None:
        """Of a network.

        Args:
            opened: a decoder with its tokenizer.
            batch: sequences at once.
            length: T, of the windows that a long text is cut into.
        """
        super().__init__()
        self.opened, self.batch, self.length = opened, batch, length

    def loglikelihood(
        self, requests: Sequence[Any]
    ) -> list[tuple[float, bool]]:
        """Of each continuation, and whether it is the likeliest."""
        pairs = [self._pair(*request.args) for request in requests]
        return self._told(pairs)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Of whole texts, whose windows see as much as there is room for."""
        found = []
        for request in requests:
            tokens = self._plain(request.args[0])
            cut = windows(tokens, self.prefix, self.length)
            found.append(sum(total for total, _ in self._told([*cut])))
        return found

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy continuations, up to what ends them.

        Raises:
            UsageError: for tokens that are to be drawn.
        """
        return [self._continued(*request.args) for request in requests]

    @functools.cached_property
    def prefix(self) -> int:
        """The token that comes before a text.

        That with which the tokenizer begins, or of the end of a text.

        Raises:
            UsageError: if the tokenizer has neither.
        """
        if begun := self._begun:
            return begun[0]
        for name in ("bos_token", "eos_token"):
            if (token := self._named(name)) is not None:
                return token
        raise checks.UsageError(
            "the tokenizer names no token of the beginning or the end of a"
            " text, without which the first token of a text has no"
            " likelihood; give a folder whose tokenizer_config.json has a"
            " bos_token."
        )

    @functools.cached_property
    def _begun(self) -> list[int]:
        """Tokens of no text."""
        return [int(token) for token in self.opened.encode("")]

    def _named(self, name: str) -> int | None:
        """The token that the tokenizer's config calls so."""
        path = self.opened.files.get("tokenizer_config.json")
        if path is None:
            return None
        token = json.loads(path.read_text(encoding="utf-8")).get(name)
        token = token["content"] if isinstance(token, dict) else token
        found = self._plain(token) if token else []
        return found[0] if len(found) == 1 else None

    def _plain(self, text: str) -> list[int]:
        """Tokens of a text without the one of its beginning."""
        tokens, begun = [int(t) for t in self.opened.encode(text)], self._begun
        return tokens[1:] if begun and tokens[:1] == begun[:1] else tokens

    def _pair(self, context: str, text: str) -> tuple[list[int], list[int]]:
        if not context:
            return [self.prefix], self._plain(text)
        before, after = language.encoded(self.opened.encode, context, text)
        return (before, after) if before else ([self.prefix], after)

    def _told(
        self, pairs: Sequence[tuple[list[int], list[int]]]
    ) -> list[tuple[float, bool]]:
        if not pairs:
            return []
        found = language.log_likelihood(
            self.opened.model, self.opened.variables, pairs, batch=self.batch
        )
        rows = zip(found.total, found.greedy, strict=True)
        return [(float(total), bool(greedy)) for total, greedy in rows]

    def _continued(self, context: str, how: Mapping[str, Any]) -> str:
        if how.get("do_sample"):
            raise checks.UsageError(
                "do_sample is true, but texts are continued by their likeliest"
                " tokens; choose a task without."
            )
        until = how.get("until") or ()
        until = [until] if isinstance(until, str) else [*until]
        room = how.get("max_gen_toks") or how.get("max_tokens") or _TOKENS
        decode = self.opened.decode
        assert decode is not None
        before = [*self.opened.encode(context)] or [self.prefix]
        written: list[int] = []
        text, start = "", decode(before)
        over = {self.prefix, self._named("eos_token")}
        for token in _greedy(self.opened, before, room):
            if token in over:
                break
            written.append(token)
            # Pieces may need those before, such as for their blank.
            text = decode([*before, *written])[len(start) :]
            ends = [text.find(stop) for stop in until if stop in text]
            if ends:
                return text[: min(ends)]
        return text


def windows(
    tokens: Sequence[int], prefix: int, length: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Contexts and continuations of a text, each token in one continuation.

    The last window is as long as the others, and continues with what is left.

    Args:
        tokens: of a text.
        prefix: token before the first.
        length: T, of the tokens that a window sees.
    """
    checks.whole("length", length, 1)
    all_of_it = [prefix, *tokens]
    for start in range(0, len(tokens), length):
        end = min(start + length, len(tokens))
        # As many tokens as a window has, and what is told of it.
        first = max(end - length, 0)
        yield all_of_it[first : start + 1], all_of_it[start + 1 : end + 1]


def _greedy(opened: Opened, before: Sequence[int], room: int) -> Iterator[int]:
    """The likeliest tokens after others, one by one, up to `room`."""
    model, variables = opened.model, opened.variables
    assert isinstance(model, Decoder)
    length = _CHUNK
    while length < len(before) + room:
        length *= 2
    cache = model.cache(1, length)
    whole = len(before) // _CHUNK * _CHUNK
    parts = [before[i : i + _CHUNK] for i in range(0, whole, _CHUNK)]
    parts += [[token] for token in before[whole:]]
    token = 0
    for part in parts:
        token, cache = _next(model, variables, jnp.asarray([part]), cache)
    for _ in range(room):
        yield int(token)
        token, cache = _next(model, variables, jnp.asarray([[token]]), cache)


@functools.partial(jax.jit, static_argnums=0)
def _next(model: Decoder, variables: Any, tokens: jax.Array, cache: Any) -> Any:
    """The likeliest token after some, [], and the cache with them."""
    found: Any = model.apply(variables, tokens, cache=cache)
    logits, cache = found
    return logits[0, -1].argmax(-1).astype(jnp.int32), cache


def _library() -> Any:
    try:
        import lm_eval  # pyright: ignore[reportMissingImports]
        import lm_eval.api.model  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise checks.UsageError(
            "tasks of lm-evaluation-harness need the package lm_eval, which"
            f" cannot be imported ({error}); pip install lm_eval."
        ) from error
    return lm_eval


__all__ = ["PREFIX", "Scorer", "adapter", "check", "scores", "told", "windows"]
