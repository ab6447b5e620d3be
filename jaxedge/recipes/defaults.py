"""Config sections that experiments share; each call makes a new one.

What no paper tells is a labelled default; an empty field keeps the preset's
value.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# Fields of devices and of the effects around them (`devices.with_fields`).
_NUMBERS = (
    "g_min",
    "g_max",
    "read_noise",
    "program_noise",
    "write_error",
    "flicker",
    "drift",
    "lrs_mean",
    "lrs_std",
    "hrs_mean",
    "hrs_std",
    "formed",
    "stuck_on",
    "stuck_off",
    "unformed",
    "pristine",
    "d2d",
    "c2c",
    "rtn_amplitude",
    "rtn_share",
    "iv_v0",
    "iv_a2",
    "iv_a3",
)


def hardware(device: str, **changes: Any) -> ConfigDict:
    """The section `hardware`: a device in a crossbar design.

    Args:
        device: a preset of `hardware.devices`.
        **changes: fields of the section, and fields of the device by
            `overrides`.
    """
    section: Any = ConfigDict(
        {
            "device": device,
            "overrides": {name: placeholder(float) for name in _NUMBERS},
            "seconds": 0.0,
            "event": 0,
            "read_volts": 0.15,
            "rows": 512,
            "columns": 512,
            "rows_on": placeholder(int),
            "pair": "interleaved",
            "packing": "dense",
            "scaling": "array",
            "weight_clip": placeholder(float),
            "weight_bits": placeholder(int),
            "slice_bits": placeholder(int),
            # Ohm a segment; empty is ideal wires.
            "r_wire": placeholder(float),
            "wires": "fast",
            "input_bits": placeholder(int),
            "input_percentile": placeholder(float),
            "bit_serial": False,
            "adc_bits": placeholder(int),
            "adc_range": 1.0,
            "adc_percentile": placeholder(float),
            "full_scale": "max",
            # Spreads over columns: unknown for all presets, so none.
            "adc": {
                "gain": 0.0,
                "offset": 0.0,
                "inl": 0.0,
                "mismatch": 0.0,
                "kind": "uniform",
                "rounding": "nearest",
            },
            "compensate": False,
            "read": "vector",
        }
    )
    section.overrides.family = placeholder(str)
    overrides = changes.pop("overrides", {})
    section.overrides.update(overrides)
    section.update(changes)
    return section


def chips(**changes: Any) -> ConfigDict:
    """The section `chips`: how many, and the levels of each sweep."""
    section: Any = ConfigDict(
        {
            "n": 1000,
            "threshold": 0.95,
            "sweep": 100,
            "read_noise": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
            "faults": (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
            # 25 s, 1 h, 1 day, 30 days, 1 year.
            "seconds": (25.0, 3600.0, 86400.0, 2592000.0, 31536000.0),
            "adc_bits": (3, 4, 5, 6, 8, None),
            "array": (32, 64, 128, 256, 512),
            # Ohm a segment; unknown for all presets, labelled default around
            # the 0.35 of aihwkit.
            "r_wire": (0.0, 0.1, 0.35, 1.0, 2.0),
            # Test examples that a chip reads; empty is all.
            "images": placeholder(int),
            "batch": 500,
            "chunk": 100,
            "mode": "auto",
            "block": placeholder(int),
        }
    )
    section.update(changes)
    return section


def energy(**changes: Any) -> ConfigDict:
    """The section `energy`: prices, see `hardware.energy.Costs`."""
    section: Any = ConfigDict(
        {
            "read_volts": 0.15,
            "read_seconds": 100e-9,
            "adc": "neurosim_sar",
            "adc_bits": 8,
            "adc_columns": 1,
            "dac_joules": 0.0,
            "memory_joules": 0.0,
            "op_joules": 300 / 624e12,
            "op_rate": 624e12,
            "cell_square_metres": placeholder(float),
            "set_joules": placeholder(float),
            "reset_joules": placeholder(float),
        }
    )
    section.update(changes)
    return section
