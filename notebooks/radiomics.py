# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Radiomics, voxel by voxel and two hundred regions at a time
#
# The features of pyradiomics 3.0.1 and of the IBSI, as functions of arrays. We
# measure a region, look at local maps of it, and ask which features would come
# out alike if the same patients were scanned and outlined again. All of it runs
# on a CPU in a minute.

# %%
try:
    import jaxedge
except ImportError:
    import subprocess
    import sys

    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxedge"], check=True
    )
    import jaxedge

import os
from pathlib import Path
import time

from matplotlib.figure import Figure
import numpy as np
from scipy import ndimage

from jaxedge import data
from jaxedge.data import phantom_volumes, volumes
from jaxedge.features import radiomics

print(jaxedge.__version__)

# %% [markdown]
# ## A volume and a region
#
# An MR volume of a brain with a tumour, which pyradiomics ships, where the data
# root (the variable `JAXEDGE_DATA`) has it; else a phantom. `read_pair` reads
# NRRD, NIfTI and DICOM as well. Axes are (z, y, x), and so is the spacing.

# %%
path = Path(os.environ.get(data.ROOT_VARIABLE, ""), "radiomics")
path /= "pyradiomics_brain1.npz"
if path.is_file():
    read, region = volumes.read_pair(path, path)
    image, mask = read.array_ZxYxX, region.array_ZxYxX
    spacing, width = read.spacing, 25.0
else:
    phantom = phantom_volumes.draw(0)
    image, mask = phantom.image_ZxYxX, phantom.mask_ZxYxX
    spacing, width = (1.0, 1.0, 1.0), 25.0
print(f"{image.shape} voxels of {spacing} mm, {mask.sum():,} in the region")

# %% [markdown]
# ## Features of the region
#
# The names are pyradiomics'. `docs/results/radiomics.md` compares every number
# with its own.

# %%
found = radiomics.extract(image, mask, spacing=spacing, bin_width=width)
some = (
    "shape_Maximum3DDiameter",
    "firstorder_Maximum",
    "glcm_Idn",
    "glszm_ZoneEntropy",
)
print(f"{len(found)} features, such as")
for name in some:
    print(f"  {name}: {found[f'original_{name}']:.6g}")

# %% [markdown]
# ## Local maps
#
# Each voxel by the texture of the cube around it. Sums over all cubes are taken
# at once, so that a wide cube costs little more than a small one.

# %%
radii, maps = (1, 2, 5, 10), {}
for radius in radii:
    for _ in range(2):  # The first call compiles.
        start = time.perf_counter()
        maps[radius] = radiomics.voxelwise(
            image, mask, "glcm_Idn", radius=radius, bin_width=width
        )
        seconds = time.perf_counter() - start
    rate = mask.sum() / seconds
    print(f"radius {radius}: {1e3 * seconds:.0f} ms, {rate:,.0f} voxels/s")

# %%
area = mask.sum((1, 2))
slices = np.flatnonzero(area > area.max() / 3)
slices = slices[np.linspace(0, len(slices) - 1, 3).astype(int)]
_, y, x = (np.flatnonzero(mask.any(axis)) for axis in ((1, 2), (0, 2), (0, 1)))
window = (slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1))
figure = Figure(figsize=(9, 5.4), layout="constrained")
grid = figure.subplots(len(slices), 1 + len(radii))
for row, z in zip(grid, slices, strict=True):
    row[0].imshow(image[z][window], cmap="gray")
    row[0].set_ylabel(f"slice {z}")
    inside = mask[z][window]
    for axes, radius in zip(row[1:], radii, strict=True):
        shown = np.where(inside, maps[radius][z][window], np.nan)
        drawn = axes.imshow(shown, vmin=np.nanmin(maps[1][mask]), vmax=1)
for axes in grid.ravel():
    axes.set(xticks=[], yticks=[])
for axes, title in zip(
    grid[0], ("image", *(f"Idn, radius {r}" for r in radii)), strict=True
):
    axes.set_title(title)
figure.colorbar(drawn, ax=grid, shrink=0.6)
figure  # noqa: B018

# %% [markdown]
# ## Which features would come out alike?
#
# Twenty phantoms, each ten times: with noise of its own, and an outline that
# another reader might have drawn. `extract_many` maps one compiled program over
# all two hundred. The intraclass correlation is the share of a feature's
# variance that is between cases, not between repeats: 1 is a feature that
# repeats, 0 is one that does not.

# %%
cases, repeats = 20, 10
rng = np.random.default_rng(0)


def again(phantom):
    """The same case, measured and outlined once more."""
    noise = rng.normal(scale=15, size=phantom.image_ZxYxX.shape)
    field = ndimage.gaussian_filter(rng.normal(size=noise.shape), 2)
    soft = ndimage.gaussian_filter(phantom.mask_ZxYxX.astype(float), 1)
    outline = soft + 0.12 * field / field.std() > 0.5
    near = ndimage.binary_dilation(phantom.mask_ZxYxX, iterations=2)
    return phantom.image_ZxYxX + noise, outline & near


versions = [
    again(phantom_volumes.draw(case))
    for case in range(cases)
    for _ in range(repeats)
]
kinds = ("shape", "firstorder", "glcm", "ngtdm")
for _ in range(2):  # The first call compiles.
    start = time.perf_counter()
    table = radiomics.extract_many(
        *zip(*versions, strict=True), bin_width=width, classes=kinds
    )
    seconds = time.perf_counter() - start
print(
    f"{len(table)} features of {len(versions)} regions in {seconds:.2f} s,"
    f" {1e3 * seconds / len(versions):.1f} ms each"
)


# %%
def correlation(values_CxR):
    """ICC(1, 1) of C cases and R repeats, from their mean squares."""
    cases, repeats = values_CxR.shape
    means = values_CxR.mean(1)
    between = repeats * means.var(ddof=1)
    within = ((values_CxR - means[:, None]) ** 2).sum() / (
        cases * (repeats - 1)
    )
    return (between - within) / (between + (repeats - 1) * within)


icc = {
    name.removeprefix("original_"): correlation(
        np.asarray(values, np.float64).reshape(cases, repeats)
    )
    for name, values in table.items()
}
order = sorted(icc, key=lambda name: icc[name])
colours = {kind: f"C{i}" for i, kind in enumerate(kinds)}
figure = Figure(figsize=(11, 4.4), layout="constrained")
axes = figure.subplots()
axes.bar(
    range(len(order)),
    [icc[name] for name in order],
    color=[colours[name.split("_")[0]] for name in order],
)
for kind, colour in colours.items():
    axes.bar(0, 0, color=colour, label=kind)
axes.set_xticks(
    range(len(order)), [n.split("_")[1] for n in order], rotation=90, size=6
)
axes.set(ylabel="ICC(1, 1)", xlim=(-1, len(order)))
axes.legend(frameon=False)
for name in (*order[:3], *order[-3:]):
    print(f"{name}: {icc[name]:.3f}")
figure  # noqa: B018

# %% [markdown]
# ## By the definitions of the IBSI
#
# The IBSI starts its bins at the smallest intensity, where pyradiomics takes a
# multiple of their width; its kurtosis is 0 for a normal distribution. Its
# features have the tags of its reference sheet, and permanent identifiers.

# %%
ibsi = radiomics.extract(
    image,
    mask,
    spacing=spacing,
    bin_width=width,
    classes=("firstorder", "glcm"),
    definitions="ibsi",
)
pairs = {
    "firstorder_Kurtosis": "stat_kurt",
    "firstorder_Entropy": "ih_entropy",
    "glcm_Idn": "cm_inv_diff_norm_3D_avg",
    "glcm_Contrast": "cm_contrast_3D_avg",
}
for name, tag in pairs.items():
    ours = found[f"original_{name}"]
    ident = radiomics.names.ibsi_id(tag)
    print(f"{name} {ours:.5f}; {tag} ({ident}) {ibsi[tag]:.5f}")
merged = ibsi["cm_contrast_3D_comb"]
print(f"of {len(ibsi)} tags; contrast of merged directions: {merged:.5f}")
