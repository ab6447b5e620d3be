"""The command line: `jaxedge run|chips|report`.

    jaxedge run --config=configs/x.py:arg --workdir=DIR --config.field=value
    jaxedge chips --config=configs/x.py:arg --workdir=DIR
    jaxedge report --workdir=DIR

`run` trains, studies and reports, or goes on where it was stopped; `chips`
studies a trained network again on the config's hardware, and sweeps what
--config.study names (noise, faults, time, adc, array, wires, layers, all, or
field=level,level); `report` draws the page anew.

`chips --distributed=host:port,process,processes` (or =auto on a cluster) shares
a study among processes that see the same workdir.
"""

from collections.abc import Iterator, Mapping, Sequence
import logging
from pathlib import Path
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxedge.core import checks

COMMANDS = ("run", "chips", "report")


def console(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status (2: the input is at fault)."""
    logging.basicConfig(level=logging.WARNING, format="jaxedge: %(message)s")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if (
        not arguments
        or {"-h", "--help"} & {*arguments}
        or arguments == ["help"]
    ):
        print(__doc__)
        return 0
    try:
        return _command(arguments[0], arguments[1:])
    except checks.UsageError as error:
        print(f"jaxedge: error: {error}", file=sys.stderr)
        return 2


def _command(command: str, arguments: list[str]) -> int:
    if command not in COMMANDS:
        raise checks.unknown("command", command, COMMANDS)
    options = parse(arguments, needs_config=command != "report")
    folder = Path(options.workdir)
    # Only now: the heavy rooms load after the command line is known good.
    from jaxedge.run import hosts, job, loop, report, spread_over_cores

    spread_over_cores()
    if options.distributed:
        if command != "chips":
            raise checks.UsageError(
                f"--distributed is for `jaxedge chips`, not for {command!r}:"
                " train on one process, then study on many."
            )
        hosts.connect(options.distributed)
    if command == "report":
        print(f"report: {report.write(folder)}")
        return 0
    stage = job.run if command == "run" else job.restudy
    with loop.Stop().listening() as stop:
        try:
            resolved = job.resolve(options.config, options.data_root)
            page = stage(resolved, folder, stop)
        except loop.Preempted as stopped:
            print(f"jaxedge: {stopped}; the same command goes on from there.")
            return 0
        except loop.DivergedError as error:
            print(f"jaxedge: error: {error}", file=sys.stderr)
            return 1
    print(f"report: {page}")
    return 0


def parse(arguments: Sequence[str], needs_config: bool = True) -> Any:
    """Reads the flags into values; changes nothing and creates nothing.

    Raises:
        UsageError: for an unknown flag or config field, or a bad value.
    """
    values = _flags()
    source = _source(arguments)
    if needs_config and not source:
        raise checks.UsageError(
            "no --config was given; for example"
            " --config=configs/edge_pruning.py:digits."
        )
    _parse(values, source)
    if values.config is not None:
        known = dict(_paths(values.config))
        _check_once(arguments, known)
        for argument in arguments:
            if argument.lstrip("-").startswith("config."):
                _check_field(_name(argument).removeprefix("config."), known)
    values = _flags()
    # config_flags cannot empty a field of a type; None always means "empty".
    empty = [a for a in arguments if source and _is_empty(a)]
    rest = _parse(values, [a for a in arguments if a not in empty])
    for argument in empty:
        _set_none(values.config, _name(argument).split(".")[1:])
    if rest:
        raise checks.UsageError(
            f"{rest[0]!r} is no flag; flags start with -- and are written"
            " --name=value."
        )
    if not values.workdir:
        raise checks.UsageError(
            "no --workdir was given; for example --workdir=runs/digits."
        )
    if needs_config and not isinstance(values.config, ConfigDict):
        raise checks.UsageError(
            f"get_config of {source[-1]} returns a"
            f" {type(values.config).__name__}, but must return an"
            " ml_collections.ConfigDict."
        )
    return values


def _source(arguments: Sequence[str]) -> list[str]:
    """The last --config, with its value where that stands apart."""
    places = [i for i, a in enumerate(arguments) if _name(a) == "config"]
    if not places:
        return []
    end = places[-1] + (1 if "=" in arguments[places[-1]] else 2)
    return list(arguments[places[-1] : end])


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Experiment.", lock_config=True, flag_values=values
    )
    flags.DEFINE_string("workdir", None, "Folder.", flag_values=values)
    flags.DEFINE_string("data_root", None, "Data.", flag_values=values)
    flags.DEFINE_string("distributed", None, "Hosts.", flag_values=values)
    return values


def _parse(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses; whatever absl or a config file raises becomes one line."""
    before = sys.argv
    # config_flags looks for overrides in sys.argv, not in what it is given.
    sys.argv = ["jaxedge", *arguments]
    try:
        rest = values(sys.argv)[1:]
        # A file that failed to load says so only when the config is used.
        list(values.config or ())
        return rest
    except Exception as error:  # noqa: BLE001 - a config is a program
        text = str(error).strip() or type(error).__name__
        # config_flags wraps what a config raises into its traceback's text.
        if "Traceback" in text:
            text = text.splitlines()[-1]
        text = " ".join(text.split())
        own = f"{checks.UsageError.__name__}: "
        raise checks.UsageError(text.rpartition(own)[2]) from error
    finally:
        sys.argv = before


def _check_once(arguments: Sequence[str], known: Mapping[str, Any]) -> None:
    """Of a number given twice the last counts; tuples would be joined."""
    names = [_name(a).removeprefix("config.") for a in arguments]
    for name, value in known.items():
        if isinstance(value, tuple) and names.count(name) > 1:
            raise checks.UsageError(
                f"--config.{name} is given {names.count(name)} times; give it"
                " once."
            )


def _is_empty(argument: str) -> bool:
    name, _, value = argument.lstrip("-").partition("=")
    return name.startswith("config.") and value.lower() == "none"


def _set_none(config: Any, path: Sequence[str]) -> None:
    for name in path[:-1]:
        config = config[name]
    config[path[-1]] = None


def _name(argument: str) -> str:
    return argument.lstrip("-").split("=")[0]


def _paths(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field as ("a.b", value); sections too."""
    for name in config:
        value = config[name]
        yield prefix + name, value
        if hasattr(value, "keys"):
            yield from _paths(value, f"{prefix}{name}.")


def _check_field(name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise checks.unknown("config field", name, known)
    if hasattr(known[name], "keys"):
        fields = ", ".join(known[name].keys())
        raise checks.UsageError(
            f"config.{name} is a section, not a value; set its fields one by"
            f" one, --config.{name}.FIELD=VALUE, with FIELD of {fields}."
        )
