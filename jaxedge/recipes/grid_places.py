"""Where a network that learns its steps has grids, and of how many bits."""

from collections.abc import Callable, Mapping
import re
from typing import Any, NamedTuple

import jax

from jaxedge.core import checks
from jaxedge.core.trees import map_named, path_name
from jaxedge.hardware import calibration
from jaxedge.models.layers import SITES
from jaxedge.models.quantized import matching
from jaxedge.quantize import integer

GROUPS = ("tensor", "channel", "head")
SIGNS = ("data", "signed")


class Quantize(NamedTuple):
    """The section `quantize` of a config.

    Attributes:
        weights: bits of the weights, 2 to 8; None leaves them.
        inputs: bits of what they meet and of the network's own places; None
            leaves these.
        edges: bits of weights and inputs of the first and the last layer; None
            leaves both layers.
        groups: of the weights with a step of their own: "tensor", "channel" (of
            the outputs), or "head": those of queries, keys and values have a
            step for each head, as these have themselves, the others one.
        scale: of the gradient of the weights' steps, a name of
            `quantize.integer.GRADIENT_SCALES`; that of inputs is "count".
        signs: whether inputs have codes of both signs ("signed"), or those that
            fit the first batch ("data"): from zero upward, or with an offset.
        keep: regular expression, searched in the paths of weights: these
            layers are left; None leaves none.
        step_rate: learning rate of the weights' steps over that of the weights.
        input_rate: of the steps and offsets of inputs, likewise.
        regulariser: what the bin regulariser weighs in the end (vvtq 4.3).
        regulariser_start: share of the training before it begins.
        track: whether oscillations of the weights' codes are followed.
        freeze: oscillations a step, a moving average in [0, 1], beyond which a
            weight is held at its mean code for good; .1 is that of the released
            code, where it is optional (vvtq 4.4). None holds none.
    """

    weights: int | None
    inputs: int | None
    edges: int | None = 8
    groups: str = "tensor"
    scale: str = "count"
    signs: str = "data"
    keep: str | None = None
    step_rate: float = 1.0
    input_rate: float = 1.0
    regulariser: float = 0.0
    regulariser_start: float = 0.25
    track: bool = True
    freeze: float | None = None

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        for name in ("weights", "inputs", "edges"):
            bits = getattr(self, name)
            if bits is not None:
                checks.whole(f"quantize.{name}", bits)
                checks.in_range(f"quantize.{name}", bits, 2, 8)
        checks.choice("quantize.groups", self.groups, GROUPS)
        checks.choice("quantize.scale", self.scale, integer.GRADIENT_SCALES)
        checks.choice("quantize.signs", self.signs, SIGNS)
        for name in ("step_rate", "input_rate", "regulariser"):
            checks.in_range(f"quantize.{name}", getattr(self, name), 0)
        checks.in_range(
            "quantize.regulariser_start", self.regulariser_start, 0, 0.999
        )
        if self.freeze is None:
            return
        checks.in_range("quantize.freeze", self.freeze, 0, 1)
        if self.weights is None or not self.track:
            raise checks.UsageError(
                f"quantize.freeze is {self.freeze}, but weights is"
                f" {self.weights} and track {self.track}, so that no"
                " oscillation is known; give weights bits and make track true,"
                " or freeze None."
            )


class Place(NamedTuple):
    """Where a grid is.

    Attributes:
        bits: of its codes.
        groups: G.
        axis: that they divide, from the end.
    """

    bits: int
    groups: int
    axis: int = -1


class Places(NamedTuple):
    """All grids of a network, by path."""

    weights: dict[str, Place]
    inputs: dict[str, Place]
    sites: dict[str, Place]


def places(apply: Callable[[Any], Any], params: Any, given: Quantize) -> Places:
    """Where a network has grids.

    Args:
        apply: the network on an example, a function of its parameters, that
            gives its collection of places.
        params: parameters, or their shapes.
        given: which.

    Raises:
        UsageError: if no layer is left, or `keep` is no regular expression.
    """
    named = matching(params, ".")
    kept = set() if given.keep is None else matching(params, given.keep)
    seen: dict[str, Any] = {}

    def run(params: Any) -> Any:
        tapped, found = calibration.tap(
            params, lambda leaf, x: x.shape, lambda path, leaf: path in named
        )
        shown = apply(tapped)
        seen.update({path: calls[0] for path, calls in found.items()})
        return shown

    shapes = jax.eval_shape(run, params)
    # Inside attentions, [..., heads, T, ...].
    heads = {path: leaf.shape[-3] for path, leaf in sites_of(shapes).items()}
    order = list(seen)  # As they are called.
    edges = {order[0], order[-1]} if order else set()
    weights: dict[str, Place] = {}
    inputs: dict[str, Place] = {}
    outputs = {}
    map_named(lambda path, w: outputs.update({path: w.shape[-1:]}), params)
    for path in order:
        if path in kept:
            continue
        on_edge = path in edges
        bits = given.edges if on_edge else given.weights
        if bits is not None and given.weights is not None:
            groups = {"tensor": 1, "channel": outputs[path][0]}.get(
                given.groups, heads.get(site_of(path), 1)
            )
            weights[path] = Place(bits, groups)
        bits = given.edges if on_edge else given.inputs
        if bits is not None and given.inputs is not None:
            inputs[path] = Place(bits, 1)
    if not weights and not inputs:
        raise checks.UsageError(
            "no layer is quantised: give quantize.weights or quantize.inputs"
            " bits, and let quantize.keep leave some layer; the layers are:"
            f" {', '.join(order)}."
        )
    own = {}
    if given.inputs is not None:
        for path, count in heads.items():
            groups = count if given.groups == "head" else 1
            own[path] = Place(given.inputs, groups, -3)
    return Places(weights, inputs, own)


def sites_of(collections: Mapping[str, Any], every: bool = False) -> Any:
    """What passed the places of a network, by path; the first or every call."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        collections.get(SITES, {}), is_leaf=lambda node: isinstance(node, tuple)
    )
    return {
        path_name(path): calls if every else calls[0] for path, calls in leaves
    }


def site_of(path: str) -> str:
    """Name of the place that the outputs of a layer reach, if there is one."""
    return re.sub(r"/?kernel$", "_site", path)
