"""Learning at several places that keep their data: rounds of clients.

Any recipe of gradients, on any hardware, is what the clients run: they start
from the server's network, learn on examples of their own, and the server
combines what they send (`learn.federated`). Where not all is labelled, the
clients choose what to annotate next (`recipes.queries`), so that FEAL
(arXiv:2312.02567) is a config of this recipe. An epoch of the training is a
round.

Letters: C clients, N examples of all clients, K classes.
"""

from collections.abc import Callable, Mapping
import functools
import os
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge import data
from jaxedge.core import checks
from jaxedge.data import sites
from jaxedge.learn import evidential
from jaxedge.learn import federated as rules
from jaxedge.recipes import (
    classifier,
    client_data,
    edge_pruning,
    evidence,
    optimizers,
    quantization_aware,
    queries,
    rounds,
    settings,
    site_scores,
)
from jaxedge.recipes.recipe import Recipe, Rounds, Sums

# What clients may run: recipes that learn by gradients.
INNER: dict[str, ModuleType] = {
    "classifier": classifier,
    "edge_pruning": edge_pruning,
    "quantization_aware": quantization_aware,
}
STRATEGIES = (
    "fedavg",
    "fedprox",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "scaffold",
    "median",
    "trimmed_mean",
)
# Those that need more of the clients than the sum of what they changed.
_NOT_PRIVATE = ("scaffold", "median", "trimmed_mean")
WEIGHTS = ("examples", "equal")


class Federated(NamedTuple):
    """The section `federated` of a config.

    Attributes:
        recipe: what the clients run, a name of `INNER`.
        clients: how many a data set without sites is dealt out to; None takes
            the sites of the data set.
        alpha: of the Dirichlet law by which the clients' shares of each class
            are drawn, where the data set is dealt out; None deals evenly.
        seed: of dealing out.
        strategy: of the server, a name of `STRATEGIES`.
        rate: of the server's step, for those that take one.
        momentum: of "fedavgm".
        tau: of the adaptive ones, how adaptive they are.
        mu: of "fedprox".
        trim: of "trimmed_mean", share left out at either end.
        weights: of the mean: a client's number of labelled "examples", or all
            "equal".
        local_epochs: passes of a client over its labelled examples in a round.
        present: probability that a client takes part in a round.
        clip: largest norm of what a client may change in a round; None does
            not clip, and is not private.
        noise: standard deviation of the noise on the sum of such changes, over
            `clip` (differential privacy of clients).
        delta: for which the summary tells epsilon.
        mode: how clients are computed: "vmap" all at once, "map" one after the
            other, which is faster for convolutions on CPU.
    """

    recipe: str = "classifier"
    clients: int | None = None
    alpha: float | None = None
    seed: int = 0
    strategy: str = "fedavg"
    rate: float = 1.0
    momentum: float = 0.9
    tau: float = 1e-3
    mu: float = 0.01
    trim: float = 0.1
    weights: str = "examples"
    local_epochs: int = 1
    present: float = 1.0
    clip: float | None = None
    noise: float = 0.0
    delta: float = 1e-5
    mode: str = "map"

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("federated.recipe", self.recipe, INNER)
        if self.clients is not None:
            checks.whole("federated.clients", self.clients, 1)
        if self.alpha is not None:
            checks.in_range("federated.alpha", self.alpha, 0, open_low=True)
            if self.clients is None:
                raise checks.UsageError(
                    f"federated.alpha is {self.alpha}, but the data set's own"
                    " sites are the clients; give federated.clients, or None."
                )
        checks.in_range("federated.seed", self.seed, 0, 2**31 - 1)
        checks.choice("federated.strategy", self.strategy, STRATEGIES)
        for name in ("rate", "tau"):
            value = getattr(self, name)
            checks.in_range(f"federated.{name}", value, 0, open_low=True)
        checks.in_range("federated.momentum", self.momentum, 0, 1)
        checks.in_range("federated.mu", self.mu, 0)
        checks.in_range("federated.trim", self.trim, 0, 0.499)
        checks.choice("federated.weights", self.weights, WEIGHTS)
        checks.whole("federated.local_epochs", self.local_epochs, 1)
        checks.in_range("federated.present", self.present, 0, 1, open_low=True)
        if self.clip is not None:
            checks.in_range("federated.clip", self.clip, 0, open_low=True)
        checks.in_range("federated.noise", self.noise, 0)
        checks.in_range("federated.delta", self.delta, 1e-15, 0.5)
        if self.noise and self.clip is None:
            raise checks.UsageError(
                f"federated.noise is {self.noise}, but federated.clip is None,"
                " so nothing bounds what a client changes; give a clip."
            )
        if self.clip is not None and self.weights != "equal":
            raise checks.UsageError(
                "federated.clip is given, so that clients count alike, but"
                f" federated.weights is {self.weights!r}; use 'equal'."
            )
        if self.clip is not None and self.strategy in _NOT_PRIVATE:
            raise checks.UsageError(
                f"federated.strategy {self.strategy!r} looks at each client,"
                " which federated.clip does not allow; use another, or None."
            )
        checks.choice("federated.mode", self.mode, ("vmap", "map"))


class Settings(NamedTuple):
    """A config of this recipe, checked.

    Attributes:
        inner: settings of what the clients run.
        federated: how they work together.
        active: what they have annotated.
        evidence: what they minimise.
    """

    inner: Any
    federated: Federated
    active: queries.Active
    evidence: evidence.Evidence

    @property
    def data(self) -> settings.Data:
        """The data set."""
        return self.inner.data

    @property
    def train(self) -> settings.Train:
        """How long; an epoch is a round."""
        return self.inner.train

    @property
    def hardware(self) -> settings.Hardware:
        """The chip."""
        return self.inner.hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    parts = {"federated": Federated, "active": queries.Active}
    parts |= {"evidence": evidence.Evidence}
    own = {}
    for name, kind in parts.items():
        if name not in config:
            raise checks.UsageError(
                f"the config lacks the section {name!r}; it needs"
                f" {', '.join(parts)}."
            )
        own[name] = settings.unpack(kind, config[name], name)
    inner = INNER[own["federated"].recipe].parse(config)
    given = Settings(inner, **own)
    _check(given)
    return given


def sections(config: Any) -> tuple[str, ...]:
    """Sections that a config of this recipe may have."""
    name = config.federated.recipe if "federated" in config else "classifier"
    checks.choice("federated.recipe", name, INNER)
    return ("federated", "active", "evidence", *INNER[name].Settings._fields)


def _check(given: Settings) -> None:
    inner, own = given.inner, given.federated
    coreset = getattr(inner, "coreset", None)
    if coreset is not None and coreset.method != "all":
        raise checks.UsageError(
            f"coreset.method is {coreset.method!r}, but clients see all that"
            " they have labelled; use 'all', and active.method to choose."
        )
    if own.strategy == "scaffold" and inner.optimizer.name != "sgd":
        raise checks.UsageError(
            "federated.strategy 'scaffold' is defined for clients with SGD, but"
            f" optimizer.name is {inner.optimizer.name!r}; use 'sgd'."
        )
    if own.strategy == "scaffold" and inner.optimizer.momentum:
        raise checks.UsageError(
            "federated.strategy 'scaffold' is defined for SGD without momentum,"
            f" but optimizer.momentum is {inner.optimizer.momentum}; use 0."
        )
    settings.check_unused("optimizer.average", inner.optimizer)
    if inner.optimizer.every != "epoch":
        raise checks.UsageError(
            f"optimizer.every is {inner.optimizer.every!r}, but clients take"
            " different numbers of steps; the rate changes every 'epoch', which"
            " is a round."
        )
    if given.evidence.loss != "none":
        evidence.check(given.evidence, inner)


def prepare(
    given: Settings, splits: Mapping[str, data.Source]
) -> tuple[dict[str, data.Source], int]:
    """Data sets with the site of each example.

    Args:
        given: from `parse`.
        splits: "train", "valid", "test".

    Returns:
        The same; and the examples of an epoch.

    Raises:
        UsageError: for a data set without sites that is not dealt out, or a
            client without examples.
    """
    module = INNER[given.federated.recipe]
    found = dict(splits)
    if hasattr(module, "prepare"):
        found, _ = module.prepare(given.inner, splits)
    count = given.federated.clients
    for name, source in found.items():
        if count is not None:
            source = _dealt(given.federated, source, count)
        elif "site" not in (source.aux or {}):
            raise checks.UsageError(
                f"federated.clients is None, but {source.name} has no sites;"
                " give the number of clients that it is dealt out to."
            )
        found[name] = source
    train = found["train"]
    held = [len(rows) for rows in sites.by_site(train, names(given))]
    queries.check(given.active, held)
    return found, len(train.y)


def _dealt(given: Federated, source: data.Source, count: int) -> data.Source:
    """A split dealt out; every split by the same shares."""
    alpha = np.inf if given.alpha is None else given.alpha
    deal = sites.partition if source.y.ndim == 1 else sites.quantity_skew
    return deal(source, count, alpha=alpha, key=jax.random.key(given.seed))


def names(given: Settings) -> list[str]:
    """Names of the clients."""
    if given.federated.clients is None:
        return list(data.sites_of(given.data.name))
    return [f"client{c}" for c in range(given.federated.clients)]


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
    splits: Mapping[str, data.Source] | None = None,
) -> Recipe:
    """The recipe of a config, see `assemble`."""
    return assemble(
        given, example, classes, steps_per_epoch, data_root, chip, splits
    )[1]


def assemble(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
    splits: Mapping[str, data.Source] | None = None,
) -> tuple[rounds.Plan, Recipe]:
    """How clients and server work together, and the recipe that does so.

    Args:
        given: from `parse`.
        example: [1, ...] inputs of the data set.
        classes: number of classes of the data set.
        steps_per_epoch: batches of all clients together.
        data_root: as for the inner recipe.
        chip: likewise.
        splits: from `prepare`; where clients are elsewhere what is here of
            them, which may be nothing.

    Raises:
        UsageError: as the inner recipe.
    """
    assert splits is not None  # `prepare` makes them.
    own, train = given.federated, given.train
    clients = names(given)
    source = splits["train"]
    strategy = _strategy(own, len(clients))

    def optimiser(rates: Any) -> Any:
        section = given.inner.optimizer
        return rules.local(
            optimizers.make(section, 0, 1, rates, free=True), strategy.mu
        )

    module = INNER[own.recipe]
    inner = module.build(
        given.inner,
        example,
        classes,
        steps_per_epoch,
        data_root,
        chip,
        loss=evidence.make(given.evidence),
        optimiser=optimiser,
        **({"splits": splits} if hasattr(module, "prepare") else {}),
    )
    plan = _plan(given, inner, strategy, len(clients))
    score = site_scores.make(clients, classes, source.y.ndim > 1)

    def evaluate(variables: Any, batch: Any, key: Any = None) -> Sums:
        found = inner.evaluate(variables, batch, key)
        logits = inner.forward(variables, batch.x, key)
        return found | score.sums(logits, batch)

    site = (source.aux or {})["site"]
    held = np.bincount(site, minlength=len(clients))
    batches = client_data.Batches(
        len(clients),
        classes,
        batch=train.batch,
        passes=own.local_epochs,
        most=queries.most(given.active, held, train.epochs),
    )
    trial = inner.trial
    recipe = inner._replace(
        init=functools.partial(rounds.init, plan),
        update=functools.partial(rounds.update, plan),
        finish=lambda state: inner.finish(state.base),
        evaluate=evaluate,
        review=lambda state, metrics: state._replace(
            base=inner.review(state.base, metrics)
        ),
        summary=functools.partial(rounds.summary, plan),
        measure=lambda sums: score.measure(sums, inner.measure),
        score=inner.score if inner.score != "accuracy" else score.name,
        trial=None if trial is None else lambda state: trial(state.base),
        begin=functools.partial(rounds.begin, plan) if inner.begin else None,
        subset=queries.make(
            given.active,
            inner,
            functools.partial(rounds.network, plan),
            len(clients),
            classes,
            source,
            given.evidence,
        ),
        rounds=Rounds(1, len(clients), batches),
        merge=None,
        probability=_probability(given.evidence, inner),
    )
    return plan, recipe


def _probability(
    told: evidence.Evidence, inner: Recipe
) -> Callable[[jax.Array], jax.Array] | None:
    """How logits become probabilities: the expected ones of evidence."""
    if not told.evidential:
        return inner.probability
    return lambda logits: evidential.probability(
        evidential.alpha(logits, told.activation)
    )


def _plan(
    given: Settings, inner: Recipe, strategy: rules.Strategy, clients: int
) -> rounds.Plan:
    own, asks = given.federated, given.active.method != queries.ALL
    period = given.active.every if asks and given.active.restart else 0
    privacy = None
    if own.clip is not None:
        privacy = rounds.Privacy(own.clip, own.noise, own.delta)
    length = max(period or given.train.epochs, 1)
    return rounds.Plan(
        inner,
        strategy,
        clients,
        given.train.epochs,
        optimizers.schedule(given.inner.optimizer, length),
        period,
        own.weights == "equal",
        own.present,
        own.strategy == "scaffold",
        asks,
        own.mode,
        privacy,
    )


def _strategy(given: Federated, clients: int) -> rules.Strategy:
    made = {
        "fedavg": rules.fedavg,
        "fedprox": lambda: rules.fedprox(given.mu),
        "fedavgm": lambda: rules.fedavgm(given.rate, given.momentum),
        "fedadam": lambda: rules.fedadam(given.rate, tau=given.tau),
        "fedyogi": lambda: rules.fedyogi(given.rate, tau=given.tau),
        "fedadagrad": lambda: rules.fedadagrad(given.rate, tau=given.tau),
        "scaffold": lambda: rules.scaffold(clients, given.rate),
        "median": rules.fedmedian,
        "trimmed_mean": lambda: rules.fedtrim(given.trim),
    }[given.strategy]()
    # A server that takes steps leaves running statistics to the mean.
    return rules.averaging(made, lambda path: "batch_stats" in path.split("/"))


__all__ = [
    "INNER",
    "Federated",
    "Settings",
    "assemble",
    "build",
    "parse",
    "prepare",
    "sections",
]
