"""Operations of inference and of training, counted as arXiv:2312.09262 does.

Pure arithmetic on the sizes of a network's products (device_physics D.10,
deplm 6). The counts of that paper's backward pass and update follow exactly;
its forward pass is 21.5 M products short of its own code, and how it counted
conventional training is unknown.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxedge.core import checks


class Product(NamedTuple):
    """A layer: a matrix that some vectors of an example meet.

    Attributes:
        vectors: of one example.
        inputs: rows of the matrix.
        outputs: columns of the matrix.
    """

    vectors: int
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """Entries of the matrix."""
        return self.inputs * self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one example."""
        return self.vectors * self.weights

    @property
    def conversions(self) -> int:
        """Outputs of one example, each of which an array converts."""
        return self.vectors * self.outputs


class Training(NamedTuple):
    """Operations of training on one example, and of one update.

    Attributes:
        forward: through all layers.
        backward: gradients.
        update: of the trained weights, once a step.
    """

    forward: int
    backward: int
    update: int

    @property
    def total(self) -> int:
        """All three."""
        return sum(self)


def training(
    layers: Sequence[Product], trained: Sequence[Product], per_mac: int = 1
) -> Training:
    """Of a network of which some layers are trained, as the paper counts.

    backward = 4 MAC of the trained layers, two operations each for the
    gradients of weights and of inputs (the latter too, where nothing is
    trained below); update = 2 a weight.

    Args:
        layers: all of them, the trained ones too.
        trained: some of them.
        per_mac: operations of a multiply-accumulate in the forward pass; the
            paper's numbers are nearest to 1 there, and 2 in the backward pass.
    """
    checks.whole("per_mac", per_mac, 1)
    return Training(
        forward=per_mac * sum(layer.macs for layer in layers),
        backward=4 * sum(layer.macs for layer in trained),
        update=2 * sum(layer.weights for layer in trained),
    )


def backpropagation(layers: Sequence[Product], per_mac: int = 1) -> Training:
    """Of a network trained whole, by the textbook.

    backward = 4 MAC of all layers less 2 MAC of the first, whose inputs need
    no gradient. It does not give the denominators of the paper.

    Args:
        layers: the first one first.
        per_mac: as in `training`.
    """
    if not layers:
        raise checks.UsageError("there are no layers; give at least one.")
    whole = training(layers, layers, per_mac)
    return whole._replace(backward=whole.backward - 2 * layers[0].macs)


def compare(
    layers: Mapping[str, Product], learns: Sequence[str] | None = None
) -> dict[str, int]:
    """What training on one example takes, beside training all layers.

    Args:
        layers: by name, the first one first.
        learns: names of those that are trained; None for all.

    Returns:
        The fields of `Training`, and "backpropagation", the sum of those of
        training all layers; nothing if there is no layer.
    """
    if not layers:
        return {}
    names = [n for n in layers if learns is None or n in learns]
    ours = training([*layers.values()], [layers[n] for n in names])
    if len(names) == len(layers):
        ours = backpropagation([*layers.values()])
    whole = backpropagation([*layers.values()]).total
    return {**ours._asdict(), "backpropagation": whole}


def closed_form(rows: int, features: int, targets: int) -> float:
    """Of solving a readout: N D^2 + N D K + D^3 / 3 + D^2 K (D.10).

    Args:
        rows: N, of the whole training set.
        features: D.
        targets: K.
    """
    for name, value in (
        ("rows", rows), ("features", features), ("targets", targets),
    ):  # fmt: skip
        checks.whole(name, value, 1)
    gathered = rows * features * (features + targets)
    return gathered + features**3 / 3 + features**2 * targets


def reduction(ours: float, theirs: float) -> float:
    """1 - ours / theirs, the cut that papers state."""
    checks.in_range("theirs", theirs, 0, open_low=True)
    return 1 - ours / theirs
