"""Frozen dataclasses that are pytrees, and paths into pytrees."""

from collections.abc import Callable
import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")


def static(*, default: Any = dataclasses.MISSING) -> Any:
    """A field that is part of the type under jit: a string, a flag, a size."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def pytree(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass whose non-static fields are leaves."""
    return jax.tree_util.register_dataclass(
        dataclasses.dataclass(frozen=True)(cls)
    )


def path_name(path: tuple[Any, ...]) -> str:
    """A path of `jax.tree_util` as text, such as `Dense_0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_named(
    f: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
    """`jax.tree.map` whose function gets the leaf's path name first."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: f(path_name(path), *leaves),
        tree,
        *rest,
        is_leaf=is_leaf,
    )
