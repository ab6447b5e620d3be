"""What a report says of in-SRAM macros: their layers and their converters.

Letters: C columns, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.core.trees import path_name
from jaxedge.hardware import calibration, sram
from jaxedge.recipes.recipe import Recipe
from jaxedge.run import canvas, page, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

COLUMNS = 200  # of the population that a report shows


def layers(recipe: Recipe, variables: Any, samples: Any) -> dict[str, Json]:
    """How each layer folds and clips on a chip, and what it draws.

    Args:
        recipe: of the network.
        variables: of a chip, before it has set its ranges.
        samples: inputs [B, ...] that it sets them with and is looked at with.

    Returns:
        Of each layer on macros, by name: `fold`, `lsb_units`, `clipped` (share
        of the conversions) and `drop` (of a line, over its swing); the last two
        are None where a network's products cannot be looked at, such as those
        inside a scan.
    """
    macros = _macros(variables["params"])
    if not macros:
        return {}
    if any(calibration.asked(leaf.spec) for leaf in macros.values()):
        fit = jax.jit(functools.partial(_fitted, recipe))
        variables = fit(variables, samples)
        macros = _macros(variables["params"])

    def run(params: Any) -> Any:
        # Otherwise XLA would compute what depends on samples alone, slowly.
        x = jax.lax.optimization_barrier(samples)
        return recipe.forward({**variables, "params": params}, x)

    def look(leaf: Any, x: jax.Array) -> Any:
        return sram.clip_rate(leaf, x), sram.line_drop(leaf, x)

    try:
        seen = calibration.observe(run, variables["params"], look)
    except checks.UsageError:  # Its products stand inside a scan, for one.
        seen = {}
    rows = {}
    for path, leaf in macros.items():
        config = leaf.spec.config
        clipped, drop = np.mean(seen.get(path, [(np.nan, np.nan)]), 0)
        rows[path.rpartition("/")[0]] = {
            "fold": float(jnp.asarray(config.fold)),
            "lsb_units": float(jnp.asarray(config.lsb_units)),
            "clipped": None if np.isnan(clipped) else float(clipped),
            "drop": None if np.isnan(drop) else float(drop),
        }
    return rows


def _fitted(recipe: Recipe, variables: Any, samples: Any) -> Any:
    """Variables of a chip that has set its ranges."""

    def run(params: Any) -> Any:
        return recipe.forward({**variables, "params": params}, samples)

    params = calibration.fit(variables["params"], run)
    return {**variables, "params": params}


def _macros(params: Any) -> dict[str, sram.SramMacro]:
    """The leaves on macros, by path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=hardware.is_weight
    )
    return {
        path_name(path): leaf
        for path, leaf in leaves
        if isinstance(leaf, sram.SramMacro)
    }


def collect(config: sram.Config, key: jax.Array) -> dict[str, np.ndarray]:
    """Converters of a population of columns, for `section`.

    Args:
        config: of the macro.
        key: of the population.

    Returns:
        Fields of `sram.Linearity` as "linearity/<field>".
    """
    found = sram.characterise(config, key, COLUMNS)
    arrays = found._asdict() | {"one_sigma_percent": found.one_sigma_percent}
    return {
        f"linearity/{name}": np.asarray(value, np.float32)
        for name, value in arrays.items()
    }


def section(summary: Json, pictures: Arrays) -> str:
    """The part of the report; nothing for hardware that is no macro."""
    found = _linearity(pictures)
    if not found:
        return ""
    rows = [
        [
            name,
            f"{row['fold']:.0f}",
            f"{row['lsb_units']:.0f}",
            *(
                "–" if row[key] is None else text.percent(row[key])
                for key in ("clipped", "drop")
            ),
        ]
        for name, row in (summary.get("macros") or {}).items()
    ]
    head = ["Layer", "Folding point", "LSB (units)", "Clipped conversions"]
    head += ["Mean drop of a line"]
    body = page.picture(
        picture(found["codes"], found["inl"], found["dnl"]),
        "Integral and differential non-linearity over all codes",
        caption(found),
    )
    if rows:
        body += page.table("One chip's layers", head, rows)
    return page.section("Macros", body)


def picture(codes: np.ndarray, inl: np.ndarray, dnl: np.ndarray) -> Figure:
    """INL and DNL of a population of columns against the code.

    Args:
        codes: [K].
        inl: integral non-linearity, LSB, [C, K].
        dnl: differential non-linearity, LSB, [C, K].

    Raises:
        UsageError: for shapes that do not fit, or numbers that are not finite.
    """
    codes = np.asarray(codes)
    fig, axes = canvas.figure(8.4, 3.4, columns=2)
    for ax, name, values in zip(axes, ("INL", "DNL"), (inl, dnl), strict=True):
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1:] != codes.shape:
            raise checks.UsageError(
                f"{name} has shape {values.shape}, but must be [C, K] of"
                f" {codes.size} codes."
            )
        checks.finite(name, values)
        for share, colour in ((0.98, "#d6e6f2"), (0.5, canvas.SKY)):
            ends = np.quantile(values, [0.5 - share / 2, 0.5 + share / 2], 0)
            ax.fill_between(
                codes, *ends, color=colour, lw=0,
                label=f"{100 * share:.0f} % of the columns",
            )  # fmt: skip
        ax.plot(codes, values[0], color=canvas.BLUE, lw=0.8, label="one column")
        ax.set_xlabel("Code")
        ax.set_ylabel(f"{name} (LSB)")
    canvas.legend(axes[0], loc="best")
    return fig


def caption(found: Arrays) -> str:
    """A population of columns in words.

    Args:
        found: fields of `sram.Linearity`, with `one_sigma_percent`.
    """

    def spread(name: str) -> str:
        values = np.asarray(found[name])
        middle, high = np.quantile(values, [0.5, 0.95])
        return f"{middle:.2f} (19 of 20 columns below {high:.2f})"

    return (
        f"Of {len(found['max_inl']):,} columns, the median of the largest INL"
        f" is {spread('max_inl')} LSB and of the largest DNL"
        f" {spread('max_dnl')} LSB; {np.mean(found['missing']):.2g} codes a"
        f" column are missing. The 1-sigma error, with the noise of one read,"
        f" is {np.median(found['one_sigma']):.2f} LSB,"
        f" {np.median(found['one_sigma_percent']):.2f} % of full scale."
    )


def _linearity(pictures: Arrays) -> dict[str, np.ndarray]:
    start = "linearity/"
    return {
        name.removeprefix(start): pictures[name]
        for name in pictures
        if name.startswith(start)
    }


def drops(rows: Mapping[str, Json]) -> dict[str, Any]:
    """The drop of the lines of each layer, as `ledger.count` takes it."""
    return {
        name: row["drop"]
        for name, row in rows.items()
        if row["drop"] is not None
    }
