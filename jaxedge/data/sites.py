"""Data of many sites: which row is whose, splits by site, and sites made anew.

A set of many sites is a `Source` whose `aux["site"]`, [N] int32, is the place
of a row's site among the set's names, see `data.sites_of`.

Letters: N examples, C sites, K classes or channels, H height, W width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
import zlib

import jax
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks, keys
from jaxedge.data.source import Source

# One example in so many of a stratum is for testing, and for validation.
TEST, VALID = 5, 10
# What `draw_looks` draws of at strength 1: our choice, visible to the eye.
BLUR, GAIN, COLOUR, GAMMA, NOISE = 1.0, 0.3, 0.2, 0.4, 0.05


def tagged(source: Source, site_N: Any, names: Sequence[str]) -> Source:
    """The source with the site of each row in `aux["site"]`.

    Args:
        source: any; what else is known of its rows stays.
        site_N: [N], whole numbers in [0, C).
        names: of the C sites.

    Raises:
        UsageError: naming the first row of an unknown site.
    """
    site_N, where = np.asarray(site_N), f"{source.name}/{source.split}"
    if site_N.shape != (len(source.y),) or site_N.dtype.kind not in "iu":
        raise checks.UsageError(
            f"the sites of {where} have shape {site_N.shape}, {site_N.dtype},"
            f" but must be {len(source.y)} whole numbers, one an example."
        )
    bad = np.flatnonzero((site_N < 0) | (site_N >= len(names)))
    if bad.size:
        raise checks.UsageError(
            f"the sites of {where} hold {site_N[bad[0]]} at index {bad[0]}, but"
            f" there are {len(names)}: {', '.join(names)}."
        )
    known = {**(source.aux or {}), "site": site_N.astype(np.int32)}
    return source._replace(aux=known)


def by_site(
    source: Source, names: Sequence[str] | None = None
) -> list[np.ndarray]:
    """The rows of each site, C arrays of ascending indices.

    Args:
        source: with `aux["site"]`.
        names: of the C sites; None names them by number, up to the largest.

    Raises:
        UsageError: for a source without sites, or a site without examples.
    """
    site_N = _sites(source)
    if names is None:
        names = [f"site {i}" for i in range(int(site_N.max()) + 1)]
    found = [np.flatnonzero(site_N == i) for i in range(len(names))]
    empty = [
        name for name, rows in zip(names, found, strict=True) if not len(rows)
    ]
    if empty:
        raise checks.UsageError(
            f"{source.name}/{source.split} has no example of {empty[0]!r};"
            " leave that site out, or give it data."
        )
    return found


def _sites(source: Source) -> np.ndarray:
    """The site of every row, [N]."""
    if not source.aux or "site" not in source.aux:
        raise checks.UsageError(
            f"{source.name}/{source.split} knows no sites; load a set that has"
            " them (data.SITES), or make them by data.sites.partition."
        )
    return np.asarray(source.aux["site"])


def split_rows(
    split: str,
    name: str,
    strata: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    tested: bool = True,
) -> np.ndarray:
    """The rows of a split, in which every stratum has the same share.

    Of the n examples of a stratum, n // 5 are "test", n // 10 are "valid" and
    the others "train", so what is rarer than that is in "train" alone. They are
    drawn once, the same for everyone, and no stratum depends on another.

    Args:
        split: "train", "valid" or "test".
        name: of the data set, from which the draw comes.
        strata: of every row, such as its site and class, [N].
        groups: of every row, such as its patient, [N]: groups are split instead
            of rows, by the stratum of their first row. None splits rows.
        tested: False for a set whose test rows are known and not among these.

    Returns:
        Indices, ascending.

    Raises:
        UsageError: if no stratum has enough examples for the split.
    """
    names = np.asarray(strata)
    if groups is not None:
        _, first, group_N = np.unique(
            np.asarray(groups), return_index=True, return_inverse=True
        )
        firsts = names[first].tolist()
        kept = split_rows(split, name, firsts, tested=tested)
        return np.flatnonzero(np.isin(group_N, kept))
    chosen, most = [], 0
    for stratum in np.unique(names):
        rows = np.flatnonzero(names == stratum)
        # An integer seed goes to RandomState, whose stream is frozen.
        seed = zlib.crc32(f"{name}/{stratum}".encode())
        order = np.random.RandomState(seed).permutation(len(rows))
        test = len(rows) // TEST if tested else 0
        valid = test + len(rows) // VALID
        part = {
            "test": slice(test),
            "valid": slice(test, valid),
            "train": slice(valid, None),
        }[split]
        chosen.append(rows[order[part]])
        most = max(most, len(rows))
    found = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, int)
    if not len(found):
        raise checks.UsageError(
            f"{name} has nothing for {split!r}: its largest stratum has {most}"
            f" examples, of which one in {TEST if split == 'test' else VALID}"
            " would be; is a part of its files missing?"
        )
    return found


def partition(
    source: Source, clients: int, *, alpha: ArrayLike, key: jax.Array
) -> Source:
    """Sites of skewed labels: each class goes to clients in its own shares.

    The shares of a class are drawn from Dirichlet(alpha, ..., alpha) over the
    clients: one owner a class for a small alpha, all alike for a large one.
    (Per class over clients, as in Yurochkin et al. 2019, ICML.)

    Args:
        source: with one label an example.
        clients: C, in [1, N].
        alpha: concentration, above 0; infinity gives all the same shares.
        key: a typed key; its streams "shares" and "order" are used.

    Returns:
        The source with `aux["site"]`, rows in their order.

    Raises:
        UsageError: for labels by position, or a client that was left empty.
    """
    if source.y.ndim != 1:
        raise checks.UsageError(
            f"the labels of {source.name} have shape {source.y.shape}, but a"
            " skew of labels needs one an example; use quantity_skew."
        )
    return _parted(source, clients, source.y, len(source.classes), alpha, key)


def quantity_skew(
    source: Source, clients: int, *, alpha: ArrayLike, key: jax.Array
) -> Source:
    """Sites of unequal size: rows go to clients in shares of a Dirichlet.

    Args:
        source: any.
        clients: C, in [1, N].
        alpha: as in `partition`, of the shares of all rows.
        key: likewise.

    Returns:
        The source with `aux["site"]`, rows in their order.

    Raises:
        UsageError: for a client that was left empty.
    """
    alike_N = np.zeros(len(source.y), np.int32)
    return _parted(source, clients, alike_N, 1, alpha, key)


def _parted(
    source: Source,
    clients: int,
    kind_N: np.ndarray,
    kinds: int,
    alpha: ArrayLike,
    key: jax.Array,
) -> Source:
    checks.whole("clients", clients, 1)
    checks.in_range("clients", clients, 1, len(kind_N))
    keys.check_key(key)
    shares_KxC = _shares(keys.stream(key, "shares"), kinds, clients, alpha)
    drawn_N = _uniform(keys.stream(key, "order"), (len(kind_N),))
    order_N = np.argsort(drawn_N, kind="stable")
    site_N = np.zeros(len(kind_N), np.int32)
    for kind, share_C in enumerate(shares_KxC):
        rows = order_N[kind_N[order_N] == kind]
        cuts = np.rint(np.cumsum(share_C)[:-1] * len(rows)).astype(int)
        for client, part in enumerate(np.split(rows, cuts)):
            site_N[part] = client
    names = [f"client {i}" for i in range(clients)]
    empty = np.flatnonzero(np.bincount(site_N, minlength=clients) == 0)
    if empty.size:
        raise checks.UsageError(
            f"{names[empty[0]]} of {clients} has no example of {source.name} at"
            f" alpha {alpha}; raise alpha, take fewer clients or another key."
        )
    return tagged(source, site_N, names)


def _shares(
    key: jax.Array, kinds: int, clients: int, alpha: ArrayLike
) -> np.ndarray:
    """Shares [K, C] that sum to 1 over clients, float64."""
    from scipy import special  # Slow to load, and seldom needed.

    if np.ndim(alpha):
        raise checks.UsageError(f"alpha must be one number, got {alpha!r}.")
    if alpha == np.inf:
        return np.full((kinds, clients), 1 / clients)
    checks.in_range("alpha", alpha, 0, open_low=True)
    alpha = float(np.asarray(alpha))
    u, v = _uniform(key, (2, kinds, clients))
    # Gamma variates of alpha + 1 times v^(1 / alpha) are those of alpha, whose
    # logarithms a small alpha does not make 0 (Marsaglia and Tsang 2000).
    logs = np.log(special.gammaincinv(alpha + 1, u)) + np.log(v) / alpha
    return special.softmax(logs, axis=1)


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers in (0, 1), float64; consumes `key`."""
    return (np.asarray(jax.random.bits(key, shape)) + 0.5) / 2**32


class Look(NamedTuple):
    """How the cameras of C sites show what is before them.

    A scene x, [H, W, K] in [0, 1], becomes

        z = clip(gain * colour @ blurred x, 0, 1) ** gamma,
        y = clip(z + noise * n, 0, 1), n normal and independent.

    Attributes:
        blur: standard deviation of a Gaussian in pixels, [C], at least 0; cut
            off at four of them, and the edge of an image goes on outside.
        gain: [C], at least 0.
        colour: [C, K, K], row by channel that comes out.
        gamma: [C], above 0.
        noise: standard deviation, [C], at least 0.
    """

    blur: ArrayLike
    gain: ArrayLike
    colour: ArrayLike
    gamma: ArrayLike
    noise: ArrayLike


def draw_looks(
    key: jax.Array, sites: int, channels: int, strength: float = 1.0
) -> Look:
    """Looks of C sites that differ more the larger `strength` is.

    Blur is uniform up to 1 pixel and noise up to 0.05; the logarithms of gain
    and gamma lie within 0.3 and 0.4 of 0, entries of the colour matrix within
    0.2 of the identity's; all these widths are times `strength`.

    Args:
        key: a typed key; consumed.
        sites: C.
        channels: K.
        strength: at least 0; at 0 nothing changes an image.
    """
    keys.check_key(key)
    checks.whole("sites", sites, 1)
    checks.whole("channels", channels, 1)
    checks.in_range("strength", strength, 0)

    u_CxE = _uniform(key, (sites, 4 + channels**2))
    wide = strength * (2 * u_CxE - 1)  # of both signs
    colour = wide[:, 4:].reshape(sites, channels, channels)
    return Look(
        blur=BLUR * strength * u_CxE[:, 0],
        gain=np.exp(GAIN * wide[:, 1]),
        colour=np.eye(channels) + COLOUR * colour,
        gamma=np.exp(GAMMA * wide[:, 2]),
        noise=NOISE * strength * u_CxE[:, 3],
    )


def restyle(source: Source, looks: Look, key: jax.Array) -> Source:
    """The images as their sites' cameras would show them.

    Args:
        source: with `aux["site"]` and images [N, H, W, K] in [0, 1].
        looks: of its sites.
        key: a typed key, for the noise; row i draws from its i-th fold, so
            no image depends on the others.

    Returns:
        The source with images in [0, 1], float32.

    Raises:
        UsageError: for a source without sites, other inputs than such images,
            looks of fewer sites, or looks out of their range.
    """
    keys.check_key(key)
    x = np.asarray(source.x[:])
    if x.ndim != 4 or x.min() < 0 or x.max() > 1:
        raise checks.UsageError(
            f"the inputs of {source.name} have shape {x.shape} and lie in"
            f" [{x.min()}, {x.max()}], but a look is for images [N, H, W, K] in"
            " [0, 1]."
        )
    site_N = _sites(source)
    looks = _checked(looks, int(site_N.max()) + 1, x.shape[-1])
    new = np.empty_like(x)
    for site in np.unique(site_N):
        rows = np.flatnonzero(site_N == site)
        one = Look(*(np.asarray(array)[site] for array in looks))
        new[rows] = _shown(x[rows], one)
        if one.noise:
            new[rows] += one.noise * _normal(key, rows, x.shape[1:])
    return source._replace(x=np.clip(new, 0, 1))


def _checked(looks: Look, sites: int, channels: int) -> Look:
    arrays = [np.asarray(a, np.float32) for a in looks]
    for name, array in zip(Look._fields, arrays, strict=True):
        tail = (channels, channels) if name == "colour" else ()
        if array.shape[1:] != tail or array.ndim != 1 + len(tail):
            raise checks.UsageError(
                f"the look's {name} has shape {array.shape}, but must be"
                f" {('C', *tail)} for images of {channels} channels."
            )
        if len(array) < sites:
            raise checks.UsageError(
                f"the look's {name} is of {len(array)} sites, but the source"
                f" has {sites}."
            )
        low = -np.inf if name == "colour" else 0
        checks.in_range(
            f"the look's {name}", array, low, open_low=name == "gamma"
        )
    return Look(*arrays)


def _shown(x_NxHxWxK: np.ndarray, look: Look) -> np.ndarray:
    """What one camera shows, without noise."""
    from scipy import ndimage  # Likewise.

    if look.blur:
        for axis in (1, 2):
            x_NxHxWxK = ndimage.gaussian_filter1d(
                x_NxHxWxK, look.blur, axis, mode="nearest"
            )
    mixed = look.gain * (x_NxHxWxK @ np.transpose(look.colour))
    return np.clip(mixed, 0, 1) ** look.gamma


def _normal(
    key: jax.Array, rows: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Normal numbers, [len(rows), *shape] float32, a fold of the key a row."""
    from scipy import special  # Likewise.

    found = np.empty((len(rows), *shape), np.float32)
    for place, row in enumerate(rows):
        drawn = _uniform(jax.random.fold_in(key, row), shape)
        found[place] = special.ndtri(drawn)
    return found
