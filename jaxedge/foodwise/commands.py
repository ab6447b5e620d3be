"""The command line of FoodWise, read before anything heavy is loaded.

    jaxedge foodwise serve [--demo] [--port=8000] [--grader=none]
    jaxedge foodwise init-db
    jaxedge foodwise seed [--seed=0]
    jaxedge foodwise create-admin NAME
    jaxedge foodwise reset-password NAME
    jaxedge foodwise review-export [--out=labels.jsonl]
    jaxedge foodwise retrain
    jaxedge foodwise backup
    jaxedge foodwise restore FILE

`serve` makes what is missing (folder, tables, network, an admin whose password
it prints once) and runs until it is stopped; --demo loads a made-up campaign
into an empty instance, as `seed` does, of --seed; the seed of its draw is
"demo". The network is taught on made-up plates when there is none;
--grader=none sends every photo to people.
`create-admin` reads the password from the terminal, or a line from its input;
`reset-password` prints one that works once, for whoever has lost theirs.
`retrain` teaches a version with what people said; an admin activates it.

Flags of all of them: --folder=DIR (runs/foodwise) holds photos, networks,
backups and the secret; --database=URL is PostgreSQL's, or SQLite in the folder.
Of serve: --host (127.0.0.1), --port, --address=URL that phones type, --secure
for cookies over HTTPS alone. --proxy=ADDRESS is whose word is taken for where a
request comes from: addresses or networks, with commas, of what stands before
the server; without it all who come through it share one limit of log-ins.
"""

import argparse
from collections.abc import Sequence
import importlib
import ipaddress
import logging
from pathlib import Path
import sys
from typing import Any, NoReturn

from jaxedge.core import checks

COMMANDS = (
    "serve",
    "init-db",
    "seed",
    "create-admin",
    "reset-password",
    "review-export",
    "retrain",
    "backup",
    "restore",
)
GRADERS = ("train", "none")
# What the extra brings, by the names of modules.
PACKAGES = (
    "alembic",
    "argon2",
    "fastapi",
    "itsdangerous",
    "jinja2",
    "PIL",
    "python_multipart",
    "segno",
    "sqlalchemy",
    "uvicorn",
)


def console(
    argv: Sequence[str] | None = None, program: str = "jaxedge foodwise"
) -> int:
    """Runs one command; returns the exit status (2: the input is at fault)."""
    logging.basicConfig(level=logging.WARNING, format="foodwise: %(message)s")
    try:
        return run(list(sys.argv[1:] if argv is None else argv), program)
    except checks.UsageError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2


def run(arguments: list[str], program: str = "jaxedge foodwise") -> int:
    """Runs one command; returns the exit status.

    Raises:
        UsageError: for what the user has to mend.
    """
    if not arguments or {"-h", "--help", "help"} & {*arguments}:
        print((__doc__ or "").replace("jaxedge foodwise", program))
        return 0
    asked = parse(arguments)
    check_packages()
    from jaxedge.foodwise import cli

    return cli.run(asked)


def check_packages() -> None:
    """Raises UsageError for the first package that is not installed."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise checks.UsageError(
                f"`jaxedge foodwise` needs {error.name or name}, which is not"
                ' installed; run pip install "jaxedge[foodwise]".'
            ) from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise checks.UsageError(f"{message}.")


def parse(arguments: Sequence[str]) -> Any:
    """Reads a command and its flags; touches no file.

    Raises:
        UsageError: for an unknown command or flag, or a bad value.
    """
    command = arguments[0]
    if command not in COMMANDS:
        raise checks.unknown("command of foodwise", command, COMMANDS)
    asked = _parser(command).parse_args(list(arguments[1:]))
    asked.command = command
    if command == "serve" and not 0 <= asked.port <= 65535:
        raise checks.UsageError(
            f"--port is {asked.port}, but must lie in [0, 65535]."
        )
    if command == "serve" and asked.proxy is not None:
        _check_proxy(asked.proxy)
    return asked


def _check_proxy(given: str) -> None:
    """What is no address would be taken for a name that nobody has."""
    for each in given.split(","):
        try:
            ipaddress.ip_network(each.strip())
        except ValueError:
            raise checks.UsageError(
                f"--proxy has {each!r}, which is no address or network; for"
                " example 127.0.0.1 or 10.0.0.0/8."
            ) from None


def _parser(command: str) -> _Parser:
    made = _Parser(prog=command, add_help=False, allow_abbrev=False)
    made.add_argument("--folder", type=Path, default=Path("runs/foodwise"))
    made.add_argument("--database", default="")
    if command in ("serve", "seed"):
        made.add_argument("--seed", type=int, default=0)
    if command == "serve":
        made.add_argument("--host", default="127.0.0.1")
        made.add_argument("--port", type=int, default=8000)
        made.add_argument("--address", default="")
        made.add_argument("--secure", action="store_true")
        made.add_argument("--proxy")
        made.add_argument("--demo", action="store_true")
        made.add_argument("--grader", choices=GRADERS, default=GRADERS[0])
    elif command == "review-export":
        made.add_argument("--out", type=Path)
    elif command in ("create-admin", "reset-password"):
        made.add_argument("name")
    elif command == "restore":
        made.add_argument("file", type=Path)
    return made


__all__ = ["COMMANDS", "check_packages", "console", "parse", "run"]
