import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import data, models, recipes
from jaxedge.models import checkpoints
from jaxedge.recipes import defaults, pretrained

BASE = {
    "data": {"name": "digits"},
    "model": {"name": "mlp", "widths": (6,), "bits": 4, "over": "example"},
    "learn": {
        "rule": "mask",
        "keep": 0.5,
        "weights": "signed",
        "dead_band_start": 0.0,
        "dead_band_stop": 0.0,
        "dead_band_steps": 1,
    },
    "optimizer": {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
    },
    "train": {
        "epochs": 3,
        "batch": 20,
        "evaluate_every": 1,
        "checkpoint_every": 1,
        "select_on": "valid",
        "hardware": "ideal",
        "input_ranges": False,
    },
    "hardware": defaults.hardware("ideal").to_dict(),
}
IN_MEMORY = {
    **{name: BASE[name] for name in ("data", "model", "train", "hardware")},
    "cell": {
        "name": "rram_array_gong2022",
        "overrides": {},
        "endurance": None,
        "endurance_spread": 0.0,
    },
    "learn": {
        "rule": "tiki_taka_v2",
        "rate": 0.1,
        "fill": 0.6,
        "slots": 15,
        "exact": False,
        "fast_rate": 1.0,
        "transfer_rate": 10.0,
        "every": 1,
        "reads": 3,
        "gamma": 0.0,
        "read_noise": 0.01,
        "threshold": 1.0,
        "momentum": 0.1,
        "chopper": 0.1,
    },
}
CLASSIFIER = {name: BASE[name] for name in BASE if name != "learn"}
LANGUAGE = {
    **CLASSIFIER,
    "data": {"name": "wikitext2", "vocabulary": 256, "length": 5},
    "model": {
        "width": 8, "hidden": 6, "depth": 1, "heads": 2, "kv_heads": 1
    },
    "optimizer": {
        "name": "adamw",
        "learning_rate": 0.03,
        "momentum": 0.9,
        "weight_decay": 0.1,
        "warmup": 1,
        "every": "step",
    },
}  # fmt: skip
QUANTIZED = {
    **CLASSIFIER,
    "model": {"name": "mlp", "widths": (6,)},
    "augment": {},
    "quantize": {"weights": 3, "inputs": 3, "edges": 4},
    "distill": {},
    "coreset": {},
}
FEDERATED = {
    **CLASSIFIER,
    "model": {"name": "mlp", "widths": (6,), "bits": None, "over": "example"},
    "federated": {"clients": 3},
    "active": {},
    "evidence": {},
}
BASES = {
    "edge_pruning": BASE,
    "classifier": CLASSIFIER,
    "in_memory": IN_MEMORY,
    "language": LANGUAGE,
    "quantization_aware": QUANTIZED,
    "federated": FEDERATED,
}


def _config(changes=()):
    """The base with fields replaced, such as {"learn.keep": 0.3}.

    An entry "recipe" chooses the base; edge pruning without one.
    """
    changes = dict(changes)
    config = copy.deepcopy(BASES[changes.pop("recipe", "edge_pruning")])
    for path, value in changes.items():
        section, field = path.split(".")
        config[section][field] = value
    return config


def _recipe(changes=(), steps_per_epoch=2):
    name = dict(changes).get("recipe", "edge_pruning")
    module = recipes.get(name)
    given = module.parse(_config(changes))
    if name == "language":
        example = np.ones((1, 5), np.int32)
    else:
        example = np.ones((1, 4, 1, 1))
    return module.build(given, example, 3, steps_per_epoch)


def _batch(seed, n=20, inputs=4, classes=3):
    rng = np.random.default_rng(seed)
    return data.Batch(
        jnp.asarray(rng.normal(size=(n, inputs, 1, 1)), jnp.float32),
        jnp.asarray(rng.integers(0, classes, n), jnp.int32),
        jnp.ones(n, jnp.float32),
    )


def _text(seed, n=20, length=5, vocabulary=3):
    """Windows of tokens, and the next ones."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocabulary, (n, length + 1))
    return data.Batch(
        jnp.asarray(tokens[:, :-1], jnp.int32),
        jnp.asarray(tokens[:, 1:], jnp.int32),
        jnp.ones(n, jnp.float32),
    )


# A published network of 118 weights, for the inputs of `_batch`.
SMALL = models.ResNet(3, 8, channels=(2,), mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """The checkpoint "small": (its path, its variables)."""
    rng = np.random.default_rng(5)
    shapes = jax.eval_shape(
        SMALL.init, jax.random.key(0), np.ones((1, 4, 1, 1))
    )
    shapes.pop("counts")
    variables = jax.tree.map(
        lambda a: rng.uniform(0.5, 1.5, a.shape).astype(np.float32), shapes
    )
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    named = {"/".join(k.key for k in path): leaf for path, leaf in leaves}
    path = tmp_path_factory.mktemp("checkpoints") / "small.npz"
    np.savez(path, **named)
    # Its arrays have the names of its variables.
    layout = {name: checkpoints.Entry((name,)) for name in named}
    entry = checkpoints.Checkpoint(
        SMALL, lambda model: layout, (4, 1, 1), "drawn", None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(checkpoints.CHECKPOINTS, "small", entry)
        yield path, variables


@pytest.fixture(scope="session")
def tuned(published):
    """A function from changes of the base to the recipe `pretrained`."""

    def make(changes=()):
        base = {k: v for k, v in copy.deepcopy(BASE).items() if k != "learn"}
        base["model"] = {
            "checkpoint": "small", "path": str(published[0]), "fold": True
        }  # fmt: skip
        for name, value in dict(changes).items():
            section, field = name.split(".")
            base[section][field] = value
        given = pretrained.parse(base)
        return pretrained.build(given, np.ones((1, 4, 1, 1)), 3, 2)

    return make


@pytest.fixture(scope="session")
def config():
    return _config


@pytest.fixture(scope="session")
def recipe():
    return _recipe


@pytest.fixture(scope="session")
def batch():
    return _batch


@pytest.fixture(scope="session")
def windows():
    return _text
