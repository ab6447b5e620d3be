"""What a study sweeps: named sets of hardware fields and their levels.

A study is written as words: names of `STUDIES`, or `field=level,level,...` for
any field of the hardware, such as the crossbar and its device (or a study of
one sweep), such as

    noise adc
    time=0,1e6 g_max=1e-5,2e-5 read=vector,batch

Numbers are swept in one compiled program; what is static (sizes, bits, flags,
layers) compiles a program a level.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
from typing import Any, NamedTuple
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.trees import map_named, path_name
from jaxedge.hardware import crossbar, devices, digital, sram
from jaxedge.hardware.devices import stack, wrapper
from jaxedge.recipes.settings import Design

Levels = tuple[Any, ...]
Hardware = Design | hardware.Plan

# Each study and its sweeps, of which hardware has those whose fields it knows.
# "all" is every one of them.
STUDIES = {
    "noise": ("read_noise", "sigma"),
    "faults": ("fault",),
    "time": ("seconds",),
    "adc": ("adc_bits",),
    "array": ("array",),
    "wires": ("r_wire",),
    "layers": ("only_layer", "all_but_layer"),
}
# Sweeps of the layers that are on hardware, while the others are ideal.
LAYERS = STUDIES["layers"]
# Fields of a crossbar that are no number, flag or name.
_PARTS = ("device", "input_range", "adc", "wire_trims")
# Spreads and noises of a macro, which the sweep "sigma" multiplies.
_SIGMAS = tuple(name for name in sram.fields() if name.startswith("sigma_"))


class Sweep(NamedTuple):
    """A field of the hardware at several levels.

    Attributes:
        name: of its arrays, "<name>_levels" and "<name>_score".
        field: of the hardware, "fault" (stuck cells), "sigma" (multiples of
            all spreads and noises of a macro), "array" (rows and columns),
            "only_layer" or "all_but_layer".
        levels: values of the field; of layers their paths.
        fixed: further fields and values, the same at every level.
    """

    name: str
    field: str
    levels: Levels
    fixed: tuple[tuple[str, Any], ...] = ()


def parse(
    words: str,
    levels: Mapping[str, Levels],
    spec: Design,
    layers: Callable[[], Sequence[str]],
) -> tuple[Sweep, ...]:
    """The sweeps of a study, each level of which is known to be possible.

    Args:
        words: see the head of this file; "" sweeps nothing.
        levels: of the sweeps of `STUDIES`, by name; one without levels is
            left out.
        spec: hardware that is varied. Where it compensates drift, the study of
            time has a second sweep without, "seconds_uncompensated".
        layers: paths of the weights that go on hardware; called if needed.

    Raises:
        UsageError: for an unknown study or field, a level out of range, or a
            sweep that is named twice.

    Warns:
        UserWarning: names the studies that this hardware has not.
    """
    sweeps: list[Sweep] = []
    known = fields(spec)
    for word in words.split():
        field, given, text = word.partition("=")
        if given:
            named = [name for name in STUDIES.get(field, ()) if name in known]
            if len(named) == 1 and field not in known:
                (field,) = named
            sweeps.append(Sweep(field, field, _levels(word, text)))
            continue
        if word not in (*STUDIES, "all"):
            raise checks.unknown(
                "study (or write field=level,level)", word, (*STUDIES, "all")
            )
        for study in STUDIES if word == "all" else (word,):
            here = [name for name in STUDIES[study] if name in known]
            if not here and word != "all":
                warnings.warn(
                    f"the study {study!r} is left out: the hardware has no"
                    f" {' and no '.join(STUDIES[study])}.",
                    stacklevel=2,
                )
            for name in here:
                found = layers() if name in LAYERS else levels[name]
                if name == "all_but_layer" and len(found) == 1:
                    continue  # Nothing would be on hardware.
                sweeps.append(Sweep(name, name, tuple(found)))
    sweeps = [sweep for sweep in sweeps if sweep.levels]
    if isinstance(spec, crossbar.Spec) and spec.compensate:
        sweeps += [
            sweep._replace(
                name=f"{sweep.name}_uncompensated",
                fixed=(("compensate", False),),
            )
            for sweep in sweeps
            if sweep.name == "seconds"
        ]
    _check(sweeps, spec, layers)
    return tuple(sweeps)


def apply(sweep: Sweep, level: Any, spec: Design) -> Hardware:
    """The hardware at one level, in float32; it is not checked."""
    spec = with_fields(spec, dict(sweep.fixed))
    if sweep.field in LAYERS:
        layer, spec = f"^{re.escape(level)}$", to_float32(spec)
        if sweep.field == "only_layer":
            return hardware.Plan.of({layer: spec})
        return hardware.Plan.of({layer: None, "": spec})
    together = _together(spec)
    changed = {sweep.field: level}
    if sweep.field in together:
        changed = together[sweep.field](level)
    return to_float32(with_fields(spec, changed))


def fields(spec: Design) -> list[str]:
    """What can be swept: fields of the hardware, and what moves several.

    Of devices, also what `devices.with_fields` puts around any of them.
    """
    if isinstance(spec, sram.Spec):
        return sorted({*sram.fields(), *_together(spec), *LAYERS})
    if isinstance(spec, digital.Spec):
        return sorted({*digital.fields(), *LAYERS})
    names = {*_own(spec), *wrapper.every_name(spec.device)}
    for layer in stack.LAYERS:
        names |= {*wrapper.added(layer)}
    return sorted({*names, *_together(spec), *LAYERS})


def with_fields(spec: Design, changed: Mapping[str, Any]) -> Design:
    """Hardware with fields of its own, its device or its macro replaced.

    Raises:
        UsageError: for what the hardware cannot have.
    """
    if isinstance(spec, sram.Spec):
        return sram.with_fields(spec, **changed)
    if isinstance(spec, digital.Spec):
        return digital.with_fields(spec, **changed)
    own = _own(spec)
    outer = {k: v for k, v in changed.items() if k in own}
    inner = {k: v for k, v in changed.items() if k not in own}
    device = devices.with_fields(spec.device, **inner)
    return dataclasses.replace(spec, device=device, **outer)


def to_float32(spec: Any) -> Any:
    """Hardware whose numbers are arrays: other numbers compile nothing.

    Counts stay whole: arrays of integers, and the `event`.
    """

    def number(path: str, a: Any) -> jax.Array:
        if path.endswith("event"):
            return jnp.asarray(a, jnp.int32)
        whole = isinstance(a, (jax.Array, np.ndarray)) and a.dtype.kind in "biu"
        return jnp.asarray(a) if whole else jnp.asarray(a, jnp.float32)

    return map_named(number, spec)


def layers(params: Any, spec: Design) -> tuple[str, ...]:
    """Paths of the weights that `deploy` puts on hardware, in order.

    Args:
        params: parameters, or their shapes (`jax.eval_shape`).
        spec: the hardware of every layer.
    """
    chip = jax.eval_shape(hardware.deploy, jax.random.key(0), params, spec)
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        chip, is_leaf=hardware.is_weight
    )
    return tuple(
        path_name(path) for path, leaf in leaves if hardware.is_weight(leaf)
    )


def as_array(levels: Levels) -> np.ndarray:
    """Levels as they are stored, [L]: numbers (None is NaN), else text."""
    if all(isinstance(level, (int, float, type(None))) for level in levels):
        return np.array(levels, np.float64)
    return np.array([str(level) for level in levels])


def _together(spec: Design) -> dict[str, Callable[[Any], dict[str, Any]]]:
    """Sweeps that move several fields at once, by name."""
    if isinstance(spec, digital.Spec):
        return {}
    array = {"array": lambda level: {"rows": level, "columns": level}}
    if isinstance(spec, sram.Spec):
        config = spec.config
        return array | {
            "sigma": lambda level: {
                name: level * getattr(config, name) for name in _SIGMAS
            }
        }
    # Half of the stuck cells on and half off.
    return array | {
        "fault": lambda level: {"stuck_on": level / 2, "stuck_off": level / 2}
    }


def _own(spec: crossbar.Spec) -> list[str]:
    names = [field.name for field in dataclasses.fields(spec)]  # type: ignore
    return [name for name in names if name not in _PARTS]


def _levels(word: str, text: str) -> Levels:
    """Levels of `field=level,level`: numbers, None, True, False, or text."""

    def level(part: str) -> Any:
        try:
            return ast.literal_eval(part)
        except (ValueError, SyntaxError):
            return None if part.lower() == "none" else part

    parts = text.split(",")
    if not all(parts) or word.startswith("="):
        raise checks.UsageError(
            f"{word!r} is no sweep; write field=level,level without spaces,"
            " such as adc_bits=4,6,8."
        )
    return tuple(level(part) for part in parts)


def _check(
    sweeps: Sequence[Sweep],
    spec: Design,
    layers: Callable[[], Sequence[str]],
) -> None:
    names = [sweep.name for sweep in sweeps]
    for name in names:
        if names.count(name) > 1:
            raise checks.UsageError(
                f"the study names the sweep {name!r} {names.count(name)} times;"
                " name it once."
            )
    known = fields(spec)
    for sweep in sweeps:
        if sweep.field not in known:
            raise checks.unknown(
                "field to sweep", sweep.field, known, len(known)
            )
        for level in sweep.levels:
            if sweep.field in LAYERS:
                checks.choice("layer", level, layers())
                continue
            try:
                apply(sweep, level, spec).check()  # type: ignore[union-attr]
            except (checks.UsageError, TypeError, ValueError) as error:
                raise checks.UsageError(
                    f"the study cannot have {sweep.name} at {level!r}: {error}"
                ) from None
