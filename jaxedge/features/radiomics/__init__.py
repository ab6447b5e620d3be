"""Radiomic features of regions of volumes, whole and voxel by voxel.

    extract       features of one region: dict of names and numbers
    extract_many  of a cohort, in one compiled program
    voxelwise     a map of one feature, over cubes around each voxel
    names         of all features, and the identifiers of the IBSI
    regions       an image and a mask as padded arrays
    bins          grey levels
    maps          what `voxelwise` computes, as a pure function

Definitions are those of pyradiomics 3.0.1 (van Griethuysen et al. 2017), or
those of the IBSI (arXiv:1612.07003); each class tells where they differ. Axes
are (z, y, x) everywhere. Reading files, resampling and filters are in
`jaxedge.data.volumes` and `volume_filters`.
"""

from jaxedge.features.radiomics import bins as bins
from jaxedge.features.radiomics import maps as maps
from jaxedge.features.radiomics import names as names
from jaxedge.features.radiomics import regions as regions
from jaxedge.features.radiomics.extraction import extract as extract
from jaxedge.features.radiomics.extraction import extract_many as extract_many
from jaxedge.features.radiomics.extraction import features as features
from jaxedge.features.radiomics.options import Options as Options
from jaxedge.features.radiomics.regions import Region as Region
from jaxedge.features.radiomics.voxel_maps import voxelwise as voxelwise
