"""Hardware is a kind of weight: the leaf protocol, `dot`, `deploy`.

A network multiplies by whatever leaf it finds in its parameters. A plain array
is ideal hardware; a `Weight` knows its own physics.

Letters: I inputs, O outputs.
"""

from collections.abc import Callable, Mapping, Sequence
import math
import re
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.core.trees import map_named, pytree, static

# A product that is linear in both arguments: (x, matrix [I, O]) -> y.
Product = Callable[[jax.Array, jax.Array], jax.Array]
# How the names of tables end: of arrays that are looked up, and multiply
# nothing.
TABLE = "embedding"
# Of matrices, and of kernels of images and of volumes.
RANKS = (2, 4, 5)


class Weight:
    """A hardware leaf: a frozen pytree that takes the place of an array.

    Attributes:
        shape: of the weight it stands for, [I, O] or [h, w, I, O].
        by_vector: whether each input vector meets the array as such (its
            converters or tiles are not linear), so that a convolution has
            to be unrolled into vectors.
        trained: whether it is what training left, to be programmed, rather
            than a chip.
    """

    shape: Any
    by_vector: Any = False
    trained: Any = False

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        """`product(x, matrix)` as this hardware computes it."""
        raise NotImplementedError

    def split(self, groups: int) -> "Weight":
        """The outputs in equal parts, each an array of its own.

        Returns:
            A leaf whose every array has a leading axis [groups], over which
            `multiply` can be mapped.
        """
        raise NotImplementedError

    def target(self) -> Any:
        """Of a trained leaf: what hardware is to hold, itself by default."""
        return self

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Rank of the weight."""
        return len(self.shape)


class Spec(Protocol):
    """How to put a weight on some hardware."""

    def program(self, key: jax.Array, w: Any) -> Weight: ...


def is_weight(node: Any) -> bool:
    """Whether a node of a parameter tree is a hardware leaf."""
    return isinstance(node, Weight)


def dot(
    x: jax.Array, w: jax.Array | Weight, *, key: jax.Array | None = None
) -> jax.Array:
    """Multiplies vectors by a weight on any hardware.

    Args:
        x: [..., I], floating point.
        w: array or hardware leaf of shape [I, O].
        key: read key, consumed; None reads without noise.

    Returns:
        [..., O], dtype of `x`.

    Raises:
        UsageError: when the shapes do not fit.

    Examples:
        >>> from jaxedge.hardware import digital
        >>> x, w = jnp.ones((1, 2)), jnp.array([[1.0], [0.26]])
        >>> dot(x, w).tolist()
        [[1.25999...]]
        >>> small = program(jax.random.key(0), w, digital.get("int4"))
        >>> round(float(dot(x, small)[0, 0]), 4)
        1.2857
    """
    x = jnp.asarray(x)
    if len(w.shape) != 2:
        raise checks.UsageError(
            f"dot needs a weight [I, O], got shape {tuple(w.shape)}; use conv"
            " for a kernel [h, w, I, O]."
        )
    check_fan("dot", x, w.shape[0])
    return multiply(x, w, matmul, key)


def program(key: jax.Array, w: jax.Array | Weight, spec: Spec) -> Weight:
    """Puts one weight on hardware: the same key gives the same array.

    Args:
        key: chip key, consumed.
        w: array [I, O], [h, w, I, O] or [d, h, w, I, O], or a leaf that the
            hardware can program (`MaskedRandom`, `Ranged`).
        spec: the hardware, for example `crossbar.Spec`.

    Returns:
        A hardware leaf with the shape of `w`.

    Raises:
        UsageError: for NaN or infinite weights, or an unfit rank.
    """
    check_key(key)
    if isinstance(w, Weight) and not w.trained:
        raise checks.UsageError(
            f"a {type(w).__name__} is programmed already; program the trained"
            " weights instead of the chip."
        )
    if len(w.shape) not in RANKS:
        raise checks.UsageError(
            f"hardware holds weights [I, O], [h, w, I, O] or [d, h, w, I, O],"
            f" got shape {tuple(w.shape)}."
        )
    if not math.prod(w.shape):
        raise checks.UsageError(
            f"a weight of shape {tuple(w.shape)} is empty; leave it out of"
            " the plan."
        )
    return spec.program(key, w.target() if isinstance(w, Weight) else w)


@pytree
class Plan:
    """Patterns and the hardware of the leaves that they match, in order.

    What `deploy` makes of a mapping. Pass it where a plan is an argument of a
    compiled function: there JAX sorts the keys of a dict.

    Attributes:
        specs: one for each pattern; None keeps a leaf as it is.
        patterns: regular expressions, searched in the path; the empty one is
            in every path but those of tables.
    """

    specs: tuple[Any, ...]
    patterns: tuple[str, ...] = static()

    @classmethod
    def of(cls, plan: "Spec | Mapping[str, Spec | None] | Plan") -> "Plan":
        """A plan of one spec for everything, of a mapping, or of a plan.

        Raises:
            UsageError: for a pattern that is no regular expression.
        """
        if isinstance(plan, Plan):
            return plan
        if not isinstance(plan, Mapping):
            return cls((plan,), ("",))
        for pattern in plan:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise checks.UsageError(
                    f"the plan's pattern {pattern!r} is no regular expression:"
                    f" {error}."
                ) from None
        return cls(tuple(plan.values()), tuple(plan))

    def assign(self, paths: Sequence[str]) -> dict[str, tuple[str, Any]]:
        """The first pattern that each path holds, and its hardware.

        Args:
            paths: of the weights.

        Returns:
            Pattern and spec of each path that a pattern matches.

        Raises:
            UsageError: for a pattern that matches no path (lists them), or
                only such as earlier ones take.
        """
        rules = dict(zip(self.patterns, self.specs, strict=True))
        assigned: dict[str, tuple[str, Any]] = {}
        shadowed: dict[str, str] = {}
        for path in paths:
            table = path.endswith(TABLE)
            matches = [
                name
                for name in rules
                if re.search(name, path) and (name or not table)
            ]
            if matches:
                assigned[path] = matches[0], rules[matches[0]]
                shadowed.update(dict.fromkeys(matches[1:], matches[0]))
        used = {name for name, _ in assigned.values()}
        for pattern in rules:
            if pattern in used:
                continue
            if pattern in shadowed:
                raise checks.UsageError(
                    f"the plan's pattern {pattern!r} is never used: each"
                    " weight that it matches is taken by an earlier one, such"
                    f" as {shadowed[pattern]!r}; put the narrower pattern"
                    " first, and pass a hardware.Plan to a compiled function,"
                    " where JAX sorts the keys of a dict."
                )
            raise checks.UsageError(
                f"the plan's pattern {pattern!r} matches no weight; the"
                f" weights are: {', '.join(paths) or 'none'}."
            )
        return assigned


def is_deployed(path: str, leaf: Any) -> bool:
    """Whether one spec for everything puts a leaf on hardware.

    Args:
        path: of the leaf, such as "Dense_0/kernel".
        leaf: array or hardware leaf.
    """
    held = is_weight(leaf) or jnp.ndim(leaf) in RANKS
    return held and not path.endswith(TABLE)


def deploy(
    key: jax.Array, params: Any, plan: Spec | Mapping[str, Spec | None] | Plan
) -> Any:
    """Makes one chip of a network: programs the leaves that the plan names.

    Each leaf draws from the stream of its path, so that adding a layer changes
    no other layer's cells.

    Args:
        key: chip key; the same key is the same chip.
        params: pytree of arrays and hardware leaves.
        plan: one spec for every matrix and kernel (arrays of rank 2, 4 or 5 and
            leaves, but for tables, whose names end in "embedding": they are
            looked up and multiply nothing), or a mapping from regular
            expressions, searched in the path (such as "Dense_0/kernel"), to
            specs; the first match counts, None keeps a leaf ideal, and
            unmatched leaves stay as they are. As an argument of a compiled
            function make it a `Plan`.

    Returns:
        `params` with hardware leaves in place of the chosen ones.

    Raises:
        UsageError: for a pattern that matches no leaf (lists the paths), that
            is hidden by earlier ones, or that is no regular expression.

    Examples:
        >>> from jaxedge.hardware import crossbar, devices
        >>> params = {"Dense_0": {"kernel": jnp.eye(2), "bias": jnp.ones(2)}}
        >>> spec = crossbar.Spec(devices.get("ideal", program_noise=0.1))
        >>> chip = deploy(jax.random.key(0), params, {"Dense_0": spec})
        >>> type(chip["Dense_0"]["kernel"]).__name__
        'Crossbar'
        >>> chip["Dense_0"]["bias"].tolist()
        [1.0, 1.0]
    """
    check_key(key)
    plan = Plan.of(plan)
    paths: list[str] = []

    def note(path: str, leaf: Any) -> None:
        if is_weight(leaf) or jnp.ndim(leaf) in RANKS:
            paths.append(path)

    map_named(note, params, is_leaf=is_weight)
    assigned = plan.assign(paths)

    def place(path: str, leaf: Any) -> Any:
        _, spec = assigned.get(path, ("", None))
        if spec is None:
            return leaf
        return program(stream(key, path), leaf, spec)

    return map_named(place, params, is_leaf=is_weight)


def matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """The product of vectors [..., I] and a matrix [I, O]."""
    return jnp.matmul(x, matrix.astype(x.dtype))


def multiply(
    x: jax.Array,
    w: jax.Array | Weight,
    product: Product,
    key: jax.Array | None,
) -> jax.Array:
    """`product(x, w)` on any hardware, with the dtype of `x`."""
    if key is not None:
        check_key(key)
    if isinstance(w, Weight):
        return w.multiply(x, product, key).astype(x.dtype)
    return product(x, w)


def check_fan(name: str, x: jax.Array, fan: int) -> None:
    """Raises UsageError unless `x` is floating and its last axis `fan`."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise checks.UsageError(
            f"{name} needs floating-point inputs, got {x.dtype}; convert them"
            " first."
        )
    if x.ndim < 1 or x.shape[-1] != fan:
        raise checks.UsageError(
            f"{name} got inputs of shape {x.shape}, whose last axis must be"
            f" {fan}, the inputs of the weight."
        )
