"""What leaves the library: programs, arrays, and the cells of chips.

    f = exports.load("out/chip0.stablehlo")  # f(x, key=...)
    chip = exports.load_variables("out/chip0.safetensors")  # an equal chip
    layers = exports.read_cells("out/chip0.cells")  # or out/chip0.h5

`jaxedge export` writes them (`exports.command`). Every file is checked against
the list of its folder, `export.json`, before it is read.
"""

from jaxedge.run.exports.cells import Layer as Layer
from jaxedge.run.exports.program import load as load
from jaxedge.run.exports.sheets import read as read_cells
from jaxedge.run.exports.tensors import load as load_variables

__all__ = ["Layer", "load", "load_variables", "read_cells"]
