"""Designs of macros by name."""

import pytest

from jaxedge.core import checks
from jaxedge.hardware import sram


def test_a_preset_with_other_fields():
    spec = sram.get("sram_wang2023", fold=3, rows=32, clip_rate=0.01)
    assert (spec.config.fold, spec.config.rows, spec.clip_rate) == (3, 32, 0.01)
    assert spec.config.lsb_units == 14 and spec.path == "exact"
    # The preset itself stays as it is.
    assert sram.PRESETS["sram_wang2023"] == sram.Spec()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sram_wang", {}, "'sram_wang'. Did you mean 'sram_wang2023'"),
        ("sram_wang2023", {"fould": 1}, "'fould'. Did you mean 'fold'"),
        ("sram_wang2023", {"config": 1}, "unknown field .* 'config'"),
        ("sram_wang2023", {"fold": 16}, "fold is 16, but must lie in"),
        ("sram_wang2023", {"clip_rate": 2}, "clip_rate is 2, but must lie"),
    ],
)
def test_what_cannot_be_is_named(name, changes, message):
    with pytest.raises(checks.UsageError, match=message):
        sram.get(name, **changes)
