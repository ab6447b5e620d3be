"""A network as ONNX, checked against onnxruntime; see scripts/export_onnx."""

import argparse
from pathlib import Path
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge import hardware
from jaxedge.core import checks
from jaxedge.run.exports import folder, source

# Of the largest output.
TOLERANCE = 1e-5


def plain(leaf: Any) -> Any:
    """The matrix that a trained weight stands for, where it is only that.

    jax2onnx stands in for functions such as `jnp.shape` while it traces, which
    the checks of those leaves do not survive.
    """
    if isinstance(leaf, hardware.Ranged):
        return plain(leaf.weights)
    if isinstance(leaf, hardware.MaskedRandom):
        return leaf.weights * leaf.mask
    return leaf


def write(path: Path, opened: source.Source) -> float:
    """Writes a network; returns how far onnxruntime is off, at most.

    Raises:
        UsageError: for a network that jax2onnx cannot convert, or that comes
            out as another one.
    """
    # Of an environment of their own.
    import jax2onnx  # pyright: ignore[reportMissingImports]
    import onnxruntime  # pyright: ignore[reportMissingImports]

    variables = jax.tree.map(
        plain, opened.variables, is_leaf=hardware.is_weight
    )
    variables = jax.tree.map(jnp.asarray, variables)
    x = np.asarray(opened.job.splits["test"].x)

    def forward(x: jax.Array) -> Any:
        return opened.job.recipe.forward(variables, x, None)

    try:
        jax2onnx.to_onnx(
            forward,
            [("B", *x.shape[1:])],
            return_mode="file",
            output_path=str(path),
        )
        session = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - of a foreign converter
        raise checks.UsageError(
            f"jax2onnx cannot convert this network ({str(error)[:200]}); use"
            " `jaxedge export --as=stablehlo`."
        ) from error
    name, off = session.get_inputs()[0].name, 0.0
    for n in (1, 5):
        (found, *_) = session.run(None, {name: x[:n].astype(np.float32)})
        wanted = np.asarray(jax.jit(forward)(jnp.asarray(x[:n])))
        size = np.max(np.abs(wanted))
        off = max(off, float(np.max(np.abs(found - wanted)) / max(size, 1)))
    if not off <= TOLERANCE:
        path.unlink()
        raise checks.UsageError(
            f"the converted network is off by {off:.2g} of the largest output,"
            f" more than {TOLERANCE:g}; use `jaxedge export --as=stablehlo`."
        )
    return off


def main() -> int:
    """Reads the flags, writes, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--data_root")
    given = parser.parse_args()
    try:
        opened = source.opened(given.workdir, given.data_root)
        folder.prepare(given.out, opened.digest)
        path = given.out / "network.onnx"
        off = write(path, opened)
    except checks.UsageError as error:
        print(f"export_onnx: error: {error}", file=sys.stderr)
        return 2
    facts = {"format": "onnx", "batch": "any", "largest_difference": off}
    folder.note(given.out, opened.about, {path.name: facts})
    print(f"{path}: onnxruntime is off by {off:.2g} of the largest output")
    return 0


if __name__ == "__main__":
    sys.exit(main())
