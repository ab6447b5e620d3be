"""What `scripts/reproduce radiomics` tells of one small volume."""

import json
from pathlib import Path
import sys

import pytest

from jaxedge.core import UsageError
from jaxedge.features.radiomics import names

pytestmark = pytest.mark.usefixtures("compile_quickly")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def part(monkeypatch):
    """The module of the entry."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import reproduce_radiomics  # type: ignore

    yield reproduce_radiomics
    del sys.modules["reproduce_radiomics"]


def test_every_feature_has_a_tag_or_stands_alone(part):
    pairs = {kind: part.same(kind) for kind in part._SAME}
    for kind, tags in pairs.items():
        assert set(tags) <= set(names.PYRADIOMICS[kind])
        assert set(tags.values()) <= set(names.IBSI[kind])
        assert len(set(tags.values())) == len(tags)
    assert sum(map(len, pairs.values())) == 107 - 5


def test_departures_are_those_that_modules_tell(part):
    told = part.departures()
    assert all(told.values())
    assert any("divides the covariance" in line for line in told["shape"])
    assert any("IBSI's less 3" in line for line in told["first_order"])


def test_a_reference_value_holds_to_its_tolerance_or_its_digits(part):
    rows = {row["tag"]: row for row in part.held(dict.fromkeys(_tags(), 2.15))}
    # stat_mean is 2.15 to three digits, morph_volume 556 with 4 to spare.
    assert rows["stat_mean"]["holds"] and not rows["morph_volume"]["holds"]
    near = part.held(dict.fromkeys(_tags(), 559.9))
    assert {r["tag"] for r in near if r["holds"]} == {"morph_volume"}
    near = part.held(dict.fromkeys(_tags(), 2.144))
    assert not any(r["holds"] for r in near if r["tag"] == "stat_mean")


def _tags():
    return [tag for known in names.IBSI.values() for tag in known]


@pytest.mark.slow
def test_the_digital_phantom_is_told(part, real_file, monkeypatch, tmp_path):
    monkeypatch.setattr(part, "VOLUMES", (part.PHANTOM,))
    root = real_file("radiomics/ibsi1_digital_phantom.npz").parents[1]
    found = part.reproduce([f"--data_root={root}"])
    found = json.loads(json.dumps(found))
    (deviations,) = found["deviations"].values()
    assert len(deviations) == 107 and max(deviations.values()) < 1e-5
    assert len(found["phantom"]) == 208
    assert all(row["holds"] for row in found["phantom"])
    apart = {row["feature"] for row in found["apart"] if not row["equal"]}
    axes = {"LeastAxisLength", "MajorAxisLength", "MinorAxisLength"}
    assert apart == {"Kurtosis", *axes}
    page = "\n".join(part.page(found))
    assert "107 of 107 values are within 1e-05" in page
    assert "| all | 208 | 208 | |" in page
    part.draw(found, tmp_path / "radiomics.svg")
    assert (tmp_path / "radiomics.svg").stat().st_size > 1000


def test_a_missing_folder_is_named(part, tmp_path):
    with pytest.raises(UsageError, match="the folder radiomics"):
        part.reproduce([f"--data_root={tmp_path}"])
    with pytest.raises(UsageError, match="no flag of radiomics"):
        part.reproduce(["--seeds=1"])
