"""Speed beside a floor or a peer, kept as it was printed.

Called by `scripts/reproduce`. The benches stay scripts of their own, whose
flags go through.
"""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from jaxedge.core import checks

FOLDER = Path(__file__).resolve().parent / "bench"
BENCHES = {
    f"bench_{name}": FOLDER / f"{name}.py"
    for name in ("readout", "points", "wires", "chips", "mlp", "sram", "fp4")
}
# Not radiomics.py, which the peer's own package would not be found beside.
BENCHES["bench_radiomics"] = FOLDER / "radiomic_features.py"
BENCHES["bench_gan"] = FOLDER / "gan_step.py"
BENCHES["bench_foodwise"] = FOLDER / "foodwise_load.py"
# What a bench returns when a ratio misses its target.
MISSED = 1


def reproduce(name: str, rest: Sequence[str]) -> dict[str, Any]:
    """Runs a bench.

    Args:
        name: a key of `BENCHES`.
        rest: its flags.

    Returns:
        "lines" that it printed, and whether its "target" was met.

    Raises:
        UsageError: for a bench that ended in an error.
    """
    lines = []
    command = [sys.executable, str(BENCHES[name]), *rest]
    # Frames of tables are beyond ASCII, which some locales end at.
    environment = {
        **os.environ,
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    shown = sys.stdout.encoding or "utf-8"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, encoding="utf-8", env=environment
    ) as process:
        for line in process.stdout or ():
            seen = line.encode(shown, "replace").decode(shown)
            print(seen, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode not in (0, MISSED):
        raise checks.UsageError(
            f"{BENCHES[name].name} ended with status {process.returncode};"
            " its message is above."
        )
    return {"lines": lines, "target": process.returncode == 0}


def page(content: Mapping[str, Any]) -> list[str]:
    """The lines of the result as markdown."""
    met = "met" if content["target"] else "missed"
    return [
        f"What the bench printed; its target was {met}.",
        "",
        "```text",
        *content["lines"],
        "```",
    ]
