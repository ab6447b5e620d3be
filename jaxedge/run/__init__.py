"""The loop, checkpoints, studies over chips, report, command line."""

from jaxedge.run import chips as chips
from jaxedge.run import estimate as estimate
from jaxedge.run.chips import chip_map as chip_map
from jaxedge.run.chips import spread_over_cores as spread_over_cores

__all__ = ["chip_map", "chips", "estimate", "spread_over_cores"]
