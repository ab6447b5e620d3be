"""The random point-set networks of arXiv:2312.09262.

Where the points of a set lie, and which are neighbours, is the same for every
chip: `locate` finds it out, and the networks take what it found in place of a
set. Letters: B clouds of N points, S centroids with K neighbours, F features.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.features import points
from jaxedge.models.layers import Dense, Norm

# Random weights of the paper's macro have a std of 24.66 uS, and its first
# scalar is .005 (deplm 3, 5). Normalisation takes the scale away again, which
# is why no scalar is learned (deplm T10).
RANDOM_INIT = nn.initializers.normal(24.66 * 0.005)
_SHORT = 2**16  # points that an index of two bytes tells apart


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


class Inputs(NamedTuple):
    """What the inputs of a network are: images, or sets of points.

    The columns of a set are its place (3), features, and a one-hot category
    (`categories`), repeated at every point.

    Attributes:
        mode: how images become points, of `features.points.MODES`.
        low: value of a pixel that is -1 among the places of points.
        high: value of a pixel that is 1.
        repeat_places: whether places are features too, as in the paper.
            (Images have them by their mode.)
        categories: how many there are; 0 for none.
    """

    mode: str = "pixels"
    low: float = -1.0
    high: float = 1.0
    repeat_places: bool = False
    categories: int = 0

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("mode", self.mode, points.MODES)
        checks.ordered("low", self.low, "high", self.high)
        checks.whole("categories", self.categories)

    def sets(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, 1] as sets [B, N, C]; sets as they are."""
        if x.ndim == 4:
            image = (x[..., 0] - self.low) * (2 / (self.high - self.low)) - 1
            return points.from_image(image, self.mode)
        if x.ndim != 3 or x.shape[-1] < 3 + self.categories:
            raise checks.UsageError(
                f"inputs have shape {x.shape}, but must be images [B, H, W, 1]"
                " or sets of points [B, N, C] with at least"
                f" {3 + self.categories} columns: the place, features, and a"
                f" one-hot category of {self.categories}."
            )
        return x

    def split(self, sets: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Places [B, N, 3], features and one-hot categories of sets."""
        place, category = 3, sets.shape[-1] - self.categories
        place, features, category = jnp.split(sets, (place, category), -1)
        if self.repeat_places:
            features = jnp.concatenate([place, features], -1)
        return place, features, category


class Located(NamedTuple):
    """Sets of points, and who is whose neighbour in a network.

    Attributes:
        sets: [B, N, C].
        chosen: indices of the centroids of each abstraction, [B, S].
        near: indices of their neighbours, [B, S, K].
        sources: of each propagation, the coarsest first: indices [B, N, k] of
            the points whose features a point takes.
        shares: how much of each, [B, N, k].
    """

    sets: jax.Array
    chosen: tuple[jax.Array, ...]
    near: tuple[jax.Array, ...]
    sources: tuple[jax.Array, ...]
    shares: tuple[jax.Array, ...]


def locate(
    sets: jax.Array, layers: tuple[Abstraction, ...], back: bool = False
) -> Located:
    """Who is whose neighbour, for every layer of a network.

    Farthest points begin at the first one; the paper begins at random.

    Args:
        sets: [B, N, C], whose first three columns are the place.
        layers: abstractions; the last one takes all points.
        back: whether features return to all points, as in a segmentation.
    """
    place = sets[..., :3]
    places, chosen, near = [place], [], []
    for size in layers[:-1]:
        centres = points.farthest_points(place, size.points or 1, start=0)
        centre = points.group(place, centres)
        around = points.ball_query(size.radius, size.neighbours, place, centre)
        chosen.append(_short(centres, place))
        near.append(_short(around, place))
        places.append(centre)
        place = centre
    sources, shares = [], []
    if back:
        # The group of all points has one place, wherever it may be.
        places.append(place[:, :1])
        for coarse, fine in zip(places[:0:-1], places[-2::-1], strict=True):
            idx, share = points.shares(fine, coarse)
            sources.append(_short(idx, coarse))
            shares.append(share)
    return Located(sets, *map(tuple, (chosen, near, sources, shares)))


def _short(idx: jax.Array, place: jax.Array) -> jax.Array:
    """Indices in two bytes where that many tell all points apart."""
    return idx.astype(jnp.uint16) if place.shape[-2] <= _SHORT else idx


class SetAbstraction(nn.Module):
    """Neighbourhoods of some points, each turned into a vector (deplm 3).

    [place - centroid, features] of the neighbours pass one matrix,
    normalisation, the largest over the neighbours, and ReLU. One group of all
    points is not centred.

    Attributes:
        features: outputs.
    """

    features: int

    @nn.compact
    def __call__(
        self,
        place: jax.Array,
        features: jax.Array,
        where: tuple[jax.Array, jax.Array] | None = None,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Places [B, N, 3] and features [B, N, F] to those of the centroids.

        Args:
            place: of the points.
            features: of the points.
            where: indices of centroids [B, S] and of neighbours [B, S, K];
                None for one group of all points.
            train: whether a batch is normalised by itself.
            key: read key.
        """
        if where is None:
            centre = place[:, :1]
            near = jnp.concatenate([place, features], -1)[:, None]
        else:
            chosen, idx = where
            centre = points.group(place, chosen)
            moved = points.group(place, idx) - centre[:, :, None]
            near = jnp.concatenate([moved, points.group(features, idx)], -1)
        y = Dense(self.features, RANDOM_INIT)(near, key)
        y = Norm()(y, train)
        return centre, nn.relu(jnp.max(y, 2))


class FeaturePropagation(nn.Module):
    """Features of few points returned to many (deplm 3).

    Those of the three nearest sources, beside those that the points have, pass
    one matrix, normalisation and ReLU.

    Attributes:
        features: outputs.
    """

    features: int

    @nn.compact
    def __call__(
        self,
        coarse: jax.Array,
        skip: jax.Array,
        where: tuple[jax.Array, jax.Array],
        train: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Features [B, S, F] at N points with features [B, N, F'].

        Args:
            coarse: features of the sources.
            skip: features that the points have.
            where: indices of the sources of each point, [B, N, k], and shares.
            train: whether a batch is normalised by itself.
            key: read key.
        """
        both = jnp.concatenate([points.mix(coarse, *where), skip], -1)
        y = Dense(self.features, RANDOM_INIT)(both, key)
        return nn.relu(Norm()(y, train))


def _abstract(
    layers: tuple[Abstraction, ...],
    where: Located,
    state: tuple[jax.Array, jax.Array],
    train: bool,
    key: jax.Array | None,
) -> list[jax.Array]:
    """Features before the first abstraction and after each."""
    place, y = state
    found = [y]
    near = [*zip(where.chosen, where.near, strict=True), None]
    for i, (size, idx) in enumerate(zip(layers, near, strict=True)):
        layer = SetAbstraction(size.features, name=f"abstraction_{i}")
        place, y = layer(place, y, idx, train, key)
        found.append(y)
    return found


class PointClassifier(nn.Module):
    """Random set abstractions and one layer that is learned.

    Attributes:
        classes: number of outputs.
        layers: of the encoder, the last one with one group.
        inputs: what they are.
    """

    classes: int
    layers: tuple[Abstraction, ...]
    inputs: Inputs = Inputs()

    def locate(self, x: jax.Array) -> Located:
        """What the network finds out about inputs, whatever its weights."""
        return locate(self.inputs.sets(x), self.layers)

    @nn.compact
    def __call__(
        self,
        x: jax.Array | Located,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        encode: bool = False,
    ) -> jax.Array:
        """Class scores [B, classes], or the encoder's features [B, F].

        Args:
            x: images [B, H, W, 1], sets of points [B, N, C], see `Inputs`, or
                either as located.
            train: whether batches are normalised by themselves.
            key: read key.
            encode: whether to stop before the readout.
        """
        where = x if isinstance(x, Located) else self.locate(x)
        place, y, _ = self.inputs.split(where.sets)
        y = _abstract(self.layers, where, (place, y), train, key)[-1][:, 0]
        if encode:
            return y
        return Dense(self.classes, bias=True, name="readout")(y, key)


class PointSegmenter(nn.Module):
    """A random encoder, a random decoder, and a readout of every point.

    Attributes:
        classes: number of outputs.
        layers: of the encoder, the last one with one group.
        decoder: features of the propagations, the coarsest first, as many as
            there are abstractions.
        inputs: what they are.
    """

    classes: int
    layers: tuple[Abstraction, ...]
    decoder: tuple[int, ...]
    inputs: Inputs = Inputs()

    def locate(self, x: jax.Array) -> Located:
        """What the network finds out about inputs, whatever its weights."""
        return locate(self.inputs.sets(x), self.layers, back=True)

    @nn.compact
    def __call__(
        self,
        x: jax.Array | Located,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        encode: bool = False,
    ) -> jax.Array:
        """Class scores [B, N, classes], or the decoder's features [B, N, F].

        The last propagation is shown the category, the place and the features
        of every point.

        Args:
            x: as in `PointClassifier`.
            train: whether batches are normalised by themselves.
            key: read key.
            encode: whether to stop before the readout.
        """
        where = x if isinstance(x, Located) else self.locate(x)
        place, y, category = self.inputs.split(where.sets)
        *skips, y = _abstract(self.layers, where, (place, y), train, key)
        skips[0] = jnp.concatenate([category, place, skips[0]], -1)
        ways = zip(where.sources, where.shares, strict=True)
        for i, (width, way) in enumerate(zip(self.decoder, ways, strict=True)):
            layer = FeaturePropagation(width, name=f"propagation_{i}")
            y = layer(y, skips[-1 - i], way, train, key)
        if encode:
            return y
        return Dense(self.classes, bias=True, name="readout")(y, key)
