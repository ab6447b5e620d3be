"""Where a network of `recipes.ridl` begins: known weights, scaled features.

Letters: N examples, Z, Y, X axes of a volume, L local maps, G global features,
F deep features.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.models import arrays
from jaxedge.recipes import radiomic_inputs

# Under which the network tells its deep features.
DEEP = "deep"
_CONSTANT = 1e-5  # Deviation of a constant, as a share of it, at most.


def started(model: Any, example: jax.Array, folder: str) -> Any:
    """Variables of a network, with those of one without radiomics.

    What a layer has for further inputs, and the classifier, is drawn from a
    fixed key.
    """
    fresh = jax.jit(model.init)(jax.random.key(0), example)
    plain = model.clone(
        net=model.net.clone(local_maps=0, global_features=0),
        decorrelates=False,
    )
    bare = example[..., : radiomic_inputs.CHANNELS]
    like = jax.eval_shape(plain.init, jax.random.key(0), bare)
    known = arrays.load(folder, like)
    params = _merged(fresh["params"]["net"], known["params"]["net"])
    stats = dict(fresh.get("batch_stats", {}))
    if "net" in known.get("batch_stats", {}):
        stats["net"] = known["batch_stats"]["net"]
    return {"params": {"net": params}, "batch_stats": stats}


def balanced(model: Any, variables: Any, x: Any) -> Any:
    """Variables whose classifier has its first answers to scaled features.

    Deep features are means over a volume, and differ between volumes by a
    hundredth where global features, which are standardised, differ by 1. A
    classifier that sees both as they are follows the latter, and the maps are
    hardly learned. Ours: the kernel and the bias of its first layer are those
    with which it answers as it would to deep features of mean 0 and deviation
    1 over some examples. No layer is added.

    Args:
        model: the network.
        variables: of it.
        x: examples, [N, Z, Y, X, 2 + L + G], N at least 2.
    """
    _, told = jax.jit(
        lambda x: model.apply(variables, x, mutable=["intermediates"])
    )(jnp.asarray(x))
    deep_NxF = told["intermediates"][DEEP][0].astype(jnp.float32)
    mean, spread = deep_NxF.mean(0), deep_NxF.std(0, ddof=1)
    # A feature that is always the same but for rounding stays as it is.
    alive = spread > _CONSTANT * jnp.abs(mean)
    factor = 1 / jnp.where(alive, spread, 1)
    net = dict(variables["params"]["net"])
    hidden = dict(net["hidden"])
    rows = len(mean)
    deep = hidden["kernel"][:rows] * factor[:, None]
    hidden["kernel"] = hidden["kernel"].at[:rows].set(deep)
    hidden["bias"] = hidden["bias"] - mean @ deep
    net["hidden"] = hidden
    return {**variables, "params": {**variables["params"], "net": net}}


def _merged(fresh: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """Known arrays where there are any; new rows of inputs stay as drawn."""
    found = {}
    for name, value in fresh.items():
        if name not in known or name in ("hidden", "head"):
            found[name] = value
        elif isinstance(value, Mapping):
            found[name] = _merged(value, known[name])
        elif value.shape == known[name].shape:
            found[name] = known[name]
        else:
            # A kernel [..., inputs, outputs] with inputs for radiomics behind.
            rows = known[name].shape[-2]
            found[name] = value.at[..., :rows, :].set(known[name])
    return found


__all__ = ["DEEP", "balanced", "started"]
