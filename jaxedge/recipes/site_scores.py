"""What an evaluation finds by site: no hospital hides behind a large one.

Letters: C sites, K classes, B examples of a batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.recipes.recipe import Sums

# Entries of the sums, [C, K] each.
_HITS, _TRUE, _TOLD = "sites_hits", "sites_true", "sites_told"
# Of more sites, an epoch's row has the mean and the worst alone.
_NAMED = 12


class SiteScore(NamedTuple):
    """A metric by site, and what an evaluation has to add up for it.

    Attributes:
        name: of the mean over the sites.
        sums: (logits, batch) -> what is added up.
        measure: (sums, measure of the others) -> metrics.
    """

    name: str
    sums: Callable[[jax.Array, Any], Sums]
    measure: Callable[[Sums, Callable[[Sums], Any]], dict[str, jax.Array]]


def make(names: Sequence[str], classes: int, positions: bool) -> SiteScore:
    """Balanced accuracy of each site; Dice of those with labels by position.

    Balanced accuracy is the mean recall of the classes that the site has (its
    evaluation in the released code of FEAL, feal 6). Dice, 2 |A and B| /
    (|A| + |B|) over all positions of a site, is a mean over the classes but
    the first, the background, that are there or were told. Sites without an
    example are NaN and count nowhere.

    Args:
        names: of the C sites.
        classes: K.
        positions: whether every position has a label.
    """
    name = "site_dice" if positions else "balanced_accuracy"

    def sums(logits: jax.Array, batch: Any) -> Sums:
        site = (batch.aux or {}).get("site")
        if site is None:
            site = jnp.zeros(batch.y.shape[:1], jnp.int32)
        rows = batch.weight.reshape(-1, *[1] * (batch.y.ndim - 1))
        weight = jnp.where(batch.y < 0, 0, rows)[..., None]
        true = jax.nn.one_hot(batch.y, classes) * weight
        told = jax.nn.one_hot(logits.argmax(-1), classes) * weight

        def by_site(each: jax.Array) -> jax.Array:
            each = each.reshape(len(site), -1, classes).sum(1)
            return jax.ops.segment_sum(each, site, len(names))

        found = {_HITS: by_site(true * told), _TRUE: by_site(true)}
        return found | {_TOLD: by_site(told)}

    def measure(sums: Sums, rest: Any) -> dict[str, jax.Array]:
        own = {k: sums[k] for k in (_HITS, _TRUE, _TOLD)}
        found = rest({k: v for k, v in sums.items() if k not in own})
        per_CK, there = _recall(own), own[_TRUE] > 0
        if positions:
            per_CK, there = _dice(own)
        count_C = there.sum(1)
        score_C = jnp.where(there, per_CK, 0).sum(1) / jnp.maximum(count_C, 1)
        seen_C = count_C > 0
        mean = jnp.where(seen_C, score_C, 0).sum() / jnp.maximum(
            seen_C.sum(), 1
        )
        more = {
            name: mean,
            f"worst_{name}": jnp.where(seen_C, score_C, 1).min(),
        }
        if len(names) <= _NAMED:
            shown_C = jnp.where(seen_C, score_C, jnp.nan)
            more |= {
                f"{name}/{site}": shown_C[c] for c, site in enumerate(names)
            }
        return found | more

    return SiteScore(name, sums, measure)


def _recall(own: Sums) -> jax.Array:
    return own[_HITS] / jnp.maximum(own[_TRUE], 1)


def _dice(own: Sums) -> tuple[jax.Array, jax.Array]:
    both = own[_TRUE] + own[_TOLD]
    there = (both > 0).at[:, 0].set(False)
    return 2 * own[_HITS] / jnp.maximum(both, 1), there
