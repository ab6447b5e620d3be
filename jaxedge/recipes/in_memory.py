"""Training in the memory itself, by asymmetric pulses.

Analogue SGD (Gokmen & Vlasov, Front. Neurosci. 10:333 (2016)) and the
Tiki-Taka family (`learn.in_memory`). The network's weights are the states of
simulated cells: every forward and backward product meets them as they are, and
every update is made of pulses. The normalisation's running means are digital.
"""

from collections.abc import Mapping
import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import map_named
from jaxedge.hardware import pulse_trains
from jaxedge.hardware.devices import pulsed, step_laws
from jaxedge.hardware.wear import Wear
from jaxedge.learn import in_memory
from jaxedge.recipes import settings, supervised
from jaxedge.recipes.recipe import Recipe, Sums
from jaxedge.recipes.taps import Tapped

RULES = ("float", *in_memory.RULES)


class Cell(NamedTuple):
    """The cells that are trained.

    Attributes:
        name: a preset of `hardware.devices.step_laws`.
        overrides: fields of the device; None keeps the preset's value.
        endurance: pulses that half of the cells survive; None is no wear.
        endurance_spread: spread of its logarithm from cell to cell.
    """

    name: str
    overrides: Mapping[str, Any]
    endurance: float | None
    endurance_spread: float

    def check(self) -> None:
        """Raises UsageError for an unknown cell or a field out of range."""
        make_device(self)


class Learn(NamedTuple):
    """What is learned, and how.

    Attributes:
        rule: "float" trains digital weights, the baseline; "sgd",
            "tiki_taka", "tiki_taka_v2" train cells.
        rate: learning rate, falling to 0 with the cosine of the epoch.
        fill: what the largest initial weight becomes in the cells, whose
            nominal range is about 1.
        slots: longest pulse train.
        exact: whether pulses follow one another one by one (slow), or all of
            a batch are drawn at once.
        fast_rate: learning rate of the fast array, constant.
        transfer_rate: of a transfer, relative to `rate`.
        every: batches between two transfers.
        reads: inputs a transfer.
        gamma: share of the fast array in the network's weights.
        read_noise: of a transfer's read, in weights.
        threshold: of the buffer, in steps of the slow array.
        momentum: share of a passed-on step that stays in the buffer.
        chopper: probability that an input changes its sign after a transfer.
    """

    rule: str
    rate: float
    fill: float
    slots: int
    exact: bool
    fast_rate: float
    transfer_rate: float
    every: int
    reads: int
    gamma: float
    read_noise: float
    threshold: float
    momentum: float
    chopper: float

    @property
    def transfer(self) -> in_memory.Transfer:
        """The part of a Tiki-Taka rule."""
        fields = self._asdict()
        return in_memory.Transfer(
            rate=self.transfer_rate,
            **{
                name: fields[name]
                for name in in_memory.Transfer._fields
                if name != "rate"
            },
        )

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("learn.rule", self.rule, RULES)
        checks.in_range("learn.rate", self.rate, 0, open_low=True)
        checks.in_range("learn.fill", self.fill, 0, open_low=True)
        checks.whole("learn.slots", self.slots, 1)
        self.transfer.check()


class State(NamedTuple):
    """All that training carries from step to step.

    Attributes:
        step: int32 [].
        key: the run's key; steps draw from its streams.
        kernels: the rule's state of every kernel, in the shape of the params.
        shown: the params as the network sees them now.
        stats: running statistics of normalisation layers.
    """

    step: jax.Array
    key: jax.Array
    kernels: Any
    shown: Any
    stats: Any

    @property
    def learned(self) -> Any:
        """What is learned: the weights that the cells show."""
        return self.shown


def make(
    model: nn.Module,
    example: jax.Array,
    rule: in_memory.Rule,
    rate: Any,
) -> Recipe:
    """A recipe that minimises cross-entropy by pulses.

    Args:
        model: classifier called as (x, train=, key=), whose parameters are
            matrices.
        example: [1, ...] inputs, for shapes.
        rule: how each kernel learns.
        rate: step -> learning rate.

    Returns:
        A recipe whose batches have `x`, `y` and `weight`, and whose sums are
        loss and accuracy.

    Raises:
        UsageError: from `init`, for a parameter that is no matrix.
    """

    def init(key: jax.Array) -> State:
        variables = model.init(stream(key, "params"), example)
        map_named(_check_matrix, variables["params"])
        kernels = map_named(
            lambda path, w: rule.init(stream(key, f"chip/{path}"), w),
            variables["params"],
        )
        # The loop donates the state, so no buffer may be in it twice.
        kernels = jax.tree.map(jnp.copy, kernels)
        return State(
            step=jnp.int32(0),
            key=key,
            kernels=kernels,
            shown=show(variables["params"], kernels),
            stats=variables.get("batch_stats", {}),
        )

    def show(params: Any, kernels: Any) -> Any:
        return jax.tree.map(lambda _, k: rule.weights(k), params, kernels)

    def update(state: State, batch: Any) -> tuple[State, Sums]:
        size = batch.x.shape[0]

        def loss(taps: Any) -> tuple[jax.Array, Any]:
            logits, changed = model.apply(
                {"params": taps, "batch_stats": state.stats},
                batch.x,
                train=True,
                mutable=["batch_stats"],
            )
            sums = supervised.cross_entropy(logits, batch)
            return sums["loss"] / sums["count"], (sums, changed)

        taps = jax.tree.map(
            lambda w: Tapped(
                w, jnp.zeros((size, w.shape[0])), jnp.zeros((size, w.shape[1]))
            ),
            state.shown,
        )
        met, (sums, changed) = jax.grad(loss, has_aux=True)(taps)
        now = stream(state.key, "pulses", state.step)
        kernels = map_named(
            lambda path, tap, kernel: rule.update(
                stream(now, path),
                kernel,
                tap.x_BxI,
                tap.d_BxO,
                rate(state.step),
            ),
            met,
            state.kernels,
            is_leaf=hardware.is_weight,
        )
        state = state._replace(
            step=state.step + 1,
            kernels=kernels,
            shown=show(state.shown, kernels),
            stats=changed.get("batch_stats", {}),
        )
        return state, sums

    def finish(state: State) -> Any:
        return {"params": state.shown, "batch_stats": state.stats}

    def forward(
        variables: Any, x: jax.Array, key: jax.Array | None = None, **apply
    ) -> Any:
        return model.apply(variables, x, key=key, **apply)

    def evaluate(
        variables: Any, batch: Any, key: jax.Array | None = None
    ) -> Sums:
        return supervised.cross_entropy(forward(variables, batch.x, key), batch)

    def summary(state: State) -> dict[str, jax.Array]:
        arrays = jax.tree.leaves(state.kernels, is_leaf=_is_cells)
        arrays = [a for a in arrays if _is_cells(a)]
        if not arrays:
            return {}
        size = sum(a.w.size for a in arrays)
        # In floats: the sum over a chip passes 2^31.
        count = lambda field: jnp.sum(  # noqa: E731
            jnp.stack(
                [jnp.sum(getattr(a, field), dtype=jnp.float32) for a in arrays]
            )
        )
        busiest = jnp.stack([jnp.max(a.pulses) for a in arrays])
        return {
            "pulses_up": count("ups"),
            "pulses_down": count("downs"),
            "pulses_per_cell": count("pulses") / size,
            "pulses_of_the_busiest_cell": jnp.max(busiest),
            "worn_out": count("stuck") / size,
        }

    return Recipe(
        init=init,
        update=update,
        finish=finish,
        evaluate=evaluate,
        review=lambda state, metrics: state,
        forward=forward,
        summary=summary,
    )


def make_device(cell: Cell) -> pulsed.Pulsed:
    """The cells of a config."""
    given = {k: v for k, v in cell.overrides.items() if v is not None}
    if cell.endurance is not None:
        given["wear"] = Wear(cell.endurance, cell.endurance_spread)
    return step_laws.get(cell.name, **given)


def make_array(
    device: pulsed.Pulsed, trains: pulse_trains.Trains, exact: bool
) -> in_memory.Array:
    """What a rule may do with an array of these cells."""

    def init(key: jax.Array, w: jax.Array) -> pulsed.Cells:
        return device.place(device.init(key, w.shape), w)

    def outer(
        key: jax.Array, cells: Any, x: jax.Array, d: jax.Array, rate: Any
    ) -> pulsed.Cells:
        return pulse_trains.outer(
            key, device, cells, x, d, rate, trains=trains, exact=exact
        )

    return in_memory.Array(
        init, device.weights, outer, device.pulse, device.granularity
    )


def make_rule(cell: Cell, learn: Learn) -> in_memory.Rule:
    """How each kernel learns."""
    if learn.rule == "float":
        return _FLOAT
    array = make_array(
        make_device(cell), pulse_trains.Trains(learn.slots), learn.exact
    )
    if learn.rule == "sgd":
        rule = in_memory.sgd(array)
    else:
        version = 1 if learn.rule == "tiki_taka" else 2
        rule = in_memory.tiki_taka(
            array, array, learn.transfer, version=version
        )
    return in_memory.scaled(rule, learn.fill)


# The baseline: exact digital weights and updates.
_FLOAT = in_memory.Rule(
    init=lambda key, w: w,
    weights=jnp.copy,
    update=lambda key, w, x, d, rate: w - rate * x.T @ d,
)


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    data: settings.Data
    model: settings.Model
    cell: Cell
    learn: Learn
    train: settings.Train
    hardware: settings.Hardware


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    given = settings.unpack_sections(Settings, config)
    settings.check_unused("data.crop", given.data)
    settings.check_unused("train.score", given.train)
    settings.check_unused("train.dtype", given.train)
    if given.model.name != "mlp":
        raise checks.UsageError(
            f"config.model.name is {given.model.name!r}, but training in"
            " memory takes dense layers alone; use 'mlp'."
        )
    if given.train.hardware != "ideal":
        raise checks.UsageError(
            f"config.train.hardware is {given.train.hardware!r}, but the"
            " weights are states of cells (config.cell) already; use 'ideal'."
        )
    return given


def build(
    given: Settings,
    example: Any,
    classes: int,
    steps_per_epoch: int,
    data_root: str | os.PathLike[str] | None = None,
    chip: jax.Array | None = None,
) -> Recipe:
    """The recipe of a config.

    Args:
        given: from `parse`.
        example: [1, ...] inputs of the data set.
        classes: number of classes of the data set.
        steps_per_epoch: for the learning-rate schedule.
        data_root: not looked at; this recipe reads no files.
        chip: not looked at; no chip is in its training loop.
    """
    del data_root, chip
    learn, epochs = given.learn, given.train.epochs

    def rate(step: jax.Array) -> jax.Array:
        epoch = step // steps_per_epoch
        return learn.rate * 0.5 * (1 + jnp.cos(jnp.pi * epoch / epochs))

    return make(
        settings.make_model(given.model, classes),
        jnp.asarray(example),
        make_rule(given.cell, learn),
        rate,
    )


def _check_matrix(path: str, w: jax.Array) -> None:
    if w.ndim != 2:
        raise checks.UsageError(
            f"{path} has shape {w.shape}, but training in memory takes"
            " matrices [I, O] alone; use models.Mlp."
        )


def _is_cells(node: Any) -> bool:
    return isinstance(node, pulsed.Cells)


__all__ = [
    "Cell",
    "Learn",
    "Settings",
    "State",
    "build",
    "make",
    "make_array",
    "make_device",
    "make_rule",
    "parse",
]
