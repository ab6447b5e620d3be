"""What is known of samples, from which a method chooses."""

from typing import NamedTuple

from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.learn.coreset import inputs, selection


class Evidence(NamedTuple):
    """What is known of the samples; a method says what it needs.

    Letters: N samples, V validation samples, K classes, D features, T networks
    or epochs.

    Attributes:
        labels: whole numbers [N]; every class has a sample.
        logits_q: of the network that is trained, such as the quantised [N, K].
        logits_fp: of the same network in full precision [N, K].
        features: what the last layer is fed [N, D].
        logits_T: of several networks, or of one at several epochs [T, N, K].
        correct_T: whether a sample was classified rightly, bool [T, N].
        valid_labels: whole numbers [V].
        valid_logits: as `logits_q`, of validation samples [V, K].
        valid_features: likewise [V, D].
    """

    labels: ArrayLike
    logits_q: ArrayLike | None = None
    logits_fp: ArrayLike | None = None
    features: ArrayLike | None = None
    logits_T: ArrayLike | None = None
    correct_T: ArrayLike | None = None
    valid_labels: ArrayLike | None = None
    valid_logits: ArrayLike | None = None
    valid_features: ArrayLike | None = None


_AXES = {
    "logits_q": "NK",
    "logits_fp": "NK",
    "features": "ND",
    "logits_T": "TNK",
    "correct_T": "TN",
    "valid_labels": "V",
    "valid_logits": "VK",
    "valid_features": "VD",
}


def checked(
    method: str, evidence: Evidence, needs: tuple[str, ...]
) -> Evidence:
    """The labels and what a method needs, as arrays whose sizes agree.

    Raises:
        UsageError: for what is missing, traced, of another shape or dtype, not
            finite, or a label outside [0, K).
    """
    missing = [name for name in needs if getattr(evidence, name) is None]
    if missing:
        raise checks.UsageError(
            f"coreset method {method!r} needs {', '.join(missing)}, which the"
            f" evidence lacks; it takes {', '.join(('labels', *needs))}."
        )
    given = {name: getattr(evidence, name) for name in needs}
    selection.known(f"method {method!r}", labels=evidence.labels, **given)
    labels = inputs.whole("labels", evidence.labels)
    arrays, sizes = {"labels": labels}, {"N": {"labels": labels.size}}
    for name, value in given.items():
        arrays[name] = _array(name, value)
        for axis, size in zip(_AXES[name], arrays[name].shape, strict=True):
            sizes.setdefault(axis, {})[name] = size
    for axis, found in sizes.items():
        inputs.same(f"sizes of axis {axis}", **found)
    if "K" in sizes:
        classes = next(iter(sizes["K"].values()))
        for name in arrays.keys() & {"labels", "valid_labels"}:
            checks.in_range(name, arrays[name], 0, classes - 1)
    return Evidence(**arrays)


def _array(name: str, value: ArrayLike) -> ArrayLike:
    if name == "valid_labels":
        return inputs.whole(name, value)
    if name == "correct_T":
        return inputs.true_or_false(name, value, _AXES[name])
    array = inputs.real(name, value, _AXES[name])
    checks.finite(name, array)
    return array
