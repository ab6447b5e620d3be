"""Runs a jaxpr in which some parameters are on hardware.

A parameter that is `Held` is followed through reshapes and transposes, and
through calls, loops and branches, to the products that it enters. What becomes
of it there is the business of `Hooks`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
from jax.extend import core as jex
from jax.extend import source_info_util
import jax.numpy as jnp

from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import products
from jaxedge.hardware.mounts import Mount

# Calls that only give a name, or a derivative, to what they call.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
# What leaves every entry as it is.
_KEEPING = {
    "copy",
    "name",
    "reduce_precision",
    "sharding_constraint",
    "stop_gradient",
}


@pytree
class Held:
    """A parameter on its way to a product.

    Attributes:
        value: whatever the hooks keep for it, a pytree.
        path: of the parameter.
        mount: the steps on the way so far.
    """

    value: Any
    path: str = static()
    mount: Mount = static()


class Hooks(Protocol):
    """What happens to parameters on hardware."""

    def each(self, held: Held, eqn: Any) -> Any:
        """The value, about to be cut along its leading axis by a loop."""
        ...

    def product(
        self,
        held: Held,
        eqn: Any,
        use: tuple[Mount, products.Run],
        x: jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        """The result of a product by it, as `products.product` describes."""
        ...

    def other(self, held: Held, eqn: Any, aval: Any) -> jax.Array:
        """The array that another equation sees (None: the function's end)."""
        ...


class Interpreter:
    """Runs jaxprs; each of a parameter's products has a stream of its own.

    Attributes:
        hooks: what happens to held parameters.
        key: read key of this level; None reads without noise.
        counts: products so far by path.
    """

    def __init__(
        self,
        hooks: Hooks,
        key: jax.Array | None = None,
        counts: Counter[str] | None = None,
    ):
        self.hooks, self.key = hooks, key
        self.counts: Counter[str] = Counter(counts)

    def run(self, closed: jex.ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
        """The outputs, of which some may be `Held` as the arguments."""
        # The body of a `jax.checkpoint` may be open, without constants.
        jaxpr = getattr(closed, "jaxpr", closed)
        consts = getattr(closed, "consts", ())
        env: dict[Any, Any] = {}
        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, jex.Literal) else env[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            if any(isinstance(value, Held) for value in inputs):
                outputs = self._held(eqn, inputs)
            else:
                outputs = bind(eqn, inputs)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def settle(
        self, eqn: Any, atoms: Sequence[Any], values: Sequence[Any]
    ) -> list[Any]:
        """The values of variables, with arrays for what is held."""
        return [
            self.hooks.other(value, eqn, atom.aval)
            if isinstance(value, Held)
            else value
            for atom, value in zip(atoms, values, strict=True)
        ]

    def _held(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """One equation with held inputs."""
        name = eqn.primitive.name
        if name in _CALLS:
            return self.run(eqn.params[_CALLS[name]], inputs)
        if name == "scan":
            return self._scan(eqn, inputs)
        if name == "while":
            return self._while(eqn, inputs)
        if name == "cond":
            return self._cond(eqn, inputs)
        if name in ("checkpoint", "remat2", "remat"):
            return self._remat(eqn, inputs)
        sides = [i for i, v in enumerate(inputs) if isinstance(v, Held)]
        held = inputs[sides[0]]
        if len(inputs) == 1 and (mount := _moved(eqn, held.mount)):
            value = held.value
            if name == "stop_gradient":
                value = jax.lax.stop_gradient(value)
            return [Held(value, held.path, mount)]
        use = products.product(eqn, sides[0], held.mount)
        if len(sides) > 1 or use is None:
            return bind(eqn, self.settle(eqn, eqn.invars, inputs))
        key = self.key
        if key is not None:
            key = stream(key, held.path, self.counts[held.path])
        self.counts[held.path] += 1
        x = inputs[1 - sides[0]]
        return [self.hooks.product(held, eqn, use, x, key)]

    def _inside(
        self, counts: Counter[str], name: str = "", step: Any = None
    ) -> "Interpreter":
        """For a part that JAX may trace more than once, or run many times."""
        key = self.key
        if key is not None and step is not None:
            key = stream(key, name, step)
        return Interpreter(self.hooks, key, counts)

    def _part(
        self,
        inside: "Interpreter",
        eqn: Any,
        closed: jex.ClosedJaxpr,
        values: Sequence[Any],
    ) -> list[Any]:
        """Runs a part, and counts its products among this level's."""
        outputs = inside.run(closed, values)
        atoms = getattr(closed, "jaxpr", closed).outvars
        outputs = inside.settle(eqn, atoms, outputs)
        self.counts |= inside.counts
        return outputs

    def _scan(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        params, start = eqn.params, Counter(self.counts)
        n, m = _scan_sizes(params)
        consts, rest = inputs[:n], inputs[n + m :]
        carried = slice(n, n + m)
        carry = self.settle(eqn, eqn.invars[carried], inputs[carried])
        xs = [
            Held(self.hooks.each(x, eqn), x.path, x.mount.each())
            if isinstance(x, Held)
            else x
            for x in rest
        ]

        def body(carry: list[Any], each: Any) -> Any:
            step, xs = each
            inside = self._inside(start, "step", step)
            values = [*consts, *carry, *xs]
            outputs = self._part(inside, eqn, params["jaxpr"], values)
            return outputs[:m], outputs[m:]

        steps = jnp.arange(params["length"])
        carry, ys = jax.lax.scan(
            body,
            carry,
            (steps, xs),
            params["length"],
            params["reverse"],
            params["unroll"],
        )
        return [*carry, *ys]

    def _while(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        params, start = eqn.params, Counter(self.counts)
        n, m = params["cond_nconsts"], params["body_nconsts"]
        tests, consts = inputs[:n], inputs[n : n + m]
        carry = self.settle(eqn, eqn.invars[n + m :], inputs[n + m :])

        def going(state: Any) -> jax.Array:
            step, carry = state
            inside = self._inside(start, "test", step)
            values = [*tests, *carry]
            return self._part(inside, eqn, params["cond_jaxpr"], values)[0]

        def body(state: Any) -> Any:
            step, carry = state
            inside = self._inside(start, "step", step)
            values = [*consts, *carry]
            closed = params["body_jaxpr"]
            return step + 1, self._part(inside, eqn, closed, values)

        state = (jnp.uint32(0), carry)
        return jax.lax.while_loop(going, body, state)[1]

    def _cond(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        start = Counter(self.counts)

        def branch(closed: jex.ClosedJaxpr) -> Any:
            def call(*values: Any) -> list[Any]:
                return self._part(self._inside(start), eqn, closed, values)

            return call

        index, *values = inputs
        branches = [branch(closed) for closed in eqn.params["branches"]]
        return jax.lax.switch(index, branches, *values)

    def _remat(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        params, start = eqn.params, Counter(self.counts)

        def call(*values: Any) -> list[Any]:
            inside = self._inside(start)
            return self._part(inside, eqn, params["jaxpr"], values)

        again = jax.checkpoint(
            call, prevent_cse=params["prevent_cse"], policy=params["policy"]
        )
        return again(*inputs)


def _scan_sizes(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # As of JAX 0.12.
    return len(consts), len(carry)


def bind(eqn: Any, inputs: Sequence[Any]) -> list[Any]:
    """Runs one equation as it stands, under its name and settings."""
    source, primitive = eqn.source_info, eqn.primitive
    names = source_info_util.current_name_stack() + source.name_stack
    params = primitive.get_bind_params(eqn.params)
    with (
        source_info_util.user_context(source.traceback, name_stack=names),
        eqn.ctx.manager,
    ):
        outputs = primitive.bind(*inputs, **params)
    return outputs if primitive.multiple_results else [outputs]


def _moved(eqn: Any, mount: Mount) -> Mount | None:
    """The mount after an equation that only moves or keeps entries."""
    name, before, after = (
        eqn.primitive.name,
        eqn.invars[0].aval,
        eqn.outvars[0].aval,
    )
    if name == "transpose":
        return mount.transpose(*eqn.params["permutation"])
    if name in ("reshape", "squeeze"):
        return mount.reshape(*after.shape)
    if name == "broadcast_in_dim" and after.size == before.size:
        return mount.reshape(*after.shape)
    if name == "convert_element_type":
        floating = jnp.issubdtype(after.dtype, jnp.floating)
        return mount if floating else None
    return mount if name in _KEEPING else None
