"""How the grader learns, and what it says on a chip.

Letters: N plates, F features, K classes, C chips.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import data, hardware
from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import map_named
from jaxedge.data import plates
from jaxedge.foodwise.grading import experiment
from jaxedge.hardware import sram
from jaxedge.learn import evidential
from jaxedge.recipes import federated, ranges, settings
from jaxedge.run import chips as studies

FEATURES = 128
_SILENT = dict.fromkeys(
    ("sigma_cell", "sigma_pulse", "sigma_line", "sigma_cmp", "sigma_off"), 0.0
)
# What a network may grade on. "float" is exact; "int4" rounds inputs and
# weights to 4 bits and nothing else; the others are modes of the macro, "clip"
# the one that the grader is trained for (sram_cim 6).
DESIGNS: dict[str, Mapping[str, Any] | None] = {
    "float": None,
    "int4": {**_SILENT, "fold": 0, "lsb_units": 1, "out_bits": 14},
    "base": {"fold": 0, "lsb_units": 27},
    "fold": {"fold": 8, "lsb_units": 14},
    "clip": {"fold": experiment.FOLD, "lsb_units": experiment.LSB_UNITS},
    "clip_only": {"fold": 0, "lsb_units": 7},
}


class Labelled(NamedTuple):
    """Plates as features, with their classes.

    Attributes:
        x_NxF: float32 in [0, 1].
        y_N: int32, of `plates.CLASSES`.
    """

    x_NxF: np.ndarray
    y_N: np.ndarray


def labelled(features: Any, labels: Any) -> Labelled:
    """Plates that have been checked.

    Raises:
        UsageError: for shapes that do not agree, features outside [0, 1] or
            labels that are no class.
    """
    x = np.asarray(features, np.float32)
    y = np.asarray(labels)
    if x.ndim != 2 or x.shape[1] != FEATURES or y.shape != x.shape[:1]:
        raise checks.UsageError(
            f"features have shape {x.shape} and labels {y.shape}, but must be"
            f" [N, {FEATURES}] and [N]; features are those of a grade."
        )
    checks.in_range("features", x, 0, 1)
    if y.size and y.dtype.kind not in "iu":
        raise checks.UsageError(
            f"labels are {y.dtype}, but must be whole numbers: places in"
            f" {', '.join(plates.CLASSES)}."
        )
    checks.in_range("labels", y, 0, len(plates.CLASSES) - 1)
    return Labelled(x, y.astype(np.int32))


def made_up(seed: int, n: int | None = None) -> dict[str, Labelled]:
    """Every split of synthetic plates, of the standard canteen.

    Args:
        seed: of `plates.read`.
        n: plates of the training split; others have a part of it. None takes
            `plates.COUNTS`.
    """
    counts: dict[str, int] = dict(plates.COUNTS)
    if n is not None:
        checks.whole("n", n, 10)
        share = n / counts["train"]
        counts = {k: max(round(share * v), 10) for k, v in counts.items()}
    read = {s: plates.read(s, n=counts[s], seed=seed) for s in plates.SPLITS}
    return {split: Labelled(s.x, s.y) for split, s in read.items()}


def together(parts: Sequence[Labelled]) -> Labelled:
    """All of them, one after the other."""
    x, y = zip(*parts, strict=True)
    return Labelled(np.concatenate(x), np.concatenate(y))


def fit(train: Labelled, config: Any, seed: int = 0) -> Any:
    """Trains a network, with every plate in all 8 turns.

    The network is that after the last pass: none is chosen, and no other split
    is looked at. The same arguments give the same network.

    Args:
        train: what it learns from.
        config: of `experiment.config`, with one client.
        seed: of its weights, the order of plates, and chips in training.

    Returns:
        Variables, "params" and "batch_stats".
    """
    given = federated.parse(config)
    source = data.make_source(
        train.x_NxF,
        train.y_N,
        classes=plates.CLASSES,
        name="plates",
        split="train",
    )
    source = plates.every_turn(source)
    splits, rows = federated.prepare(given, {"train": source})
    batch = min(given.train.batch, rows)
    recipe = federated.build(
        given, source.x[:1], len(plates.CLASSES), rows // batch, splits=splits
    )
    key = stream(jax.random.key(seed), "train")
    state = jax.jit(recipe.init)(stream(key, "init"))
    assert recipe.rounds is not None

    def passes(epoch: int) -> Any:
        assert recipe.rounds is not None
        order = stream(key, "order")
        return recipe.rounds.batches(splits["train"], order, epoch, None)

    if recipe.begin is not None:
        state = jax.jit(recipe.begin)(state, next(passes(0)))
    update = jax.jit(recipe.update, donate_argnums=0)
    for epoch in range(given.train.epochs):
        for found in passes(epoch):
            state, sums = update(state, found)
        if not np.isfinite(sums["loss"]):
            raise RuntimeError(f"the loss is {sums['loss']} in pass {epoch}.")
    return jax.jit(recipe.finish)(state)


def network() -> Any:
    """The grader's network, a flax module."""
    return _network(experiment.WIDTH)


@functools.cache
def _network(width: int) -> Any:
    model = settings.Model("mlp", (width,), None, "example")
    return settings.make_model(model, len(plates.CLASSES), (FEATURES,))


def like(*, ranged: bool) -> Any:
    """Shapes of variables of the network.

    Args:
        ranged: whether it has learned the ranges of its inputs, as it does on
            chips.
    """
    x = jax.ShapeDtypeStruct((1, FEATURES), jnp.float32)
    shapes = jax.eval_shape(network().init, jax.random.key(0), x)
    shapes = {k: shapes[k] for k in ("params", "batch_stats")}
    if not ranged:
        return shapes
    paths = ranges.layers(shapes["params"], design("clip"))
    one: Any = jax.ShapeDtypeStruct((), jnp.float32)
    limits = hardware.converters.Range(one, one)

    def attach(path: str, leaf: Any) -> Any:
        return hardware.Ranged(leaf, limits) if path in paths else leaf

    return {**shapes, "params": map_named(attach, shapes["params"])}


def design(name: str) -> Any:
    """The hardware of a name of `DESIGNS`; None for "float".

    Raises:
        UsageError: for an unknown name.
    """
    checks.choice("design", name, DESIGNS)
    fields = DESIGNS[name]
    if fields is None:
        return None
    # Without learned ranges a layer takes that of each plate.
    return sram.get("sram_wang2023", scaling="column", **fields)


def programmed(variables: Any, name: str, key: jax.Array) -> Any:
    """Variables on a chip; exact ones as they are.

    Args:
        variables: from `fit`.
        name: of `DESIGNS`.
        key: of the chip, consumed.
    """
    plan = design(name)
    if plan is None:
        return variables
    params = hardware.deploy(key, variables["params"], plan)
    return {**variables, "params": params}


def alphas(chip: Any, x_NxF: Any, key: jax.Array | None) -> jax.Array:
    """Dirichlet parameters of plates, [N, K].

    Args:
        chip: from `programmed`.
        x_NxF: features.
        key: read key, consumed; None reads without noise.
    """
    logits = network().apply(chip, x_NxF, key=key)
    return evidential.alpha(logits, experiment.ACTIVATION)


def on_chips(
    variables: Any,
    name: str,
    parts: Mapping[str, Labelled],
    key: jax.Array,
    n: int,
) -> dict[str, np.ndarray]:
    """Dirichlet parameters of plates by n chips.

    Args:
        variables: from `fit`.
        name: of `DESIGNS`; of "float" there is one chip.
        parts: plates by name.
        key: of all chips.
        n: how many.

    Returns:
        Of each part [C, N, K].
    """
    keys_C = studies.wafer(key, 1 if name == "float" else n)
    # Together: one program.
    x = np.concatenate([part.x_NxF for part in parts.values()])
    found = np.asarray(_on_chips(variables, x, keys_C, name=name))
    ends = np.cumsum([len(part.y_N) for part in parts.values()])[:-1]
    return dict(zip(parts, np.split(found, ends, axis=1), strict=True))


@functools.partial(jax.jit, static_argnames="name")
def _on_chips(variables: Any, x_NxF: Any, keys_C: Any, *, name: str) -> Any:
    def one(key: jax.Array) -> jax.Array:
        chip = programmed(variables, name, studies.programming(key))
        return alphas(chip, x_NxF, stream(key, "read"))

    return jax.lax.map(one, keys_C)
