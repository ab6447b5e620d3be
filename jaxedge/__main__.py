"""`python -m jaxedge` is the command `jaxedge`."""

import sys

from jaxedge.run.main import console

if __name__ == "__main__":
    sys.exit(console())
