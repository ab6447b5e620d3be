"""What the clients have annotated next: the section `active` of a config.

FEAL's calibrated evidential sampling (arXiv:2312.02567) and what it is compared
with, all by `learn.active.choose`. Every client begins with a few examples,
drawn at random; after some rounds it looks at those without a label, with the
server's network and with its own, and has a budget of them annotated.

Letters: N examples, C clients, K classes, P positions, Q queries.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.learn import active, coreset, evidential
from jaxedge.models import pooling
from jaxedge.recipes import coresets, evidence
from jaxedge.recipes.recipe import Recipe, Subset

ALL = "all"
# Methods that are defined for labels by position: means over these.
_BY_POSITION = ("random", "entropy", "least_confidence", "margin", "feal")


class Active(NamedTuple):
    """The section.

    Attributes:
        method: "all" for every example labelled from the start, or a name of
            `learn.active.METHODS`.
        initial: examples that a client begins with.
        budget: examples that it has annotated in a query.
        every: rounds after which there is a query.
        most: share of a client's examples that may be labelled in the end.
        pool: unlabelled examples that a client looks at, at most; drawn anew.
        restart: whether the network begins anew at every query.
        model: whose uncertainty counts for methods that ask one network,
            "global" or "local".
        neighbours: of "feal", examples that may make another redundant.
        threshold: of "feal", the cosine from which they do.
        fill: of "feal", what fills a query that the relaxation leaves short.
    """

    method: str = ALL
    initial: int = 0
    budget: int = 0
    every: int = 10
    most: float = 1.0
    pool: int = 10_000
    restart: bool = True
    model: str = "global"
    neighbours: int = 5
    threshold: float = 0.85
    fill: str = "best"

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("active.method", self.method, (ALL, *active.METHODS))
        checks.choice("active.model", self.model, active.MODELS)
        checks.choice("active.fill", self.fill, active.FILLS)
        checks.in_range("active.most", self.most, 0, 1, open_low=True)
        checks.in_range("active.threshold", self.threshold, -1, 1)
        for name in ("every", "pool", "neighbours"):
            checks.whole(f"active.{name}", getattr(self, name), 1)
        if self.method == ALL:
            return
        checks.whole("active.initial", self.initial, 1)
        checks.whole("active.budget", self.budget, 1)
        if "logits_T" in active.METHODS[self.method].needs:
            raise checks.UsageError(
                f"active.method {self.method!r} asks several stochastic"
                " networks, which a round of clients has not; choose another."
            )


def check(given: Active, held: Sequence[int] | np.ndarray) -> None:
    """Raises UsageError for a budget beyond what a client has.

    Args:
        given: the section.
        held: examples of each client.
    """
    if given.method == ALL:
        return
    least = min(_cap(given, n) for n in held)
    if given.initial > least:
        raise checks.UsageError(
            f"active.initial is {given.initial}, but client"
            f" {int(np.argmin(held))} may label only {least} examples"
            " (active.most of its own); lower active.initial."
        )


def most(given: Active, held: np.ndarray, rounds: int) -> np.ndarray:
    """Labelled examples of each client in the last round, [C]."""
    if given.method == ALL:
        return held
    asked = max(math.ceil(rounds / given.every) - 1, 0)
    wanted = given.initial + asked * given.budget
    return np.array([min(wanted, _cap(given, n)) for n in held])


def _cap(given: Active, n: int) -> int:
    return math.ceil(given.most * n)


def make(
    given: Active,
    inner: Recipe,
    own: Callable[[Any, int | None], Any],
    clients: int,
    classes: int,
    source: data.Source,
    told: evidence.Evidence,
) -> Subset | None:
    """How clients choose what they learn from; None where they have it all.

    Args:
        given: the section.
        inner: what the clients run.
        own: (state, client) -> variables of the client's network after the last
            round; of None those of the server's.
        clients: C.
        classes: K.
        source: the training split, with sites.
        told: what logits mean.

    Raises:
        UsageError: for a method that is not defined for labels by position.
    """
    if given.method == ALL:
        return None
    ask = asker(given, inner, classes, source, told)
    variables = jax.jit(own, static_argnums=1)

    def init(source: data.Source) -> dict[str, np.ndarray]:
        n = len(source.y)
        return {
            "rows": np.zeros(n, bool),
            "read": np.zeros((), np.int32),
            "score": np.full(n, np.nan, np.float32),
            "query": np.full(n, -1, np.int32),
        }

    def choose(
        state: Any, memory: Any, source: data.Source, epoch: int, key: jax.Array
    ) -> dict[str, np.ndarray]:
        memory = {name: np.asarray(a).copy() for name, a in memory.items()}
        site = np.asarray((source.aux or {})["site"])
        everyone = variables(state, None) if epoch else None
        for client in range(clients):
            rows = np.flatnonzero(site == client)
            found = ask(
                source.rows(rows),
                memory["rows"][rows],
                epoch,
                stream(key, "client", client),
                everyone,
                variables(state, client) if epoch else None,
            )
            memory["rows"][rows[found.picked]] = True
            memory["query"][rows[found.picked]] = epoch // given.every
            memory["read"] += found.read
            asked = ~np.isnan(found.score)
            memory["score"][rows[asked]] = found.score[asked]
        return memory

    return Subset(len(source.y), given.every, init, choose)


class Found(NamedTuple):
    """A client's query.

    Attributes:
        picked: places among its examples, the first pick first.
        score: uncertainty of each, [M] float32; NaN where none was computed.
        read: examples that networks ran on.
    """

    picked: np.ndarray
    score: np.ndarray
    read: int


def asker(
    given: Active,
    inner: Recipe,
    classes: int,
    source: data.Source,
    told: evidence.Evidence,
) -> Callable[..., Found]:
    """How one client asks, from what it has itself.

    Args:
        given: the section.
        inner: what the clients run.
        classes: K.
        source: any examples of the data set, for their shape.
        told: what logits mean; where the network tells evidence, uncertainties
            of probabilities are those of its expected ones.

    Returns:
        (source, labelled, epoch, key, server's variables, own variables) ->
        `Found`; the examples of the client, of which [M] bool are labelled.
        In epoch 0 examples are drawn at random and networks may be None.

    Raises:
        UsageError: for a method that is not defined for labels by position.
    """
    if source.y.ndim > 1 and given.method not in _BY_POSITION:
        raise checks.UsageError(
            f"active.method is {given.method!r}, but {source.name} has a label"
            f" a position; choose one of {', '.join(_BY_POSITION)}."
        )
    look = coresets.observer(inner.forward, _pooled)
    needs = active.METHODS[given.method].needs
    both = given.method in ("feal", "logo", "kafal")
    asked = ("global", "local") if both else (given.model,)

    def ask(
        source: data.Source,
        labelled: np.ndarray,
        epoch: int,
        key: jax.Array,
        server: Any,
        own: Any,
    ) -> Found:
        score = np.full(len(labelled), np.nan, np.float32)
        pool = np.flatnonzero(~labelled)
        count = given.budget if epoch else given.initial
        left = _cap(given, len(labelled)) - int(labelled.sum())
        # As in `client_data.part`: few sizes are compiled.
        size = 1 << (len(labelled) - 1).bit_length()
        noise = np.asarray(jax.random.uniform(stream(key, "pool"), (size,)))
        pool = pool[np.argsort(noise[pool], kind="stable")][: given.pool]
        count = max(min(count, left, len(pool)), 0)
        if not epoch or given.method == "random" or not count:
            return Found(pool[:count], score, 0)
        pool, mine = np.sort(pool), np.flatnonzero(labelled)
        wanted = pool
        if "labelled_features" in needs:
            wanted = np.concatenate([pool, mine])
        networks = {"global": server, "local": own}
        seen = {m: look(networks[m], source.rows(wanted)) for m in asked}
        views = {m: _view(told, view, len(pool)) for m, view in seen.items()}
        if source.y.ndim > 1:
            picked, found = _by_position(given, views, count)
        else:
            share = np.bincount(source.y[mine], minlength=classes)
            picked, found = _pick(given, views, share, count, key)
        if found is not None:
            score[pool] = found
        return Found(pool[picked], score, len(wanted) * len(seen))

    return ask


class _View(NamedTuple):
    """What one network says of the pool [N] and of labelled examples [M].

    Attributes:
        logits: of the probabilities, [N, ..., K].
        alpha: Dirichlet parameters, likewise.
        features: what the last layer is fed, [N, D].
        labelled: likewise, [M, D]; None where nobody asked.
    """

    logits: np.ndarray
    alpha: np.ndarray
    features: np.ndarray
    labelled: np.ndarray | None


def _view(told: evidence.Evidence, seen: coresets.Seen, n: int) -> _View:
    logits = seen.logits[:n]
    alpha = np.asarray(evidential.alpha(logits, told.activation))
    if told.evidential:
        logits = np.log(alpha)
    rest = seen.features[n:]
    return _View(logits, alpha, seen.features[:n], rest if len(rest) else None)


def _pick(
    given: Active,
    views: dict[str, _View],
    share: np.ndarray,
    count: int,
    key: jax.Array,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Places in the pool, and the uncertainty of each of its examples."""
    asked = views.get(given.model) or next(iter(views.values()))
    of = {name: view._asdict() for name, view in views.items()}
    both = {
        f"{what}_{name}": of[name][what] if name in of else None
        for what in ("logits", "alpha")
        for name in ("global", "local")
    }
    local = given.method in ("feal", "logo")
    picked = active.choose(
        given.method,
        active.Evidence(
            **both,
            features=views["local"].features if local else asked.features,
            labelled_features=asked.labelled,
            class_share=share,
        ),
        count,
        key,
        model=given.model,
        **_relaxation(given),
    )
    return picked, _score(given, views)


def _score(given: Active, views: dict[str, _View]) -> np.ndarray | None:
    """What a report shows of a method that goes by one number."""
    if given.method == "feal":
        alphas = (views[name].alpha for name in ("global", "local"))
        return np.asarray(active.calibrated_evidential(*alphas))
    if given.method in coreset.UNCERTAINTIES:
        logits = views[given.model].logits
        return np.asarray(coreset.uncertainty_score(logits, given.method))
    return None


def _by_position(
    given: Active, views: dict[str, _View], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `_pick`, by means over positions."""

    def mean(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(len(values), -1).mean(1)

    if given.method != "feal":
        logits = views[given.model].logits
        each = coreset.uncertainty_score(
            logits.reshape(-1, logits.shape[-1]), given.method
        )
        score = mean(np.asarray(each).reshape(logits.shape[:-1]))
        return np.argsort(-score, kind="stable")[:count], score
    known = mean(evidential.differential_entropy(views["global"].alpha))
    low, spread = known.min(), np.ptp(known)
    weight = (known - low) / spread if spread > 0 else np.ones_like(known)
    doubts = [
        mean(evidential.expected_entropy(v.alpha)) for v in views.values()
    ]
    score = weight * np.sum(doubts, 0)
    features = views["local"].features
    picked = active.relax(score, features, count, **_relaxation(given))
    return np.asarray(picked), score


def _relaxation(given: Active) -> dict[str, Any]:
    return {
        "neighbours": given.neighbours,
        "threshold": given.threshold,
        "fill": given.fill,
    }


def _pooled(x: jax.Array) -> jax.Array:
    """Features of a place of their own become means of 3 x 3 parts (feal 4.4).

    Inputs of a last layer that is no convolution stay.
    """
    return pooling.flat_means(x) if x.ndim == 4 else x
