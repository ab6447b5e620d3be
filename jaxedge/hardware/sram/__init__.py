"""Computing in static memory: products on bit lines, converted by the cells.

code = sram.convert(x_int, w_int, config, chip_key=chip, read_key=read)
value = sram.decode(code, w_int, config)
"""

from jaxedge.hardware.sram import columns as columns
from jaxedge.hardware.sram.calibration import Choice as Choice
from jaxedge.hardware.sram.calibration import Grid as Grid
from jaxedge.hardware.sram.calibration import choose as choose
from jaxedge.hardware.sram.calibration import explore as explore
from jaxedge.hardware.sram.columns import Columns as Columns
from jaxedge.hardware.sram.config import CURVES as CURVES
from jaxedge.hardware.sram.config import Config as Config
from jaxedge.hardware.sram.conversion import PATHS as PATHS
from jaxedge.hardware.sram.conversion import Converted as Converted
from jaxedge.hardware.sram.conversion import convert as convert
from jaxedge.hardware.sram.conversion import decode as decode
from jaxedge.hardware.sram.conversion import read as read
from jaxedge.hardware.sram.errors import Errors as Errors
from jaxedge.hardware.sram.errors import optimal_clip as optimal_clip
from jaxedge.hardware.sram.errors import predict as predict
from jaxedge.hardware.sram.linearity import Linearity as Linearity
from jaxedge.hardware.sram.linearity import characterise as characterise
from jaxedge.hardware.sram.macro import Spec as Spec
from jaxedge.hardware.sram.macro import SramMacro as SramMacro
from jaxedge.hardware.sram.macro import clip_rate as clip_rate
from jaxedge.hardware.sram.macro import line_drop as line_drop
from jaxedge.hardware.sram.presets import PRESETS as PRESETS
from jaxedge.hardware.sram.presets import fields as fields
from jaxedge.hardware.sram.presets import get as get
from jaxedge.hardware.sram.presets import with_fields as with_fields
from jaxedge.hardware.sram.timing import LineEnergy as LineEnergy
from jaxedge.hardware.sram.timing import fit_energy as fit_energy
from jaxedge.hardware.sram.timing import seconds as seconds
