"""`python -m jaxedge.foodwise`: the same as `jaxedge foodwise`."""

import sys

from jaxedge.foodwise import commands

if __name__ == "__main__":
    sys.exit(commands.console(program="python -m jaxedge.foodwise"))
