"""The loop, checkpoints, studies over chips, report, command line."""

from jaxedge.run import chips as chips
from jaxedge.run.chips import chip_map as chip_map

__all__ = ["chip_map", "chips"]
