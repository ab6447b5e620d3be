"""The highest scores, but for samples next to one that was just taken.

Letters: N samples of the pool, D features, B samples that are looked at, A of
them whose neighbours count, S selected.
"""

from typing import NamedTuple

from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.learn.active import inputs
from jaxedge.learn.coreset.inputs import no_nan, same

FILLS = ("best", "released")
# Samples that are looked at together, and pool members that they are compared
# with at a time: their products fill a cache, and comparing may end early.
_LEAST, _MOST, _MEMBERS = 32, 128, 1024
_ENTRIES = 2**24  # of the cosines of one block
# Cosines nearer than so many units of rounding are equal, as those to two
# copies of one sample are.
_ROUNDING = 8


class _Pool(NamedTuple):
    """Features and what brings each row to length 1; 0 for a row of zeros.

    Attributes:
        rows: [N, D].
        scale: [N].
    """

    rows: np.ndarray
    scale: np.ndarray

    def unit(self, index: np.ndarray) -> np.ndarray:
        """Rows of length 1 [B, D]."""
        return self.rows[index] * self.scale[index, None]


class _Rule(NamedTuple):
    """Which neighbours count.

    Attributes:
        neighbours: how many at most, n.
        threshold: their cosine is above it, rounding aside.
        equal: cosines that differ by less are equal.
        slack: no rounding of a cosine is larger.
    """

    neighbours: int
    threshold: float
    equal: float
    slack: float


def relax(
    scores: ArrayLike,
    features: ArrayLike,
    budget: int,
    *,
    neighbours: int = 5,
    threshold: float = 0.85,
    fill: str = "best",
) -> np.ndarray:
    """FEAL's diversity relaxation (arXiv:2312.02567; feal 4.4).

    Samples are visited by falling score, of equal ones the first. One is
    skipped where it has n neighbours and one of them was taken before it. Its
    neighbours are the n members of the pool, itself aside, that are most
    similar to it, of equally similar ones the first, if their cosine is above
    the threshold. If the visit ends short of the budget, skipped samples fill
    it. The defaults are the paper's.

    Runs on the host. Only samples next to one that was taken are compared with
    the pool. Cosines that differ by rounding count as equal.

    Args:
        scores: real numbers [N].
        features: of the local model [N, D]; one of zeros only is similar to
            none.
        budget: samples to take, at most N.
        neighbours: n, at least 1.
        threshold: in [-1, 1].
        fill: one of `FILLS`: "best" takes the highest scores of what was
            skipped; "released" the highest indices, as the released code does.

    Returns:
        Indices [budget] in the order of the visit, then those of the fill.

    Raises:
        UsageError: for a budget outside [0, N], an empty pool, NaN scores,
            features that are not finite, shapes that do not agree, or numbers
            outside the ranges above.
    """
    inputs.known("relax", scores=scores, features=features)
    rows = inputs.host("features", features, "ND")
    ranks = inputs.host("scores", scores, "N")
    no_nan("scores", ranks)
    same("samples", scores=ranks.size, features=len(rows))
    inputs.affordable(budget, ranks.size)
    check_settings(neighbours, threshold, fill)
    eps = float(np.finfo(rows.dtype).eps)
    rule = _Rule(neighbours, float(threshold), _ROUNDING * eps, eps**0.5)
    order = np.argsort(-ranks, kind="stable")
    chosen, skipped = _visit(_pool(rows), order, budget, rule)
    rest = skipped if fill == "best" else np.sort(skipped)[::-1]
    return np.concatenate([chosen, rest[: budget - len(chosen)]])


def check_settings(neighbours: int, threshold: float, fill: str) -> None:
    """Raises UsageError for settings that `relax` does not take."""
    checks.whole("neighbours", neighbours, 1)
    checks.in_range("threshold", threshold, -1, 1)
    checks.choice("fill", fill, FILLS)


def _pool(rows: np.ndarray) -> _Pool:
    square = np.einsum("nd,nd->n", rows, rows)
    limit = np.finfo(rows.dtype)
    far = (square < limit.tiny / limit.eps) | ~(square < limit.max)
    if far.any():
        checks.finite("features", rows)
        # Their squares leave the range of the format, though they do not.
        most = np.abs(rows).max(axis=1, initial=0)
        rows = rows / np.where(far & (most > 0), most, 1)[:, None]
        square = np.einsum("nd,nd->n", rows, rows)
    safe = np.where(square > 0, square, 1)
    return _Pool(rows, np.where(square > 0, 1 / np.sqrt(safe), 0))


def _visit(
    pool: _Pool, order: np.ndarray, budget: int, rule: _Rule
) -> tuple[np.ndarray, np.ndarray]:
    """Samples taken and samples skipped, both in the order of the visit."""
    units = np.empty((budget, pool.rows.shape[1]), pool.rows.dtype)
    chosen, skipped = np.empty(budget, np.int64), []
    count, start = 0, 0
    room = max(_ENTRIES // len(pool.rows), 1)
    while count < budget and start < len(order):
        # At least as many as are missing will be looked at.
        size = min(max(budget - count, _LEAST), _MOST, room)
        block = order[start : start + size]
        start += size
        unit = pool.unit(block)
        nearest = _nearest_before(unit, units[:count])
        cosines = _uncertain(pool, unit, block, nearest, rule)
        for place, sample in enumerate(block):
            row = cosines.get(place)
            if row is not None and _redundant(row, chosen[:count], rule):
                skipped.append(sample)
                continue
            chosen[count], units[count] = sample, unit[place]
            count += 1
            if count == budget:
                break
    return chosen[:count], np.asarray(skipped, np.int64)


def _nearest_before(unit: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The highest cosine to what was or may have been taken before [B]."""
    among = unit @ unit.T
    among[np.triu_indices_from(among)] = -np.inf
    before = (unit @ units.T).max(axis=1, initial=-np.inf)
    return np.maximum(among.max(axis=1), before)


def _uncertain(
    pool: _Pool,
    unit: np.ndarray,
    block: np.ndarray,
    nearest: np.ndarray,
    rule: _Rule,
) -> dict[int, np.ndarray]:
    """Cosines with the pool of samples that may have to be skipped.

    A sample is not skipped where none that was taken is above the threshold,
    or where n members of the pool are nearer than all of them, which is known
    as soon as n were met.

    Args:
        pool: of N samples.
        unit: rows of the samples that are looked at [B, D].
        block: their indices [B].
        nearest: as of `_nearest_before` [B].
        rule: which neighbours count.

    Returns:
        From places in the block to [N], -inf for the sample itself.
    """
    places = np.flatnonzero(nearest > rule.threshold - rule.slack)
    cosines = np.empty((len(places), len(pool.rows)), unit.dtype)
    nearer, left = np.zeros(len(places), int), np.arange(len(places))
    for start in range(0, len(pool.rows), _MEMBERS):
        part = slice(start, start + _MEMBERS)
        at = places[left]
        found = unit[at] @ pool.rows[part].T
        found *= pool.scale[part]
        itself = block[at] - start
        inside = np.flatnonzero((itself >= 0) & (itself < found.shape[1]))
        found[inside, itself[inside]] = -np.inf
        bar = nearest[at] + rule.slack
        nearer[left] += np.sum(found > bar[:, None], axis=1)
        cosines[left, part] = found
        left = left[nearer[left] < rule.neighbours]
    return {int(places[i]): cosines[i] for i in left}


def _redundant(row: np.ndarray, chosen: np.ndarray, rule: _Rule) -> bool:
    """Whether a sample has n neighbours and one of them is chosen.

    Args:
        row: its cosines with the pool [N].
        chosen: samples taken before [S].
        rule: which neighbours count.
    """
    close = row > rule.threshold + rule.equal
    if not close[chosen].any() or np.sum(close) < rule.neighbours:
        return False
    best = row[chosen].max()
    alike = np.abs(row - best) <= rule.equal
    first = chosen[alike[chosen]].min()
    before = np.sum(row > best + rule.equal) + np.sum(alike[:first])
    return bool(before < rule.neighbours)
