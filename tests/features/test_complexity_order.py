"""Orders of modalities by their complexity, and errors that tell the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import UsageError
from jaxedge.features import complexity

NAMES = complexity.names()
N, H, W = 40, 12, 10
_RNG = np.random.default_rng(0)
NOISE = _RNG.normal(size=(N, H, W)).astype(np.float32)
# Images that vary along six directions, and along three.
FEW, FEWER = (
    (_RNG.normal(size=(N, k)) @ _RNG.normal(size=(k, H * W)))
    .reshape(N, H, W)
    .astype(np.float32)
    for k in (6, 3)
)


# Orders.


def test_the_simpler_modality_is_first():
    given = {"noise": NOISE, "few": FEW, "fewer": FEWER}
    found = complexity.order(given, "pca_participation")
    assert found.names == ("fewer", "few", "noise")
    for label, value in zip(found.names, found.values, strict=True):
        assert value == complexity.measure(given[label], "pca_participation")
    assert found.ties == ()
    by_place = complexity.order(list(given.values()), "pca_participation")
    assert by_place.names == (2, 1, 0)


def test_ties_are_told_and_keep_their_order():
    x = FEW
    given = {"b": x, "noise": NOISE, "a": 3 * x, "c": x - 1}
    found = complexity.order(given, "gradient")
    assert found.names == ("b", "a", "c", "noise")
    assert found.ties == (("b", "a", "c"),)


# Bad input.


def test_names_are_told():
    with pytest.raises(UsageError, match="'zlip'. Did you mean 'zlib'.*two_nn"):
        complexity.measure(FEW, "zlip")
    with pytest.raises(UsageError, match="unknown measure of complexity None"):
        complexity.function(None)
    assert set(NAMES) == set(complexity.MEASURES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_set_of_images_is_refused(name):
    measure = complexity.measure
    x = NOISE.copy()
    with pytest.raises(UsageError, match=r"shape \(12, 10\), but must be"):
        measure(x[0], name)
    with pytest.raises(UsageError, match="images has"):
        measure(x[:0], name)
    with pytest.raises(UsageError, match="images must be an array of numbers"):
        measure([["a"]], name)
    with pytest.raises(UsageError, match="images is complex"):
        measure(x * 1j, name)
    x[3, 2, 1] = np.nan
    for bad in (x, x.astype(np.float64), jnp.asarray(x)):
        with pytest.raises(UsageError, match=r"1 NaN .* \(3, 2, 1\)"):
            measure(bad, name)
    with pytest.raises(UsageError, match="traced"):
        jax.jit(lambda x: measure(x, name))(x)


def test_too_little_is_refused():
    one = NOISE[:1]
    for name in NAMES:
        if complexity.MEASURES[name].of_set:
            with pytest.raises(UsageError, match=f"N = 1, but {name} needs"):
                complexity.measure(one, name)
        else:
            assert complexity.measure(one, name) > 0
    with pytest.raises(UsageError, match="needs at least 3 rows and columns"):
        complexity.measure(one[:, :2], "spatial_information")
    with pytest.raises(UsageError, match="zlib compresses on the host"):
        jax.jit(complexity.function("zlib"))(one)


def test_what_cannot_be_compared_is_refused():
    order, x = complexity.order, NOISE
    with pytest.raises(UsageError, match=r"'ct' has images of shape \(11, 10"):
        order({"mr": x, "ct": x[:, :-1]}, "entropy")
    with pytest.raises(UsageError, match="'ct' has 30 images and 'mr' 40"):
        order({"mr": x, "ct": x[:30]}, "pca_k95")
    assert order({"mr": x, "ct": x[:30]}, "entropy").names
    with pytest.raises(UsageError, match="modality 'ct': images holds"):
        order({"mr": x, "ct": x * np.inf}, "entropy")
    for nothing in ({}, [], x, "mr"):
        with pytest.raises(UsageError, match="must be a dict"):
            order(nothing, "entropy")
