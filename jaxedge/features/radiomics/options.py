"""How texture matrices are made, as pyradiomics names it."""

from typing import NamedTuple

from jaxedge.core import checks

WEIGHTINGS = ("manhattan", "euclidean", "infinity", "no_weighting")
DEFINITIONS = ("pyradiomics", "ibsi")


class Options(NamedTuple):
    """Settings of the texture matrices; static, hashable.

    Attributes:
        distances: of a neighbour, in voxels of the infinity norm, at least 1.
        symmetric: whether a pair of a co-occurrence matrix counts both ways.
        weighting: norm by whose distance directions are weighted, one of
            `WEIGHTINGS`, before their matrices are added; None gives each
            direction its own features, whose mean is taken.
        plane: axis of [Z, Y, X] that neighbours do not cross, 0 to 2; None for
            three dimensions.
        alpha: largest difference of grey levels that makes two voxels
            dependent.
    """

    distances: tuple[int, ...] = (1,)
    symmetric: bool = True
    weighting: str | None = None
    plane: int | None = None
    alpha: float = 0.0


DEFAULT = Options()


def check(options: Options) -> None:
    """Raises unless every option is legal.

    Raises:
        UsageError: naming the option and its value.
    """
    if not options.distances:
        raise checks.UsageError("distances is empty; give at least (1,).")
    for distance in options.distances:
        checks.whole("distances", distance, 1)
    if len(set(options.distances)) != len(options.distances):
        raise checks.UsageError(
            f"distances is {options.distances}; name each one once."
        )
    if options.weighting not in (None, *WEIGHTINGS):
        raise checks.unknown("weighting", options.weighting, WEIGHTINGS)
    if options.plane not in (None, 0, 1, 2):
        raise checks.UsageError(
            f"plane is {options.plane!r}, but must be None, or the axis 0, 1"
            " or 2 of [Z, Y, X] that neighbours do not cross."
        )
    checks.in_range("alpha", options.alpha, 0)


def check_definitions(definitions: str) -> None:
    """Raises unless `definitions` names a known set of definitions."""
    if definitions not in DEFINITIONS:
        raise checks.unknown("definitions", definitions, DEFINITIONS)
