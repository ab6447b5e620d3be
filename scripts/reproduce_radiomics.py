"""Radiomic features beside pyradiomics and the IBSI, for `scripts/reproduce`.

The features that pyradiomics 3.0.1 computes are stored with the tests, as
`scripts/peers/radiomics_reference.py` wrote them, and so are the reference
values of the IBSI for its digital phantom (arXiv:1612.07003). The volumes are
those of the folder `radiomics` of the data root.
"""

from collections.abc import Mapping, Sequence
import csv
import importlib
import json
import math
import os
from pathlib import Path
import re
from typing import Any

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.data import ROOT_VARIABLE
from jaxedge.features import radiomics
from jaxedge.features.radiomics import names
from jaxedge.run import canvas

NAME = "radiomics"
STORED = Path(__file__).resolve().parents[1] / "tests/features/radiomics"
VOLUMES = (
    "pyradiomics_brain1",
    "pyradiomics_brain2",
    "pyradiomics_breast1",
    "pyradiomics_prostate_phantom",
    "ibsi1_ct_phantom",
    "ibsi1_digital_phantom",
)
PHANTOM = "ibsi1_digital_phantom"
MOST = 1e-5  # The deviation from pyradiomics that is aimed at.
# Features of pyradiomics and the tags of the IBSI for the same, by class. Those
# that are not here are not in the IBSI.
_SAME = {
    "shape": """
        Elongation:pca_elongation Flatness:pca_flatness
        LeastAxisLength:pca_least_axis MajorAxisLength:pca_maj_axis
        MinorAxisLength:pca_min_axis Maximum3DDiameter:diam MeshVolume:volume
        Sphericity:sphericity SurfaceArea:area_mesh SurfaceVolumeRatio:av
        VoxelVolume:vol_approx
    """,
    "firstorder": """
        10Percentile:stat_p10 90Percentile:stat_p90 Energy:stat_energy
        Entropy:ih_entropy InterquartileRange:stat_iqr Kurtosis:stat_kurt
        Maximum:stat_max MeanAbsoluteDeviation:stat_mad Mean:stat_mean
        Median:stat_median Minimum:stat_min Range:stat_range
        RobustMeanAbsoluteDeviation:stat_rmad RootMeanSquared:stat_rms
        Skewness:stat_skew Uniformity:ih_uniformity Variance:stat_var
    """,
    "glcm": """
        Autocorrelation:auto_corr ClusterProminence:clust_prom
        ClusterShade:clust_shade ClusterTendency:clust_tend Contrast:contrast
        Correlation:corr DifferenceAverage:diff_avg DifferenceEntropy:diff_entr
        DifferenceVariance:diff_var Id:inv_diff Idm:inv_diff_mom
        Idmn:inv_diff_mom_norm Idn:inv_diff_norm Imc1:info_corr1
        Imc2:info_corr2 InverseVariance:inv_var JointAverage:joint_avg
        JointEnergy:energy JointEntropy:joint_entr MaximumProbability:joint_max
        SumAverage:sum_avg SumEntropy:sum_entr SumSquares:joint_var
    """,
    "glrlm": """
        GrayLevelNonUniformity:glnu GrayLevelNonUniformityNormalized:glnu_norm
        GrayLevelVariance:gl_var HighGrayLevelRunEmphasis:hgre
        LongRunEmphasis:lre LongRunHighGrayLevelEmphasis:lrhge
        LongRunLowGrayLevelEmphasis:lrlge LowGrayLevelRunEmphasis:lgre
        RunEntropy:rl_entr RunLengthNonUniformity:rlnu
        RunLengthNonUniformityNormalized:rlnu_norm RunPercentage:r_perc
        RunVariance:rl_var ShortRunEmphasis:sre
        ShortRunHighGrayLevelEmphasis:srhge ShortRunLowGrayLevelEmphasis:srlge
    """,
    "glszm": """
        GrayLevelNonUniformity:glnu GrayLevelNonUniformityNormalized:glnu_norm
        GrayLevelVariance:gl_var HighGrayLevelZoneEmphasis:hgze
        LargeAreaEmphasis:lze LargeAreaHighGrayLevelEmphasis:lzhge
        LargeAreaLowGrayLevelEmphasis:lzlge LowGrayLevelZoneEmphasis:lgze
        SizeZoneNonUniformity:zsnu SizeZoneNonUniformityNormalized:zsnu_norm
        SmallAreaEmphasis:sze SmallAreaHighGrayLevelEmphasis:szhge
        SmallAreaLowGrayLevelEmphasis:szlge ZoneEntropy:zs_entr
        ZonePercentage:z_perc ZoneVariance:zs_var
    """,
    "gldm": """
        DependenceEntropy:dc_entr DependenceNonUniformity:dcnu
        DependenceNonUniformityNormalized:dcnu_norm DependenceVariance:dc_var
        GrayLevelNonUniformity:glnu GrayLevelVariance:gl_var
        HighGrayLevelEmphasis:hgce LargeDependenceEmphasis:hde
        LargeDependenceHighGrayLevelEmphasis:hdhge
        LargeDependenceLowGrayLevelEmphasis:hdlge LowGrayLevelEmphasis:lgce
        SmallDependenceEmphasis:lde SmallDependenceHighGrayLevelEmphasis:ldhge
        SmallDependenceLowGrayLevelEmphasis:ldlge
    """,
    "ngtdm": """
        Busyness:busyness Coarseness:coarseness Complexity:complexity
        Contrast:contrast Strength:strength
    """,
}
# What stands around a tag; "" for tags that are whole.
_AROUND = {
    "shape": ("morph_", ""),
    "firstorder": ("", ""),
    "glcm": ("cm_", "_3D_avg"),
    "glrlm": ("rlm_", "_3D_avg"),
    "glszm": ("szm_", "_3D"),
    "gldm": ("ngl_", "_3D"),
    "ngtdm": ("ngt_", "_3D"),
}
# Modules whose first lines tell how pyradiomics departs from the IBSI.
_TELLING = (
    "bins", "shape", "first_order", "glcm", "glrlm", "glszm", "gldm", "ngtdm",
)  # fmt: skip


def reproduce(rest: Sequence[str]) -> dict[str, Any]:
    """Computes all features of all volumes.

    Args:
        rest: `--data_root=DIR` or nothing.

    Returns:
        "deviations": volume -> feature -> relative to pyradiomics; "phantom":
        one row a reference value of the IBSI; "apart": one row a feature that
        both define, with both values of the digital phantom; "departures":
        what is told of each class; "alone": class -> features that are not in
        the IBSI.
    """
    folder = _folder(rest)
    stored = json.loads((STORED / "pyradiomics.json").read_text())
    deviations, phantom = {}, {}
    for volume in VOLUMES:
        print(f"{NAME}: {volume}", flush=True)
        image, mask, spacing = read(folder, volume)
        case = stored[volume]
        width = case["settings"]["binWidth"]
        found = radiomics.extract(image, mask, spacing=spacing, bin_width=width)
        # What was compiled for a large volume is not needed again.
        jax.clear_caches()
        wanted = case["features"]
        deviations[volume] = {
            name: float(f"{_apart(found[name], wanted[name]):.3g}")
            for name in wanted
        }
        if volume == PHANTOM:
            tags = radiomics.extract(
                image, mask, spacing=spacing, bin_width=1, definitions="ibsi"
            )
            phantom = {"rows": held(tags), "apart": compared(found, tags)}
    return {
        "deviations": deviations,
        "phantom": phantom["rows"],
        "apart": phantom["apart"],
        "departures": departures(),
        "alone": {
            kind: [n for n in names.PYRADIOMICS[kind] if n not in same(kind)]
            for kind in _SAME
        },
    }


def read(
    folder: Path, volume: str
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Image and region [Z, Y, X], and mm along (z, y, x)."""
    with np.load(folder / f"{volume}.npz") as stored:
        spacing = stored["spacing_xyz"][::-1].astype(float)
        return stored["image"], stored["mask"] == 1, tuple(spacing.tolist())


def _folder(rest: Sequence[str]) -> Path:
    root = os.environ.get(ROOT_VARIABLE, "")
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag != "--data_root":
            raise checks.UsageError(
                f"{argument!r} is no flag of {NAME}; use --data_root=DIR."
            )
        root = value
    folder = Path(root, NAME)
    if not root or not folder.is_dir():
        raise checks.UsageError(
            f"the folder {NAME} of the data root is missing; give"
            f" --data_root=DIR or set {ROOT_VARIABLE}."
        )
    return folder


def _apart(found: float, wanted: float) -> float:
    """Relative difference; absolute where 0 is wanted."""
    return abs(found - wanted) / (abs(wanted) or 1)


def held(tags: Mapping[str, float]) -> list[dict[str, Any]]:
    """Reference values of the digital phantom, and whether ours hold.

    A tolerance of 0 means equal to the digits that are published, three.
    """
    rows = []
    kinds = {tag: kind for kind, known in names.IBSI.items() for tag in known}
    with (STORED / "ibsi_digital_phantom.csv").open() as file:
        for row in csv.DictReader(file):
            wanted, found = float(row["value"]), tags[row["tag"]]
            digits = f"{found:.3g}"
            most = float(row["tolerance"])
            if most:
                good = abs(found - wanted) <= most
            else:
                good = math.isclose(float(digits), wanted, rel_tol=1e-9)
            rows.append(
                {
                    "class": kinds[row["tag"]],
                    "tag": row["tag"],
                    "id": row["id"],
                    "reference": wanted,
                    "tolerance": most,
                    "ours": float(f"{found:.7g}"),
                    "holds": good,
                }
            )
    return rows


def same(kind: str) -> dict[str, str]:
    """pyradiomics' feature -> the whole tag of the IBSI."""
    before, after = _AROUND[kind]
    pairs = (entry.split(":") for entry in _SAME[kind].split())
    return {name: f"{before}{tag}{after}" for name, tag in pairs}


def compared(
    found: Mapping[str, float], tags: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Every feature that both define, by both definitions."""
    rows = []
    for kind in _SAME:
        for name, tag in same(kind).items():
            ours = found[f"original_{kind}_{name}"]
            rows.append(
                {
                    "class": kind,
                    "feature": name,
                    "tag": tag,
                    "id": names.ibsi_id(tag),
                    "pyradiomics": float(f"{ours:.7g}"),
                    "ibsi": float(f"{tags[tag]:.7g}"),
                    "equal": math.isclose(ours, tags[tag], rel_tol=1e-5),
                }
            )
    return rows


def departures() -> dict[str, list[str]]:
    """What each class tells of pyradiomics and the IBSI, from its module."""
    told = {}
    for name in _TELLING:
        module = importlib.import_module(f"jaxedge.features.radiomics.{name}")
        text = module.__doc__ or ""
        points = re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)
        if not points:  # Told in sentences.
            sentences = re.split(r"\.\s+(?=[A-Za-z])", text)
            own = [t for t in sentences if re.search("pyradiomics|IBSI", t)]
            points = [". ".join(own)]
        clean = (" ".join(point.split()).rstrip(";.") for point in points)
        told[name] = list(clean)
    return told


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    lines = [
        "All features of pyradiomics 3.0.1 with its default settings, ours in"
        " float32 against its own in float64 (stored with the tests). A"
        " deviation is relative, and absolute where its value is 0.",
        "",
        *_deviations(content["deviations"]),
        "",
        f"![deviations]({NAME}.svg)",
        "",
        "## The digital phantom of the IBSI",
        "",
        "Reference values of arXiv:1612.07003 with the tolerances published"
        " with them; where that is 0, three digits must agree. Every value is"
        f" in `{NAME}.json`.",
        "",
        *_held(content["phantom"]),
        "",
        "## Where pyradiomics departs from the IBSI",
        "",
        *_apart_rows(content),
    ]
    return lines


def _deviations(deviations: Mapping[str, Mapping[str, float]]) -> list[str]:
    head = "".join(f" {v.removeprefix('pyradiomics_')} |" for v in deviations)
    lines = [
        f"| class | features |{head}",
        f"|---|--:|{'---|' * len(deviations)}",
    ]
    every = [d for found in deviations.values() for d in found.values()]
    for kind in _SAME:
        cells = []
        for found in deviations.values():
            prefix = f"original_{kind}_"
            of_kind = {
                k.removeprefix(prefix): d
                for k, d in found.items()
                if k.startswith(prefix)
            }
            worst = max(of_kind, key=lambda k: of_kind[k])
            cells.append(f" {of_kind[worst]:.1e} {worst} |")
        lines.append(f"| {kind} | {len(of_kind)} |{''.join(cells)}")
    good = sum(d <= MOST for d in every)
    lines += [
        "",
        f"Each cell has the largest deviation and its feature. {good} of"
        f" {len(every)} values are within {MOST:g}, the largest deviation is"
        f" {max(every):.1e}, the median {np.median(every):.1e}.",
    ]
    return lines


def _held(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| class | values | hold | do not |", "|---|--:|--:|---|"]
    for kind in dict.fromkeys(row["class"] for row in rows):
        of_kind = [row for row in rows if row["class"] == kind]
        bad = [r for r in of_kind if not r["holds"]]
        told = ", ".join(
            f"{r['tag']} ({r['ours']:g}, reference {r['reference']:g})"
            for r in bad
        )
        good = len(of_kind) - len(bad)
        lines.append(f"| {kind} | {len(of_kind)} | {good} | {told or '-'} |")
    good = sum(row["holds"] for row in rows)
    return [*lines, f"| all | {len(rows)} | {good} | |"]


def _apart_rows(content: Mapping[str, Any]) -> list[str]:
    alone = content["alone"]
    n_alone = sum(map(len, alone.values()))
    listed = "; ".join(
        f"{kind} {', '.join(found)}" for kind, found in alone.items() if found
    )
    both = content["apart"]
    apart = [row for row in both if not row["equal"]]
    lines = [
        f"Of its features {n_alone} are not in the IBSI ({listed}). Of the"
        f" other {len(both)}, {len(both) - len(apart)} are equal on the digital"
        " phantom by either definition, but for the level at which bins begin."
        " These are not:",
        "",
        "| class | feature | IBSI | by pyradiomics | by the IBSI |",
        "|---|---|---|--:|--:|",
    ]
    for row in apart:
        lines.append(
            f"| {row['class']} | {row['feature']} | {row['tag']} ({row['id']})"
            f" | {row['pyradiomics']:.6g} | {row['ibsi']:.6g} |"
        )
    lines += ["", "What the modules tell of it:", ""]
    lines += ["| module | departure |", "|---|---|"]
    for name, points in content["departures"].items():
        for point in points or ["none"]:
            lines.append(f"| {name} | {point} |")
    return lines


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Deviations by class, a dot a feature and volume."""
    fig, (ax,) = canvas.figure(7, 3.6)
    rng = np.random.default_rng(0)
    kinds = list(_SAME)
    for at, kind in enumerate(kinds):
        values = [
            d
            for found in content["deviations"].values()
            for k, d in found.items()
            if k.startswith(f"original_{kind}_")
        ]
        shown = np.maximum(values, 1e-9)
        side = at + rng.uniform(-0.3, 0.3, len(shown))
        ax.plot(side, shown, ".", color=canvas.PALETTE[at], ms=4, alpha=0.7)
    ax.axhline(MOST, color=canvas.INK, lw=1, ls=":")
    ax.set_yscale("log")
    ax.set_xticks(range(len(kinds)), kinds)
    ax.set_ylabel("relative deviation (1e-9: less)")
    ax.set_title(
        f"Features of {len(content['deviations'])} volumes against pyradiomics",
        fontsize=10, color=canvas.INK,
    )  # fmt: skip
    canvas.save(fig, path)


__all__ = ["NAME", "draw", "page", "reproduce"]
