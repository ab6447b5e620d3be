"""Converters that can be bought: energy, time and area, each with its source.

Figures of thu-nics/MNSIM-2.0 (`MNSIM/Hardware_Model/ADC.py` and `DAC.py`) and
neurosim/DNN_NeuroSim_V1.4 (`SarADC.cpp`); what a source does not give is None.
"""

from typing import NamedTuple

from jaxedge.core import checks


class Part(NamedTuple):
    """A converter.

    Attributes:
        bits: resolution.
        joules: one conversion, J.
        seconds: one conversion, s.
        square_metres: one converter, m^2; None is unknown.
        source: where the figures are from.
    """

    bits: int
    joules: float
    seconds: float
    square_metres: float | None
    source: str


def sar_adc_joules(bits: int) -> float:
    """One conversion of a successive-approximation ADC at 45 nm, J.

    (2.1843 b + 11.931) uW * (b + 1) ns, the fit of DNN+NeuroSim 1.4 without
    its column-resistance term.
    """
    return (2.1843 * bits + 11.931) * 1e-6 * sar_adc_seconds(bits)


def sar_adc_seconds(bits: int) -> float:
    """Its duration: b + 1 cycles of 1 ns, s."""
    return (bits + 1) * 1e-9


def _sampled(
    bits: int, watts: float, rate: float, microns: float, source: str
) -> Part:
    """A converter of so many samples a second, and as many cycles as MNSIM."""
    return Part(bits, watts / rate, (bits + 2) / rate, microns * 1e-12, source)


# MNSIM's table; its sources are the papers that it names.
ADCS = {
    "pipelined_sar_10": _sampled(
        10, 6.92e-3, 1.5e9, 1600, "14 nm pipelined SAR, in MNSIM 2.0"
    ),
    "isaac_8": _sampled(8, 2e-3, 1.28e9, 1200, "ISAAC, in MNSIM 2.0"),
    "two_step_sar_8": _sampled(
        8, 4e-3, 1.1e9, 1650, "two-step SAR, in MNSIM 2.0"
    ),
    "charge_injection_sar_6": _sampled(
        6, 1.26e-3, 1e9, 580, "charge-injection SAR, in MNSIM 2.0"
    ),
}
ADC_NAMES = ("neurosim_sar", *ADCS)
# By its bits; MNSIM scales ISAAC's.
DACS = {
    bits: Part(bits, watts / 1e9, 1e-9, microns * 1e-12, "ISAAC, in MNSIM 2.0")
    for bits, watts, microns in (
        (1, 3.9e-6, 0.166),
        (2, 7.8e-6, 0.332),
        (3, 15.6e-6, 0.664),
        (4, 31.2e-6, 1.328),
        (6, 124.8e-6, 5.312),
    )
}


def adc(name: str, bits: int) -> Part:
    """The ADC `name`; "neurosim_sar" has any resolution.

    Raises:
        UsageError: for an unknown name, or a converter of fewer bits.
    """
    if name == "neurosim_sar":
        joules, seconds = sar_adc_joules(bits), sar_adc_seconds(bits)
        return Part(bits, joules, seconds, None, "DNN+NeuroSim 1.4 at 45 nm")
    if name not in ADCS:
        raise checks.unknown("ADC", name, ADC_NAMES)
    part = ADCS[name]
    if part.bits < bits:
        raise checks.UsageError(
            f"the ADC {name!r} has {part.bits} bits, but the design converts"
            f" {bits}; price another one or lower adc_bits."
        )
    return part
