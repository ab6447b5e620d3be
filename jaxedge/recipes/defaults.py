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

# Fields of an in-SRAM macro and of how weights come onto it (`sram.fields`).
_MACRO = {
    "fold": int,
    "lsb_units": int,
    "sigma_cell": float,
    "sigma_pulse": float,
    "sigma_line": float,
    "sigma_cmp": float,
    "sigma_off": float,
    "current": float,
    "rows": int,
    "columns": int,
    "x_bits": int,
    "w_bits": int,
    "out_bits": int,
    "x_signed": bool,
    "w_code": str,
    "adc": str,
    "line_f": str,
    "packing": str,
    "input_percentile": float,
    "clip_rate": float,
    "weight_clip": float,
    "scaling": str,
    "path": str,
}

# Fields of a digital chip that are no matter of memory (`digital.fields`).
_DIGITAL = ("weights", "inputs", "weight_scale", "input_scale")


def hardware(device: str, **changes: Any) -> ConfigDict:
    """The section `hardware`: a crossbar design, a macro, or number formats.

    Args:
        device: a preset of `hardware.devices`, of `hardware.sram`, or of
            `hardware.digital`, such as "nvfp4".
        **changes: fields of the section, and fields of the device by
            `overrides`, of the macro by `macro`, of the formats by `digital`.
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
            "weight_format": placeholder(str),
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
            # Of an in-SRAM macro, if that is the device.
            "macro": {name: placeholder(kind) for name, kind in _MACRO.items()},
            # Of a digital chip, if the device is a number format.
            "digital": {name: placeholder(str) for name in _DIGITAL},
        }
    )
    section.overrides.family = placeholder(str)
    for part in ("overrides", "macro", "digital"):
        section[part].update(changes.pop(part, {}))
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
            # Multiples of all spreads and noises of an in-SRAM macro.
            "sigma": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
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
            # Of an in-SRAM macro: one conversion of 64 rows, its products
            # included; the share that its lines draw is unknown.
            "macro_joules": 128 / 137.5e12,
            "macro_share": 0.0,
            "macro_drop": 0.25,
        }
    )
    section.update(changes)
    return section


def augment(**changes: Any) -> ConfigDict:
    """The section `augment`, see `augmentation.Augmentation`."""
    section = ConfigDict(
        {
            "crop": 0,
            "pad": "reflect",
            "flip": False,
            "operations": 0,
            "magnitude": 9.0,
            "mixup": 0.0,
            "cutmix": 0.0,
            "erase": 0.0,
            "smoothing": 0.0,
        }
    )
    section.update(changes)
    return section


def quantize(**changes: Any) -> ConfigDict:
    """The section `quantize`, see `steps.Quantize`."""
    section = ConfigDict(
        {
            "weights": placeholder(int),
            "inputs": placeholder(int),
            "edges": placeholder(int),
            "groups": "tensor",
            "scale": "count",
            "signs": "data",
            "keep": placeholder(str),
            "step_rate": 1.0,
            "input_rate": 1.0,
            "regulariser": 0.0,
            "regulariser_start": 0.25,
            "track": True,
            "freeze": placeholder(float),
        }
    )
    # First and last layer, as the papers on transformers have it.
    section.update({"edges": 8, **changes})
    return section


def distill(**changes: Any) -> ConfigDict:
    """The section `distill`, see `teaching.Distill`: nobody teaches."""
    section = ConfigDict(
        {
            "teacher": placeholder(str),
            "path": placeholder(str),
            "share": 1.0,
            "temperature": 1.0,
            "crops": 1,
            "side": 448,
        }
    )
    section.update(changes)
    return section


def federated(**changes: Any) -> ConfigDict:
    """The section `federated`, see `federated.Federated`: the data's sites."""
    section = ConfigDict(
        {
            "recipe": "classifier",
            "clients": placeholder(int),
            "alpha": placeholder(float),
            "seed": 0,
            "strategy": "fedavg",
            "rate": 1.0,
            "momentum": 0.9,
            "tau": 1e-3,
            "mu": 0.01,
            "trim": 0.1,
            "weights": "examples",
            "local_epochs": 1,
            "present": 1.0,
            "clip": placeholder(float),
            "noise": 0.0,
            "delta": 1e-5,
            "mode": "map",
        }
    )
    section.update(changes)
    return section


def active(**changes: Any) -> ConfigDict:
    """The section `active`, see `queries.Active`: all is labelled."""
    section = ConfigDict(
        {
            "method": "all",
            "initial": 0,
            "budget": 0,
            "every": 10,
            "most": 1.0,
            "pool": 10_000,
            "restart": True,
            "model": "global",
            "neighbours": 5,
            "threshold": 0.85,
            "fill": "best",
        }
    )
    section.update(changes)
    return section


def evidence(**changes: Any) -> ConfigDict:
    """The section `evidence`, see `evidence.Evidence`: cross-entropy."""
    section = ConfigDict(
        {
            "loss": "none",
            "activation": "relu",
            "kl_weight": 0.01,
            "annealing": 10.0,
            "correct": True,
            "balance": True,
        }
    )
    section.update(changes)
    return section


def coreset(**changes: Any) -> ConfigDict:
    """The section `coreset`, see `coresets.Coreset`: all examples."""
    section = ConfigDict(
        {
            "method": "all",
            "fraction": 1.0,
            "every": 10,
            "schedule": "paper",
            "balanced": True,
        }
    )
    section.update(changes)
    return section
