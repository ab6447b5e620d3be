"""The surface of a region: marching cubes and marching squares, summed.

A mesh of triangles runs through the middles of the edges between voxels inside
and voxels outside (Lorensen and Cline, 1987), as pyradiomics 3.0.1 lays it.
What a cube of eight voxels adds to area and volume depends on which of its
corners are inside: one of 256 configurations, which are counted once. All
counts are whole numbers, so that float32 rounds but the last sum.

Where the four corners of a face are inside and outside in turn, the mesh cuts
off those that are not as the corner `_DECIDES` of the cube is. Two cubes may
decide otherwise about the face that they share: there the mesh has a hole of
half a face, and the volume below it, as sums of tetrahedra see it, depends on
where the origin is. pyradiomics has it one voxel before the region's box.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

# Corner b of a cube, (z, y, x), is bit b of a configuration.
_CORNERS_8x3 = np.array([(b >> 1 & 1, b & 1, 1 - (b >> 2)) for b in range(8)])
_DECIDES = 7
_EDGES = [
    (a, b) for a, b in itertools.combinations(range(8), 2)
    if np.abs(_CORNERS_8x3[a] - _CORNERS_8x3[b]).sum() == 1
]  # fmt: skip
# Triangles of the configurations without corner 7, one word each, three letters
# a triangle, each the middle of an edge, in the order of `_EDGES`; from outside
# they turn to the left. The others are those of the complement, turned about.
# scripts/peers/marching_cubes.py derives and prints them: of all ways to close
# loops over the faces of a cube and to cut them into triangles, the first with
# the areas and volumes that pyradiomics measures on that cube alone.
_TRIANGLES = """
- abc aed bcdced bfg afccfg aedbfg cegdfeefg dhf abcdhf aefehf bcfcehchf
bdgdhg adccdhchg aebbegehg cegehg cji abibji aedcji bjddiedji bfgcji
afifgigji aedbfgcji dfeefgegigji cjidhf abibjidhf aefcjiehf bhfbihbjiehi
bdgcjidhg adhahjajigjh aebbegcjiehg egiehggji eik abceik aiddik
bcibikbkd bfgeik afccfgeik aidbfgdik cfgcifdfkfik dhfeik abcdhfeik
aiffihhik bcfchfcihhik bdgdhgeik adccdhchgeik agbaikakggkh chgcihhik
cjeejk abebjkbke acdcjddjk bjddjk bfgcjeejk afeefgegjejk acdbfgcjddjk
dfgdgjdjk cjedhfejk abebjkbkedhf acfchfcjkckh bhfbjkbkh bdgcjedhgejk
adhagjahgajkake acjagbahgajkakh gjhhjk glj abcglj aedglj bcdcedglj
bfjflj aflajcalj aedbfjflj cdjceddfldlj dhfglj abcdhfglj aefehfglj
bcfcehchfglj bdjdhjhlj adccdhchjhlj aebbelbljehl cehchjhlj cgigli
abgaglali aedcgigli bedbgeegleli bfccfifli afifli aedbfccfifli dfeefifli
cgidhfgli abgaglalidhf aefcgiehfgli behbglbhfbiebli bdccdhchlcli
adhahlali aebbehbhlbicbli ehihli eikglj abceikglj aiddikglj bcibikbkdglj
bfjeikflj aflajcaljeik aidbfjdikflj cdfcflcikckdclj dhfeikglj
abcdhfeikglj aiffihgljhik bcfchfcihgljhik bdjdhjeikhlj adccdhchjeikhlj
ahbaihbhjhikhlj chjcihhikhlj cgeegkglk abebgeegkglk acdcglclddlk
bgkbkdglk becbflbkeblk aflakealk acdbfccflckdclk dfkflk cgedhfegkglk
abebgedhfegkglk ackakfcgkfkhglk bgkbhfbkhglk bdlblccledhlelk
adhahlakealk acbhlk hlk
"""


def _triangles() -> list[np.ndarray]:
    """Corners of the triangles of each configuration, [256][T, 3, 3].

    Coordinates (z, y, x) are doubled, so that they are whole.
    """
    corners = _CORNERS_8x3[np.array(_EDGES)].sum(1)
    half = []
    for word in _TRIANGLES.split():
        edges = [] if word == "-" else ["abcdefghijkl".index(e) for e in word]
        half.append(corners[np.array(edges, int)].reshape(-1, 3, 3))
    return half + [triangles[:, ::-1] for triangles in half[::-1]]


def _areas() -> tuple[np.ndarray, np.ndarray]:
    """Kinds of triangles that differ in area, and how many a cube has.

    Returns:
        int [K, 3], 8 times the area of a triangle's shadows along (z, y, x) in
        faces of voxels; and int [256, K].
    """
    found = [
        np.abs(np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0])).astype(int)
        for t in _TRIANGLES_256
    ]
    kinds_Kx3, each = np.unique(
        np.concatenate(found), axis=0, return_inverse=True
    )
    which = np.repeat(np.arange(256), [len(normals) for normals in found])
    counts_256xK = np.zeros((256, len(kinds_Kx3)), np.int32)
    np.add.at(counts_256xK, (which, each.ravel()), 1)
    return kinds_Kx3, counts_256xK


def _volumes() -> np.ndarray:
    """48 times the volume that each cube adds to that of the voxels, [256].

    The tetrahedra above a triangle at p + a, p + b, p + c have the volume
    det(a, b, c) / 6 + p . n / 3 with n its area. A cube is closed by the parts
    of its faces that are inside; so p . n summed over cubes is the sum of the
    inside parts of all faces, each of which two cubes tell at p and p + 1, and
    of `_holes`, where they tell it differently. An eighth of each corner is
    the voxels'.
    """
    volume_256 = np.zeros(256, np.int32)
    for configuration, triangles in enumerate(_TRIANGLES_256):
        inside = configuration >> np.arange(8) & 1
        volume = np.rint(np.linalg.det(triangles)).sum() - 6 * inside.sum()
        for axis in range(3):
            far = np.flatnonzero(_CORNERS_8x3[:, axis] == 1)
            volume += 2 * _covered(inside[far], inside[_DECIDES])
        volume_256[configuration] = volume
    return volume_256


def _covered(inside_4: np.ndarray, decides: int) -> int:
    """8 times the part of a face that is inside; its corners by rows."""
    # Alternating corners are cut off where they are not as the deciding one is.
    crossed = inside_4[0] == inside_4[3] != inside_4[1] == inside_4[2]
    two = 4 if not crossed else 6 if decides else 2
    return (0, 1, two, 7, 8)[inside_4.sum()]


def _lines() -> np.ndarray:
    """Lines of each square along x, along y and across a corner, [16, 3]."""
    lines_16x3 = np.zeros((16, 3), np.int32)
    lines_16x3[[3, 12], 0] = lines_16x3[[5, 10], 1] = 1
    lines_16x3[[1, 2, 4, 7, 8, 11, 13, 14], 2] = 1
    lines_16x3[[6, 9], 2] = 2
    return lines_16x3


_TRIANGLES_256 = _triangles()
_KINDS_Kx3, _KINDS_256xK = _areas()
_VOLUME_256 = _volumes()
# pyradiomics cuts off the pixels inside where a square alternates.
_LINES_16x3 = _lines()
_SURFACE_16 = np.array([_covered(n >> np.arange(4) & 1, 0) for n in range(16)])


def cubes(mask_ZxYxX: jax.Array) -> jax.Array:
    """How many cubes of eight voxels have each configuration.

    Args:
        mask_ZxYxX: bool; beyond its border all is outside.

    Returns:
        int32 [256]; how many have none inside means nothing.
    """
    x = mask_ZxYxX.shape[2]
    inside = jnp.pad(mask_ZxYxX, ((1, 1), (1, 1), (1, 1 + (x + 1) % 2)))
    column = _corners(inside.astype(jnp.int32))
    # Two cubes in a row share a column: half as many numbers to count.
    first, middle, last = (column[:, :, at : at + x + 1 : 2] for at in range(3))
    pair = (first << 8) + (middle << 4) + last
    pairs = jnp.zeros(16**3, jnp.int32).at[pair.ravel()].add(1)
    pairs = pairs.reshape(16, 16, 16)
    return (pairs.sum(2) + pairs.sum(0)).ravel()


def area(cubes_256: jax.Array, spacing_3: jax.Array) -> jax.Array:
    """Area of the mesh.

    Args:
        cubes_256: counts of `cubes`.
        spacing_3: mm along (z, y, x).

    Returns:
        float32 [], mm^2.
    """
    z, y, x = spacing_3
    faces_3 = jnp.stack([y * x, z * x, z * y]) / 8
    shadows_Kx3 = _KINDS_Kx3.astype(np.float32) * faces_3[None]
    areas_K = jnp.sqrt((shadows_Kx3**2).sum(1))
    found_K = (cubes_256 @ _KINDS_256xK).astype(jnp.float32)
    return jnp.sum(found_K * areas_K)


def volume(
    mask_ZxYxX: jax.Array, cubes_256: jax.Array, spacing_3: jax.Array
) -> jax.Array:
    """Volume inside the mesh.

    Args:
        mask_ZxYxX: bool.
        cubes_256: counts of `cubes`.
        spacing_3: mm along (z, y, x).

    Returns:
        float32 [], mm^3.
    """
    more = jnp.sum(cubes_256 * _VOLUME_256) + 8 * _holes(mask_ZxYxX)
    voxels = jnp.sum(mask_ZxYxX, dtype=jnp.int32).astype(jnp.float32)
    return (voxels + more / 48) * jnp.prod(spacing_3)


def squares(mask_YxX: jax.Array) -> jax.Array:
    """How many squares of four pixels have each configuration.

    Args:
        mask_YxX: bool; beyond its border all is outside.

    Returns:
        int32 [16]; pixel (y, x) of a square is bit 2 y + x.
    """
    found = _corners(jnp.pad(mask_YxX, 1).astype(jnp.int32))
    return jnp.zeros(16, jnp.int32).at[found.ravel()].add(1)


def perimeter(squares_16: jax.Array, spacing_2: jax.Array) -> jax.Array:
    """Length of the mesh of a slice.

    Args:
        squares_16: counts of `squares`.
        spacing_2: mm along (y, x).

    Returns:
        float32 [], mm.
    """
    y, x = spacing_2
    lengths_3 = jnp.stack([x, y, jnp.sqrt(y**2 + x**2) / 2])
    found_3 = (squares_16 @ _LINES_16x3).astype(jnp.float32)
    return jnp.sum(found_3 * lengths_3)


def surface(squares_16: jax.Array, spacing_2: jax.Array) -> jax.Array:
    """Area inside the mesh of a slice.

    Args:
        squares_16: counts of `squares`.
        spacing_2: mm along (y, x).

    Returns:
        float32 [], mm^2.
    """
    eighths = jnp.sum(squares_16 * _SURFACE_16).astype(jnp.float32)
    return eighths / 8 * jnp.prod(spacing_2)


def _corners(inside: jax.Array) -> jax.Array:
    """Four neighbours over the first two axes, as bits of a number."""
    near, far = inside[:-1], inside[1:]
    low = near[:, :-1] + (near[:, 1:] << 1)
    return low + (far[:, :-1] << 2) + (far[:, 1:] << 3)


def _holes(mask_ZxYxX: jax.Array) -> jax.Array:
    """Sum of the places of faces whose cubes decide differently, int32 [].

    A place is in voxels from the origin, one before the region's box; it counts
    as positive where the corner inside belongs to the cube behind the face.
    """
    padded = jnp.pad(mask_ZxYxX, ((2, 1),) * 3)

    def at(*step: int) -> jax.Array:
        """The corner at a step from the first corner of every cube."""
        return padded[
            tuple(
                slice(1 + s, 2 + s + n)
                for s, n in zip(step, mask_ZxYxX.shape, strict=True)
            )
        ]

    total = jnp.zeros((), jnp.int32)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        corners = [np.insert(c, axis, 0) for c in np.ndindex(2, 2)]
        a, b, c, d = (at(*corner) for corner in corners)
        crossed = (a == d) & (b == c) & (a != b)
        decides = _CORNERS_8x3[_DECIDES]
        before = decides - (np.arange(3) == axis)
        sign = at(*decides).astype(jnp.int32) - at(*before).astype(jnp.int32)
        sum_N = jnp.where(crossed, sign, 0).sum(others)
        first = jnp.argmax(mask_ZxYxX.any(others))
        total += jnp.sum(sum_N * (jnp.arange(len(sum_N)) - first))
    return total
