"""Counts of the published networks, as arXiv:2312.09262 and its code give them.

Every expected number is of `deplm.md` 3 and 6 (tags [meas] and [2nd]).
"""

import numpy as np
import pytest

from jaxedge.core.checks import UsageError
from jaxedge.hardware import operations
from jaxedge.hardware.operations import Product

# (vectors, inputs, outputs) of every random layer, and the readout.
SEGMENTATION = [
    Product(512 * 32, 6, 117),
    Product(128 * 64, 120, 80),
    Product(128, 83, 234),
    Product(128, 314, 80),
    Product(512, 197, 117),
    Product(2048, 139, 117),
]
GESTURE = [
    Product(256 * 32, 3, 53),
    Product(128 * 64, 56, 107),
    Product(128, 110, 512),
]
FASHION = [
    Product(512 * 32, 6, 51),
    Product(128 * 64, 54, 102),
    Product(128, 105, 819),
]
NETS = {
    "segmentation": (SEGMENTATION, Product(2048, 117, 50)),
    "gesture": (GESTURE, Product(1, 512, 10)),
    "fashion": (FASHION, Product(1, 819, 10)),
}
# Random weights, MAC (M), vectors, conversions (M) of an example.
COUNTS = {
    "segmentation": (94156, 152.93, 27392, 2.912),
    "gesture": (62471, 57.60, 16512, 1.376),
    "fashion": (91809, 61.15, 24704, 1.776),
}


@pytest.mark.parametrize("name", NETS)
def test_the_published_counts(name):
    random, readout = NETS[name]
    weights, macs, vectors, conversions = COUNTS[name]
    assert sum(layer.weights for layer in random) == weights
    assert sum(layer.vectors for layer in random) == vectors
    total = sum(layer.macs for layer in [*random, readout])
    assert round(total / 1e6, 2) == macs
    assert round(sum(p.conversions for p in random) / 1e6, 3) == conversions


def test_the_published_cost_of_training():
    random, readout = NETS["segmentation"]
    cost = operations.training([*random, readout], [readout])
    assert round(cost.backward / 1e6, 2) == 47.92
    assert round(cost.update / 1e3, 2) == 11.70
    # The paper's forward pass is 131.40 M; its own network gives 152.93 M, and
    # why is unknown.
    assert round(cost.forward / 1e6, 2) == 152.93
    # 70.12 % of which cut leaves the paper's sum.
    ours = 131.40 + 47.92 + 0.01170
    assert round(operations.reduction(ours, 600.2), 4) == 0.7012
    assert round(operations.reduction(60.26, 418.8), 4) == 0.8561


def test_backpropagation_by_its_passes():
    """Two operations a MAC for each of dW and dX, and no dX of the inputs."""
    layers, _ = NETS["fashion"]
    passes = sum(2 * p.macs for p in layers) + sum(
        2 * p.macs for p in layers[1:]
    )
    cost = operations.backpropagation(layers, per_mac=2)
    assert cost.backward == passes
    assert cost.forward == 2 * sum(p.macs for p in layers)
    assert cost.update == 2 * 91809
    assert cost.total == sum(cost)


def test_a_closed_form_by_its_steps():
    n, d, k = 60000, 819, 10
    steps = n * d * d + n * d * k + d**3 / 3 + d * d * k
    np.testing.assert_allclose(operations.closed_form(n, d, k), steps)


def test_a_comparison_tells_what_learns():
    random, readout = NETS["fashion"]
    layers = {f"layer {i}": p for i, p in enumerate(random)}
    layers["readout"] = readout
    found = operations.compare(layers, ["readout"])
    assert found["update"] == 2 * 8190 and found["backward"] == 4 * 8190
    whole = operations.backpropagation([*layers.values()]).total
    assert found["backpropagation"] == whole
    every = operations.compare(layers)
    assert sum(every.values()) == 2 * whole
    assert operations.compare({}) == {}


def test_bad_values_are_named():
    with pytest.raises(UsageError, match="no layers"):
        operations.backpropagation([])
    with pytest.raises(UsageError, match="per_mac"):
        operations.training([], [], 0)
    with pytest.raises(UsageError, match="features"):
        operations.closed_form(1, 0, 1)
    with pytest.raises(UsageError, match="theirs"):
        operations.reduction(1, 0)
