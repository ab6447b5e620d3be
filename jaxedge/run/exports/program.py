"""Networks as StableHLO, for any number of examples and several platforms.

`jax.export` keeps its promise of compatibility for a time only: a file is for
delivery, and the workdir is the archive.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
import zipfile
import zlib

import jax
from jax import export
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import path_name
from jaxedge.run.exports import folder

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_EXTRA = "flatbuffers"
# The draws of one call are counted in 32 bits.
_MOST = 4096


class Network(NamedTuple):
    """A network to export.

    Attributes:
        forward: (variables, x, key) -> outputs.
        variables: with hardware leaves or without.
        x: some inputs, [B, ...].
        noise: whether it reads with noise, so that it takes a key.
    """

    forward: Callable[..., Any]
    variables: Any
    x: Any
    noise: bool

    def function(self) -> Callable[..., Any]:
        """(arguments, x, key if there is noise) -> outputs."""
        tree = jax.tree.structure(self.variables)

        def run(leaves: Any, x: Any, *key: Any) -> Any:
            variables = jax.tree.unflatten(tree, leaves)
            return _plain(self.forward(variables, x, *(key or (None,))))

        return run

    @property
    def arguments(self) -> dict[str, np.ndarray]:
        """Arrays of the variables by path, in the order they are taken."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.variables)
        return {path_name(path): np.asarray(leaf) for path, leaf in leaves}


def available() -> bool:
    """Whether programs can be written here."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        return False
    return True


def write(
    path: Path,
    network: Network,
    platforms: Sequence[str],
    batch: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Writes a program, and its arrays beside it.

    Args:
        path: of the program; the arrays are `<path>.npz`.
        network: what to export.
        platforms: of `PLATFORMS`.
        batch: examples of a call; None takes any number, at most `_MOST` of
            one with noise.

    Returns:
        What is to be known of the two files, by name.

    Raises:
        UsageError: without flatbuffers, or for a network that needs to know
            how many examples there are.
    """
    if not available():
        raise checks.UsageError(
            f"stablehlo needs {_EXTRA}; pip install 'jaxedge[export]'."
        )
    arguments = network.arguments
    leaves = [
        jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments.values()
    ]
    keys = [jax.eval_shape(lambda: jax.random.key(0))] * network.noise
    size: Any = batch
    if batch is None:
        limits = [f"b <= {_MOST}"] * network.noise
        (size,) = export.symbolic_shape("b", constraints=limits)
    x = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(
            (size, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype)
        ),
        network.x,
    )
    make = export.export(jax.jit(network.function()), platforms=platforms)
    try:
        exported = make(leaves, x, *keys)
    except Exception as error:  # noqa: BLE001 - of a foreign trace
        if batch is not None:
            raise
        raise checks.UsageError(
            "the network cannot be written for any number of examples"
            f" ({str(error).splitlines()[0]}); give the number of a call, such"
            " as --batch=1."
        ) from error
    path.write_bytes(exported.serialize())
    with path.with_name(path.name + ".npz").open("wb") as file:
        np.savez(file, **arguments)  # type: ignore[arg-type]
    facts = {
        "format": "stablehlo",
        "platforms": list(platforms),
        "batch": batch or "any",
        "noise": network.noise,
        "most": _MOST if network.noise and batch is None else None,
        "inputs": [f"{a.dtype}{list(a.shape[1:])}" for a in jax.tree.leaves(x)],
        "outputs": [str(aval) for aval in exported.out_avals],
        "jax": jax.__version__,
    }
    dtypes = {name: a.dtype.name for name, a in arguments.items()}
    return {
        path.name: facts,
        f"{path.name}.npz": {"format": "arguments", "dtypes": dtypes},
    }


def load(path: str | Path) -> Callable[..., Any]:
    """A network from a StableHLO file of an export.

    Args:
        path: of the `.stablehlo` file; its arrays lie beside it.

    Returns:
        f(x) -> outputs for inputs [B, ...], compiled; f(x, key=) where reads
        have noise. It keeps the arrays and computes what the network did.

    Raises:
        UsageError: for a file that is missing or damaged, or of a release that
            this one does not read. The function: for a key that is missing or
            not needed.
    """
    path = Path(path)
    _, facts = folder.checked(path)
    if facts.get("format") != "stablehlo":
        raise checks.UsageError(
            f"{path} is no program; name a file that ends in .stablehlo."
        )
    stored = path.with_name(path.name + ".npz")
    _, noted = folder.checked(stored)
    leaves = jax.device_put(_arrays(stored, noted["dtypes"]))
    try:
        exported = export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:  # noqa: BLE001 - of another release
        raise checks.UsageError(
            f"{path} was written by jax {facts.get('jax')} and cannot be read"
            f" by {jax.__version__} ({str(error).splitlines()[0]}); export"
            " again with this release."
        ) from error
    call = jax.jit(exported.call)

    def run(x: Any, key: jax.Array | None = None) -> Any:
        if (key is not None) != facts["noise"]:
            raise checks.UsageError(
                f"{path} reads with noise; give key=jax.random.key(0), another"
                " for each call, or export with --noise=none."
                if facts["noise"]
                else f"{path} reads without noise and takes no key."
            )
        return call(leaves, x, *(() if key is None else (key,)))

    return run


def difference(path: Path, network: Network, rows: int = 2) -> float:
    """How far a file read back is off the network, at most, for some inputs."""
    x = jax.tree.map(lambda a: jax.numpy.asarray(a[:rows]), network.x)
    keys = (jax.random.key(1),) * network.noise
    found = load(path)(x, *keys)
    wanted = jax.jit(network.function())(
        list(network.arguments.values()), x, *keys
    )
    off = jax.tree.map(
        lambda a, b: np.max(
            np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
        ),
        found,
        wanted,
    )
    return float(max(jax.tree.leaves(off)))


def _arrays(path: Path, dtypes: Mapping[str, str]) -> list[np.ndarray]:
    """The arguments in order; numpy forgets the name of a narrow float."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [
                file[name].view(jax.numpy.dtype(dtype))
                for name, dtype in dtypes.items()
            ]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise checks.UsageError(
            f"{path} is damaged ({e}); export again."
        ) from None


def _plain(node: Any) -> Any:
    """Outputs that need no type of ours: NamedTuples become dicts."""
    if hasattr(node, "_asdict"):
        node = node._asdict()
    if isinstance(node, Mapping):
        return {name: _plain(entry) for name, entry in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(entry) for entry in node]
    return node
