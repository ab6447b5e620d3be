"""The command line of `scripts/flower`.

    scripts/flower --config=configs/feal.py:heart --workdir=runs/flower

A federation on this machine, over TLS: the config's clients as SuperNodes with
folders of their own, each with the client's examples alone. The same command
goes on where it was stopped. Flags beside those of `jaxedge run`:

    --nodes=N      clients, for a check
    --timeout=S    seconds that a round waits for its clients at most (60)
    --simulate     no network: Flower's own engine, in this process
"""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import sys
from typing import Any, NoReturn

from jaxedge.core import checks


def console(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status (2: the input is at fault)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or {"-h", "--help", "help"} & {*arguments}:
        print(__doc__)
        return 0
    try:
        print(f"result: {run(arguments)}")
    except checks.UsageError as error:
        print(f"flower: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("flower: stopped; the same command goes on.", file=sys.stderr)
        return 1
    return 0


def run(arguments: Sequence[str]) -> Path:
    """Runs a config on clients of Flower; returns the folder of the result.

    Raises:
        UsageError: for what the user has to mend.
    """
    own, rest = _own_flags(arguments)
    from jaxedge.run import main

    values = main.parse(rest)
    checks.in_range("--timeout", own.timeout, 0, 1e6, open_low=True)
    if values.data_root:
        os.environ["JAXEDGE_DATA"] = str(Path(values.data_root).resolve())
    from jaxedge.flower import deploy, simulate, task
    from jaxedge.run import job

    resolved = job.resolve(values.config, None)
    found = task.of_job(resolved)
    if own.nodes is not None and own.nodes != len(found.names):
        raise checks.UsageError(
            f"--nodes is {own.nodes}, but the config has {len(found.names)}"
            f" clients ({', '.join(found.names[:8])}); leave the flag out, or"
            " set config.federated.clients."
        )
    folder = Path(values.workdir).resolve()
    execute = simulate.execute if own.simulate else deploy.execute
    return execute(found, resolved.splits, folder, own.timeout)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise checks.UsageError(f"{message}.")


def _own_flags(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--nodes")
    parser.add_argument("--timeout", default="60")
    parser.add_argument("--simulate", action="store_true")
    own, rest = parser.parse_known_args(list(arguments))
    for name, kind in (("nodes", int), ("timeout", float)):
        text = getattr(own, name)
        try:
            setattr(own, name, None if text is None else kind(text))
        except ValueError:
            raise checks.UsageError(
                f"--{name} is {text!r}, but must be a number."
            ) from None
    return own, rest


if __name__ == "__main__":
    sys.exit(console())
