"""The command line of jaxedge: one command, and its flags.

    jaxedge run --config=configs/x.py:arg --workdir=DIR --config.field=value
    jaxedge chips --config=configs/x.py:arg --workdir=DIR
    jaxedge report --workdir=DIR
    jaxedge teach --config=configs/x.py:arg --teacher=NAME --out=DIR
    jaxedge quantize --model=DIR --out=DIR [--config.quantize.method=fpq]
    jaxedge eval --model=DIR [--reference=DIR] [--tasks=wikitext2,piqa]
    jaxedge sweep --config=configs/x.py:arg --workdir=DIR [--grid=FIELD=V,V]
    jaxedge compare DIR DIR --out=DIR
    jaxedge export --workdir=DIR --out=DIR [--as=stablehlo] [--chip=0]
    jaxedge radiomics IMAGE MASK --out=features.csv [--param=FILE]
    jaxedge study --workdir=DIR --out=DIR [--questions=40] [--seed=0]
    jaxedge study --score=answers.csv --key=DIR/answers.json
    jaxedge foodwise serve [--demo]

`run` trains, studies and reports, or goes on where it was stopped; `chips`
studies a trained network again on the config's hardware, and sweeps what
--config.study names (noise, faults, time, adc, array, wires, layers, all, or
field=level,level); `report` draws the page anew.

`run` and `chips` with --distributed=host:port,process,processes (or =auto on a
cluster) share their work among processes that see the same workdir: the chips
of a study, and with --config.train.devices=all every batch of the training. One
that is stopped ends with status 75, and all of them stop.

`teach` stores what a published network (`models.checkpoints`) says of random
crops of the training images, for `distill.teacher`: --crops of an image, of at
least the share --least of its area.

`quantize` puts a pretrained transformer into small numbers (`recipes.llm_fp4`;
a folder of Hugging Face's transformers, a file of llama2.c, or "minilm"), and
goes on where it was stopped; `eval` scores one, of either kind, beside the
network that it was: --length tokens a sequence, --most sequences or questions a
task, --out=FILE keeps the scores. A task lm_eval:NAME is that of
lm-evaluation-harness, where it is installed.

`sweep` runs many points of a config, each in a process and a workdir of its
own, --jobs at once, and compares them: every combination of
--grid='FIELD=VALUE,VALUE;FIELD=VALUE,VALUE', --random=20 points drawn from
--ranges='FIELD=log:1e-4:1e-2;FIELD=choice:32,64' (or linear:, whole:) with
--sweep_seed=0, or what the config file's sweep(arg) yields; each with --seeds=3
seeds. --engine=submitit or ray runs them elsewhere, with --options of theirs.
The same command goes on where it was stopped. `compare` makes the page and the
table of any workdirs.

`export` writes the network of a finished run, and with --chip=N that chip of
its study: --as=stablehlo (programs for --platforms=cpu,cuda,tpu; --noise=none
reads without noise), safetensors, conductances (maps and pulse programmes, CSV
and HDF5, for a lab's instrument; --tolerance=SIEMENS of a verifying read).

`radiomics` writes the radiomic features of the region that a mask marks in an
image (NRRD, NIfTI, MetaImage, DICOM, .npz), as pyradiomics and its parameter
files have them; IMAGE may be a CSV of cases with the columns Image and Mask.
Of --label=1; --definitions=ibsi for those of the IBSI; --maps=glcm_Idn with
--radius=1,2 for maps of features; --resample_mask for a mask on another grid.

`study` writes a page that shows real pairs of images beside pairs that a run of
`recipes.sequential_gan` makes, and asks which are real; the answers lie beside
it in answers.json, not in the page. With --score it says how often readers
(answers of several with commas between) were right.

`foodwise` runs a food-saving campaign whose plate photos an edge model grades;
`jaxedge foodwise --help` names its commands. It needs the extra
jaxedge[foodwise].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import importlib
import logging
from pathlib import Path
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxedge.core import checks

# Exit status of one of several processes that was stopped (EX_TEMPFAIL).
UNFINISHED = 75
COMMANDS = (
    "run", "chips", "report", "sweep", "compare", "export", "teach", "quantize",
    "eval", "radiomics", "study", "foodwise",
)  # fmt: skip


def console(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status (2: the input is at fault)."""
    logging.basicConfig(level=logging.WARNING, format="jaxedge: %(message)s")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["foodwise"]:
        # An application above this room: known by its name alone.
        commands = importlib.import_module("jaxedge.foodwise.commands")
        return commands.console(arguments[1:])
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
    if command in _MODEL_FLAGS:
        return _model_command(command, arguments)
    if command == "teach":
        return _teach(arguments)
    if command == "radiomics":
        return _radiomics(arguments)
    if command == "study":
        return _study(arguments)
    if command == "sweep":
        return _sweep(arguments)
    if command == "compare":
        return _compare(arguments)
    if command == "export":
        return _export(arguments)
    options = parse(arguments, needs_config=command != "report")
    folder = Path(options.workdir)
    # Only now: the heavy rooms load after the command line is known good.
    from jaxedge.run import hosts, job, loop, report, spread_over_cores

    spread_over_cores()
    if options.distributed:
        if command == "report":
            raise checks.UsageError(
                "--distributed is for `jaxedge run` and `jaxedge chips`, not"
                " for 'report', which one process draws."
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
            # A cluster has to see that it is not finished.
            return UNFINISHED if options.distributed else 0
        except loop.DivergedError as error:
            print(f"jaxedge: error: {error}", file=sys.stderr)
            return 1
    if hosts.leads():
        print(f"report: {page}")
    return 0


def _teach(arguments: list[str]) -> int:
    if not _source(arguments):
        raise checks.UsageError(
            "no --config was given; for example"
            " --config=configs/vit_variation.py:float."
        )
    values = _read(lambda args: _teach_flags(), arguments)
    for name in ("teacher", "out"):
        if not getattr(values, name):
            example = {
                "teacher": "resnet20_cifar10_akamaster",
                "out": "runs/teacher",
            }[name]
            raise checks.UsageError(
                f"no --{name} was given; for example --{name}={example}."
            )
    from jaxedge.run import loop, spread_over_cores, teach

    spread_over_cores()
    with loop.Stop().listening() as stop:
        try:
            folder = teach.teach(
                values.config,
                values.teacher,
                values.out,
                crops=values.crops,
                least=values.least,
                data_root=values.data_root,
                stop=stop,
            )
        except loop.Preempted as stopped:
            print(f"jaxedge: {stopped}; the same command goes on from there.")
            return 0
    print(f"teacher: {folder}")
    return 0


def _radiomics(arguments: list[str]) -> int:
    from jaxedge.run import radiomics_flags

    asked = radiomics_flags.parse(arguments)
    from jaxedge.run import loop, radiomics

    with loop.Stop().listening() as stop:
        try:
            failed = radiomics.run(asked, stop)
        except loop.Preempted as stopped:
            print(f"jaxedge: {stopped}; the same command goes on from there.")
            return 0
    print(f"features: {asked.out}")
    return 1 if failed else 0


def _study(arguments: list[str]) -> int:
    from jaxedge.run import forced_choice_flags

    asked = forced_choice_flags.parse(arguments)
    from jaxedge.run import forced_choice, spread_over_cores

    if isinstance(asked, forced_choice_flags.Score):
        for path in asked.answers:
            found = forced_choice.score(path, asked.key)
            print(f"{path}: {forced_choice.told(found)}")
        return 0
    spread_over_cores()
    page = forced_choice.export(*asked)
    print(f"page: {page}")
    print(f"key: {page.with_name(forced_choice.ANSWERS)} (not for readers)")
    return 0


def _sweep(arguments: list[str]) -> int:
    from jaxedge.run import sweep_flags

    asked = sweep_flags.parse(arguments)
    from jaxedge.run import searches

    return searches.run(asked)


def _compare(arguments: list[str]) -> int:
    from jaxedge.run import compare_flags

    asked = compare_flags.parse(arguments)
    from jaxedge.run import compare

    print(f"report: {compare.write(*asked)}")
    return 0


def _export(arguments: list[str]) -> int:
    from jaxedge.run import export_flags

    asked = export_flags.parse(arguments)
    from jaxedge.run.exports import command

    print(f"export: {command.run(asked)}")
    return 0


# Flags of the commands on pretrained transformers, and which are needed.
_MODEL_FLAGS = {
    "quantize": ("model", "out", "data_root"),
    "eval": (
        "model", "reference", "tasks", "data_root", "out", "length", "most",
    ),
}  # fmt: skip
_NEEDED = {"quantize": ("model", "out"), "eval": ("model",)}


def _model_command(command: str, arguments: list[str]) -> int:
    values = parse_model(command, arguments)
    from jaxedge.run import loop, quantize, spread_over_cores

    spread_over_cores()
    if command == "eval":
        quantize.evaluate(
            values.model,
            [task for task in (values.tasks or "").split(",") if task],
            reference=values.reference,
            data_root=values.data_root,
            length=values.length,
            most=values.most,
            out=values.out,
        )
        return 0
    with loop.Stop().listening() as stop:
        try:
            page = quantize.quantize(
                values.model,
                values.out,
                values.config,
                values.data_root,
                stop,
            )
        except loop.Preempted as stopped:
            print(f"jaxedge: {stopped}; the same command goes on from there.")
            return 0
    print(f"report: {page}")
    return 0


def parse_model(command: str, arguments: Sequence[str]) -> Any:
    """Reads the flags of "quantize" or "eval".

    Without --config the config of "quantize" is `llm_fp4.defaults`.

    Raises:
        UsageError: as `parse`.
    """
    filed = bool(_source(arguments))
    values = _read(lambda args: _model_flags(command, filed, args), arguments)
    for name in _NEEDED[command]:
        if not getattr(values, name):
            raise checks.UsageError(
                f"no --{name} was given; for example --{name}=runs/network."
            )
    return values


def parse(arguments: Sequence[str], needs_config: bool = True) -> Any:
    """Reads the flags into values; changes nothing and creates nothing.

    Raises:
        UsageError: for an unknown flag or config field, or a bad value.
    """
    if needs_config and not _source(arguments):
        raise checks.UsageError(
            "no --config was given; for example"
            " --config=configs/edge_pruning.py:digits."
        )
    values = _read(lambda args: _flags(), arguments)
    if not values.workdir:
        raise checks.UsageError(
            "no --workdir was given; for example --workdir=runs/digits."
        )
    return values


def _read(
    make: Callable[[list[str]], flags.FlagValues], arguments: Sequence[str]
) -> Any:
    """Reads flags, after a look at the config whose fields they may name.

    Args:
        make: the flags for some arguments.
        arguments: of the command.
    """
    source = _source(arguments)
    values = make(source)
    _parse(values, source)
    config = getattr(values, "config", None)
    if config is not None:
        known = dict(_paths(config))
        _check_once(arguments, known)
        for argument in arguments:
            if argument.lstrip("-").startswith("config."):
                _check_field(_name(argument).removeprefix("config."), known)
    # config_flags cannot empty a field of a type; None always means "empty".
    empty = [a for a in arguments if config is not None and _is_empty(a)]
    full = [a for a in arguments if a not in empty]
    values = make(full)
    rest = _parse(values, full)
    for argument in empty:
        _set_none(values.config, _name(argument).split(".")[1:])
    if rest:
        raise checks.UsageError(
            f"{rest[0]!r} is no flag; flags start with -- and are written"
            " --name=value."
        )
    if source and not isinstance(values.config, ConfigDict):
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


def _model_flags(
    command: str, filed: bool, arguments: list[str]
) -> flags.FlagValues:
    """Flags of a command for arguments; `filed` if a file has its config."""
    values = flags.FlagValues()
    for name in _MODEL_FLAGS[command]:
        if name in ("length", "most"):
            default = 128 if name == "length" else None
            flags.DEFINE_integer(
                name, default, "Number.", lower_bound=2, flag_values=values
            )
        else:
            flags.DEFINE_string(name, None, "Path.", flag_values=values)
    if command == "quantize" and filed:
        config_flags.DEFINE_config_file(
            "config", None, "How.", lock_config=True, flag_values=values
        )
    elif command == "quantize":
        from jaxedge.recipes import llm_fp4

        # Unlike that of a file, its fields become flags here and now.
        config_flags.DEFINE_config_dict(
            "config",
            llm_fp4.defaults(),
            flag_values=values,
            sys_argv=["jaxedge", *arguments],
        )
    return values


def _teach_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Data.", lock_config=True, flag_values=values
    )
    for name in ("teacher", "out", "data_root"):
        flags.DEFINE_string(name, None, "Name.", flag_values=values)
    flags.DEFINE_integer("crops", 8, "Of an image.", flag_values=values)
    flags.DEFINE_float("least", 0.25, "Of the area.", flag_values=values)
    return values


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
        list(getattr(values, "config", None) or ())
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
