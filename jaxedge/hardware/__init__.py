"""What a physical array does to a matrix product.

Pure functions over pytrees; knows jax and numpy alone, and scipy where a fit or
an exact solution runs on the host.
"""

from jaxedge.hardware import calibration as calibration
from jaxedge.hardware import converters as converters
from jaxedge.hardware import crossbar as crossbar
from jaxedge.hardware import devices as devices
from jaxedge.hardware import digital as digital
from jaxedge.hardware import energy as energy
from jaxedge.hardware import ensemble as ensemble
from jaxedge.hardware import formats as formats
from jaxedge.hardware import ir_drop as ir_drop
from jaxedge.hardware import pulse_trains as pulse_trains
from jaxedge.hardware import sram as sram
from jaxedge.hardware import wires as wires
from jaxedge.hardware import write_verify as write_verify
from jaxedge.hardware.convolution import conv as conv
from jaxedge.hardware.convolution import patches as patches
from jaxedge.hardware.crossbar import Crossbar as Crossbar
from jaxedge.hardware.digital import Digital as Digital
from jaxedge.hardware.masked import MaskedRandom as MaskedRandom
from jaxedge.hardware.ranged import Ranged as Ranged
from jaxedge.hardware.weights import Plan as Plan
from jaxedge.hardware.weights import Weight as Weight
from jaxedge.hardware.weights import deploy as deploy
from jaxedge.hardware.weights import dot as dot
from jaxedge.hardware.weights import is_deployed as is_deployed
from jaxedge.hardware.weights import is_weight as is_weight
from jaxedge.hardware.weights import program as program
from jaxedge.hardware.wrapping import Wrapped as Wrapped
from jaxedge.hardware.wrapping import wrap as wrap

__all__ = [
    "Crossbar",
    "Digital",
    "MaskedRandom",
    "Plan",
    "Ranged",
    "Weight",
    "Wrapped",
    "calibration",
    "conv",
    "converters",
    "crossbar",
    "deploy",
    "devices",
    "digital",
    "dot",
    "energy",
    "ensemble",
    "formats",
    "ir_drop",
    "is_deployed",
    "is_weight",
    "patches",
    "program",
    "pulse_trains",
    "sram",
    "wires",
    "wrap",
    "write_verify",
]
