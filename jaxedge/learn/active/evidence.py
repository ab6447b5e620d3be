"""What is known of a client's pool, from which a method queries."""

from typing import Any, NamedTuple

from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.active import inputs
from jaxedge.learn.coreset.inputs import real, same


class Evidence(NamedTuple):
    """What is known of the unlabelled samples; a method says what it needs.

    Letters: N samples of the pool, M labelled samples, K classes, D features,
    T networks or stochastic passes.

    Attributes:
        logits_global: of the aggregated model [N, K].
        logits_local: of the client's model [N, K].
        logits_T: of stochastic passes, or of several networks [T, N, K].
        alpha_global: Dirichlet parameters of the aggregated model [N, K].
        alpha_local: likewise, of the client's model [N, K].
        features: what the last layer is fed, or another embedding, of the
            model that the method asks; of the client's model for "logo" and
            "feal" [N, D].
        labelled_features: likewise, of the client's labelled samples [M, D].
        class_share: shares or counts of the client's labelled set [K].
    """

    logits_global: ArrayLike | None = None
    logits_local: ArrayLike | None = None
    logits_T: ArrayLike | None = None
    alpha_global: ArrayLike | None = None
    alpha_local: ArrayLike | None = None
    features: ArrayLike | None = None
    labelled_features: ArrayLike | None = None
    class_share: ArrayLike | None = None


_AXES = {
    "logits_global": "NK",
    "logits_local": "NK",
    "logits_T": "TNK",
    "alpha_global": "NK",
    "alpha_local": "NK",
    "features": "ND",
    "labelled_features": "MD",
    "class_share": "K",
}


def checked(
    method: str, evidence: Evidence, needs: tuple[str, ...]
) -> tuple[Evidence, int]:
    """What a method needs, as arrays whose sizes agree, and the pool's size.

    Raises:
        UsageError: for what is missing, traced, of another shape or dtype, or
            not finite.
    """
    needs = needs or _any_of_the_pool(method, evidence)
    missing = [name for name in needs if getattr(evidence, name) is None]
    if missing:
        raise checks.UsageError(
            f"query method {method!r} needs {', '.join(missing)}, which the"
            f" evidence lacks; it takes {', '.join(needs)}."
        )
    given = {name: getattr(evidence, name) for name in needs}
    inputs.known(f"method {method!r}", **given)
    arrays: dict[str, Any] = {}
    sizes: dict[str, dict[str, int]] = {}
    for name, value in given.items():
        arrays[name] = real(name, value, _AXES[name])
        checks.finite(name, arrays[name])
        for axis, size in zip(_AXES[name], arrays[name].shape, strict=True):
            sizes.setdefault(axis, {})[name] = size
    for axis, found in sizes.items():
        same(f"sizes of axis {axis}", **found)
    return Evidence(**arrays), next(iter(sizes["N"].values()))


def _any_of_the_pool(method: str, evidence: Evidence) -> tuple[str, ...]:
    """A field that tells the size of the pool, for a method that needs none."""
    of_pool = [name for name in _AXES if "N" in _AXES[name]]
    given = [name for name in of_pool if getattr(evidence, name) is not None]
    if not given:
        raise checks.UsageError(
            f"query method {method!r} must know how large the pool is; give"
            f" one of {', '.join(of_pool)}."
        )
    return (min(given, key=lambda name: np.size(getattr(evidence, name))),)
