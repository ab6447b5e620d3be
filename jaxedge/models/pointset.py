"""The random point-set machine of arXiv:2312.09262.

Letters: B clouds of N points, S centroids with K neighbours, F features.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.features import points
from jaxedge.models.layers import Dense, Norm

# Random weights of the paper's macro have a std of 24.66 uS, and its first
# scalar is .005 (deplm 3, 5). Normalisation takes the scale away again.
RANDOM_INIT = nn.initializers.normal(24.66 * 0.005)


class Abstraction(NamedTuple):
    """The sizes of a set abstraction.

    Attributes:
        points: centroids, or None for one group of all points.
        radius: of a neighbourhood, unit of the points; not looked at for None.
        neighbours: of a centroid, likewise.
        features: outputs.
    """

    points: int | None
    radius: float
    neighbours: int
    features: int

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.whole("features", self.features, 1)
        if self.points is not None:
            checks.whole("points", self.points, 1)
            checks.whole("neighbours", self.neighbours, 1)
            checks.in_range("radius", self.radius, 0, open_low=True)


class SetAbstraction(nn.Module):
    """Neighbourhoods of some points, each turned into a vector (deplm 3).

    Farthest points, beginning at the first; those within a radius of each,
    [place - centroid, features] of which pass one matrix, normalisation, the
    largest over the neighbours, and ReLU. One group of all points is not
    centred.

    Attributes:
        size: how many, and how large.
    """

    size: Abstraction

    @nn.compact
    def __call__(
        self,
        place: jax.Array,
        features: jax.Array,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Places [B, N, 3] and features [B, N, F] to those of the centroids."""
        size = self.size
        if size.points is None:
            centre = place[:, :1]
            near = jnp.concatenate([place, features], -1)[:, None]
        else:
            chosen = points.farthest_points(place, size.points, start=0)
            centre = points.group(place, chosen)
            idx = points.ball_query(size.radius, size.neighbours, place, centre)
            moved = points.group(place, idx) - centre[:, :, None]
            near = jnp.concatenate([moved, points.group(features, idx)], -1)
        y = Dense(size.features, RANDOM_INIT)(near, key)
        y = Norm()(y, train)
        return centre, nn.relu(jnp.max(y, 2))


class PointClassifier(nn.Module):
    """Random set abstractions and one layer that is learned.

    Attributes:
        classes: number of outputs.
        layers: of the encoder, the last one with one group.
        mode: how images become points, of `features.points.MODES`.
    """

    classes: int
    layers: tuple[Abstraction, ...]
    mode: str = "pixels"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        encode: bool = False,
    ) -> jax.Array:
        """Class scores [B, classes], or the encoder's features [B, F].

        Args:
            x: images [B, H, W, 1], or point sets [B, N, 3 + F], whose first
                three columns are the place.
            train: whether batches are normalised by themselves.
            key: read key.
            encode: whether to stop before the readout.
        """
        sets = points.from_image(x[..., 0], self.mode) if x.ndim == 4 else x
        place, y = sets[..., :3], sets[..., 3:]
        for i, size in enumerate(self.layers):
            layer = SetAbstraction(size, name=f"abstraction_{i}")
            place, y = layer(place, y, train, key)
        y = y[:, 0]
        if encode:
            return y
        return Dense(self.classes, bias=True, name="readout")(y, key)
