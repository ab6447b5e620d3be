"""Bring your own network: any pure JAX function on hardware.

The function is traced to a jaxpr, in which the products by the chosen
parameters are those of hardware; its code stays as it is.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

import jax
from jax.extend import source_info_util
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.core.trees import map_named, path_name
from jaxedge.hardware import mounts, weights
from jaxedge.hardware.interpreter import Held, Interpreter
from jaxedge.hardware.mounts import Mount, Mounted, natural
from jaxedge.hardware.weights import Plan, Spec, is_weight


def wrap(
    fn: Callable[..., Any],
    params: Any,
    plan: Spec | Mapping[str, Spec | None] | Plan,
    *args: Any,
    **kwargs: Any,
) -> "Wrapped":
    """Puts a network of any framework on hardware, without touching its code.

    `fn` is traced, and every matrix product (`dot_general`) and convolution
    by a chosen parameter is computed by the parameter's hardware, in calls,
    loops, branches and `vmap` too. All else is computed as it stands.

        hw = hardware.wrap(model.apply, variables, {"kernel": spec}, x)
        chip = hw.program(key)
        y = hw(chip, x, read_key=read_key)

    It may be called in a compiled function, so that a plan can be swept; and
    what it returns is compiled as any function: jax.jit(hw).

    Args:
        fn: pure function `fn(params, *args, **kwargs)`, such as linen's or
            Haiku's `apply`, or one that merges what `nnx.split` or
            `equinox.partition` has parted.
        params: pytree of arrays.
        plan: as for `deploy`. One spec stands for every parameter that fn
            multiplies by.
        *args: example inputs, arrays or `jax.ShapeDtypeStruct`; only their
            shapes count. They show how fn uses each parameter, which decides
            what are rows and columns. Without any, weights are taken to be
            [I, O] and [h, w, I, O], as `deploy` does.
        **kwargs: more of them.

    Returns:
        The function on hardware, which also programs its chips.

    Raises:
        UsageError: for a plan that matches nothing, or that chooses a
            parameter that fn uses otherwise, or never, in a product.
    """
    plan = Plan.of(plan)
    shapes = jax.tree.map(_shape, params, is_leaf=is_weight)
    chosen = None
    if args or kwargs:
        chosen = _choose(plan, _look(fn, shapes, args, kwargs))
    return Wrapped(fn, params, plan, chosen)


@dataclasses.dataclass(frozen=True, eq=False)
class Wrapped:
    """A function on hardware; made by `wrap`.

    Attributes:
        fn: the function.
        params: its parameters.
        plan: their hardware.
        chosen: hardware of the chosen parameters and how they lie on it, by
            path; None where no example inputs have shown it.
    """

    fn: Callable[..., Any]
    params: Any
    plan: Plan
    chosen: dict[str, tuple[Spec, Mount]] | None

    def program(self, key: jax.Array, params: Any = None) -> Any:
        """Makes one chip: programs the parameters that the plan names.

        Each parameter draws from the stream of its path, as in `deploy`.

        Args:
            key: chip key; the same key is the same chip.
            params: other values than those that were wrapped, such as the
                current ones in a training step.

        Returns:
            `params` with hardware leaves in place of the chosen ones: a
            pytree to map over keys, to save, and to differentiate through.
        """
        params = self.params if params is None else params
        chosen = self.chosen
        if chosen is None:
            return weights.deploy(key, params, self.plan)
        check_key(key)

        def place(path: str, leaf: Any) -> Any:
            if path not in chosen:
                return leaf
            return mounts.program(stream(key, path), leaf, *chosen[path])

        return map_named(place, params, is_leaf=is_weight)

    def __call__(
        self,
        chip: Any,
        *args: Any,
        read_key: jax.Array | None = None,
        **kwargs: Any,
    ) -> Any:
        """Runs the function on a chip.

        Args:
            chip: from `program` or `deploy`; plain parameters are ideal
                hardware.
            *args: of the function.
            read_key: consumed; None reads without noise. Each product draws
                from the stream of its parameter's path.
            **kwargs: of the function.

        Returns:
            What the function returns.

        Raises:
            UsageError: where the function uses a parameter on hardware
                otherwise than in a product, or than it lies there.
        """
        if read_key is not None:
            check_key(read_key)
        known = {path: _shape(leaf) for path, leaf in _named(self.params)}

        def ideal(path: str, leaf: Any) -> Any:
            if not is_weight(leaf):
                return leaf
            dtype = getattr(known.get(path), "dtype", jnp.float32)
            return jax.ShapeDtypeStruct(tuple(leaf.shape), dtype)

        shapes = map_named(ideal, chip, is_leaf=is_weight)
        closed, tree = _trace(self.fn, shapes, args, kwargs)
        values = [
            _hold(path, leaf)
            for path, leaf in _named(chip)
            if is_weight(leaf) or _traced(leaf)
        ]
        values += filter(_traced, jax.tree.leaves((args, kwargs)))
        interpreter = Interpreter(_Read(), read_key)
        outputs = interpreter.run(closed, values)
        outputs = interpreter.settle(None, closed.jaxpr.outvars, outputs)
        return jax.tree.unflatten(tree, outputs)


class _Use(NamedTuple):
    """What a function does with a parameter.

    Attributes:
        rank: of the parameter, or of its slices where a loop cuts it.
        mounts: how it has to lie for each product.
        others: equations that are no products by it.
    """

    rank: int
    mounts: list[Mount]
    others: list[Any]


class _Look:
    """Hooks that compute nothing, and note what parameters are used for."""

    def __init__(self) -> None:
        self.uses: dict[str, _Use] = {}

    def each(self, held: Held, eqn: Any) -> None:
        use = self.uses[held.path]
        self.uses[held.path] = use._replace(rank=use.rank - 1)

    def product(
        self, held: Held, eqn: Any, use: Any, x: jax.Array, key: Any
    ) -> jax.Array:
        self.uses[held.path].mounts.append(use[0])
        out = eqn.outvars[0].aval
        return jnp.zeros(out.shape, out.dtype)

    def other(self, held: Held, eqn: Any, aval: Any) -> jax.Array:
        self.uses[held.path].others.append(eqn)
        return jnp.zeros(aval.shape, aval.dtype)


class _Read:
    """Hooks that multiply by hardware leaves."""

    def each(self, held: Held, eqn: Any) -> Any:
        if held.value.mount.lead <= held.mount.lead:
            raise _unshown(held.path, "slice by slice")
        return held.value

    def product(
        self, held: Held, eqn: Any, use: Any, x: jax.Array, key: Any
    ) -> jax.Array:
        mount, run = use
        leaf = held.value.turned(mount)
        if leaf is None:
            raise _unshown(held.path, f"as {_matrix(mount)} at {_place(eqn)}")
        return run(x, leaf, key)

    def other(self, held: Held, eqn: Any, aval: Any) -> jax.Array:
        raise _no_product(held.path, eqn)


def _look(
    fn: Callable[..., Any], shapes: Any, args: Any, kwargs: Any
) -> dict[str, _Use]:
    """What a function does with each of its floating parameters."""
    closed, _ = _trace(fn, shapes, args, kwargs)
    hooks = _Look()

    def hold(path: str, leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or not leaf.ndim:
            return jnp.zeros(leaf.shape, leaf.dtype)
        hooks.uses[path] = _Use(leaf.ndim, [], [])
        return Held(None, path, Mount(leaf.shape))

    def run(*rest: jax.Array) -> None:
        named = [(path, leaf) for path, leaf in _named(shapes) if _traced(leaf)]
        values = [hold(path, leaf) for path, leaf in named]
        interpreter = Interpreter(hooks)
        outputs = interpreter.run(closed, [*values, *rest])
        interpreter.settle(None, closed.jaxpr.outvars, outputs)

    jax.eval_shape(run, *filter(_traced, jax.tree.leaves((args, kwargs))))
    return hooks.uses


def _choose(plan: Plan, uses: dict[str, _Use]) -> dict[str, tuple[Spec, Mount]]:
    """The hardware of the parameters that the plan names, and how they lie."""
    paths = [path for path, use in uses.items() if use.mounts or use.rank > 1]
    assigned, chosen = plan.assign(paths), {}
    for path, (pattern, spec) in assigned.items():
        use = uses[path]
        if spec is None:
            continue
        if not use.mounts:
            # What everything matches passes over what is no factor.
            if not pattern:
                continue
            raise checks.UsageError(
                f"the plan's pattern {pattern!r} puts {path!r} on hardware,"
                " but the function never multiplies by it; give None for it in"
                f" the plan, before that pattern: {{{path!r}: None, ...}}."
            )
        if use.others:
            raise _no_product(path, use.others[0])
        if any(mount.lead != use.mounts[0].lead for mount in use.mounts):
            raise checks.UsageError(
                f"the function multiplies by {path!r} as a whole and by its"
                " slices, which no array can serve; give None for it in the"
                f" plan: {{{path!r}: None, ...}}."
            )
        chosen[path] = (spec, use.mounts[0])
    left = [path for path, (_, spec) in assigned.items() if spec is not None]
    if left and not chosen:
        raise checks.UsageError(
            "the plan puts nothing on hardware: the function multiplies its"
            f" inputs by none of: {', '.join(left)}."
        )
    return chosen


def _trace(
    fn: Callable[..., Any], params: Any, args: Any, kwargs: Any
) -> tuple[Any, Any]:
    """The jaxpr of a function of its arrays, and the tree of its outputs.

    Whatever is no array (a flag, a string, a function) stays what it is.
    """
    leaves, tree = jax.tree.flatten((params, args, kwargs))

    def flat(*arrays: jax.Array) -> Any:
        rest = iter(arrays)
        merged = [next(rest) if _traced(leaf) else leaf for leaf in leaves]
        params, args, kwargs = jax.tree.unflatten(tree, merged)
        return fn(params, *args, **kwargs)

    make = jax.make_jaxpr(flat, return_shape=True)
    closed, shapes = make(*filter(_traced, leaves))
    return closed, jax.tree.structure(shapes)


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their paths; hardware leaves are whole."""
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_weight)[0]
    return [(path_name(path), leaf) for path, leaf in flat]


def _traced(leaf: Any) -> bool:
    """Whether a leaf is traced: an array, or the shape of one."""
    return isinstance(
        leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
    )


def _shape(leaf: Any) -> Any:
    """The shape of an array or of a leaf such as `MaskedRandom`."""
    if not (_traced(leaf) or is_weight(leaf)):
        return leaf
    dtype = getattr(leaf, "dtype", jnp.float32)
    return jax.ShapeDtypeStruct(tuple(leaf.shape), dtype)


def _hold(path: str, leaf: Any) -> Any:
    """A hardware leaf on its way to a product; arrays are as they are."""
    if not is_weight(leaf):
        return leaf
    shape = tuple(leaf.shape)
    if not isinstance(leaf, Mounted):
        leaf = Mounted(leaf, natural(shape), shape)
    return Held(leaf, path, Mount(shape))


def _no_product(path: str, eqn: Any) -> checks.UsageError:
    where = "returns it" if eqn is None else f"uses it in {_place(eqn)}"
    return checks.UsageError(
        f"the plan puts {path!r} on hardware, but the function also {where},"
        " and an array can only multiply; give None for it in the plan, which"
        f" keeps it ideal: {{{path!r}: None, ...}}."
    )


def _unshown(path: str, how: str) -> checks.UsageError:
    return checks.UsageError(
        f"the function multiplies by {path!r} {how}, which is not how it lies"
        " on its array; pass example inputs to wrap(fn, params, plan, *inputs),"
        " which show how it has to lie, or, if it is used in two directions,"
        " choose hardware without converters or give None for it in the plan."
    )


def _matrix(mount: Mount) -> str:
    inputs, outputs = mount.shape[-2:]
    return f"a matrix of {inputs} inputs and {outputs} outputs"


def _place(eqn: Any) -> str:
    """The name of an equation, and the line that it comes from."""
    return (
        f"{eqn.primitive.name} ({source_info_util.summarize(eqn.source_info)})"
    )
