"""Published networks: other frameworks' arrays as flax variables.

A checkpoint is an `.npz` file with the arrays under the names that they have
where they come from. Every array of the file must have its place.
"""

from collections.abc import Callable, Iterator, Mapping
import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxedge.core import checks, npz
from jaxedge.core.trees import map_named
from jaxedge.models.resnet import ResNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Entry(NamedTuple):
    """Where a variable comes from.

    Attributes:
        keys: names of the file's arrays.
        make: these arrays -> the variable.
    """

    keys: tuple[str, ...]
    make: Callable[..., np.ndarray] = lambda array: array


# Path of a variable, such as "params/Dense_0/kernel" -> its entry.
Layout = dict[str, Entry]


class Checkpoint(NamedTuple):
    """A published network.

    Attributes:
        model: the network, with what it does to images of [0, 1].
        layout: where its variables come from.
        image: shape of its inputs.
        source: repository, commit and licence.
        error: of the test set as its authors state it; None if they do not.
    """

    model: ResNet
    layout: Callable[[ResNet], Layout]
    image: tuple[int, ...]
    source: str
    error: float | None


def load(
    name: str, path: str | os.PathLike[str]
) -> tuple[ResNet, dict[str, Any]]:
    """A network of `CHECKPOINTS` with its published arrays, or with yours.

    Args:
        name: of the network; it tells the architecture and the array names.
        path: the `.npz` file.

    Returns:
        The network and its variables, "params" and "batch_stats", in numpy.

    Raises:
        UsageError: for an unknown name, a missing or damaged file, an array
            that is missing, not wanted, or of another shape or type.
    """
    if name not in CHECKPOINTS:
        raise checks.unknown("checkpoint", name, CHECKPOINTS)
    known = CHECKPOINTS[name]
    layout = known.layout(known.model)
    arrays = _read(Path(path))
    _check_names(Path(path), arrays, layout)
    image = np.zeros((1, *known.image), np.float32)
    shapes = jax.eval_shape(known.model.init, jax.random.key(0), image)
    shapes.pop("counts")

    def variable(at: str, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        entry = layout[at]
        given = [arrays[key] for key in entry.keys]
        try:
            array = entry.make(*given)
        except ValueError:  # Another rank, or two that do not fit.
            array = np.zeros(0)
        if array.shape != shape.shape:
            found = ", ".join(
                f"{key} {a.shape}"
                for key, a in zip(entry.keys, given, strict=True)
            )
            raise checks.UsageError(
                f"{path}: {found} is no {at} of shape {shape.shape}; check"
                f" that the file is of {name}."
            )
        return np.ascontiguousarray(array, np.float32)

    return known.model, map_named(variable, shapes)


def torch_resnet(
    model: ResNet, stage: str = "layer{}", head: str = "linear"
) -> Layout:
    """The layout of the usual PyTorch classes, kernels as [O, I, h, w].

    Args:
        model: the network.
        stage: name of a stage by its number from 1.
        head: name of the dense layer.
    """
    layout = _torch_unit("Unit_0", "conv1", "bn1")
    for i, (number, place), changes in _blocks(model):
        block, at = f"{stage.format(number)}.{place}", f"Block_{i}/Unit"
        pairs = [("conv1", "bn1"), ("conv2", "bn2")]
        if changes:
            pairs.append(("downsample.0", "downsample.1"))
        for j, (conv, norm) in enumerate(pairs):
            layout |= _torch_unit(
                f"{at}_{j}", f"{block}.{conv}", f"{block}.{norm}"
            )
    layout["params/Dense_0/kernel"] = Entry((f"{head}.weight",), np.transpose)
    layout["params/Dense_0/bias"] = Entry((f"{head}.bias",))
    return layout


def _torch_unit(at: str, conv: str, norm: str) -> Layout:
    learned, kept = _norm_paths(at)
    return {
        f"params/{at}/Conv_0/kernel": Entry(
            (f"{conv}.weight",), lambda w: w.transpose(2, 3, 1, 0)
        ),
        f"{learned}/scale": Entry((f"{norm}.weight",)),
        f"{learned}/bias": Entry((f"{norm}.bias",)),
        f"{kept}/mean": Entry((f"{norm}.running_mean",)),
        f"{kept}/var": Entry((f"{norm}.running_var",)),
    }


def _crosssim_resnet(model: ResNet) -> Layout:
    """As in torch, but that the first normalisation has an eps of its own."""
    layout = torch_resnet(model, stage="res{}", head="classifier.2")
    var = f"{_norm_paths('Unit_0')[1]}/var"
    # Only their sum counts: what its eps is larger goes into the variance.
    more = np.float32(1e-3 - model.eps)
    layout[var] = Entry(layout[var].keys, lambda var: var + more)
    return layout


def _keras_resnet(model: ResNet) -> Layout:
    """Layers numbered as they were made; every convolution has a bias.

    A bias before a normalisation is one with its mean; the 1 x 1 convolutions
    have none behind them, for which neutral statistics stand.
    """
    layout: Layout = {}
    convs, norms = itertools.count(), itertools.count()

    def conv(at: str) -> str:
        name = _numbered("conv2d", next(convs))
        layout[f"params/{at}/Conv_0/kernel"] = Entry((f"{name}/kernel",))
        return f"{name}/bias"

    def unit(at: str) -> None:
        bias, (learned, kept) = conv(at), _norm_paths(at)
        norm = _numbered("batch_normalization", next(norms))
        mean = (f"{norm}/moving_mean", bias)
        layout[f"{learned}/scale"] = Entry((f"{norm}/gamma",))
        layout[f"{learned}/bias"] = Entry((f"{norm}/beta",))
        layout[f"{kept}/mean"] = Entry(mean, np.subtract)
        layout[f"{kept}/var"] = Entry((f"{norm}/moving_variance",))

    def lead(at: str) -> None:
        bias, (learned, kept) = (conv(at),), _norm_paths(at)
        layout[f"{learned}/scale"] = Entry(bias, np.ones_like)
        layout[f"{learned}/bias"] = Entry(bias)
        layout[f"{kept}/mean"] = Entry(bias, np.zeros_like)
        layout[f"{kept}/var"] = Entry(
            bias, lambda b: np.full_like(b, 1 - model.eps)
        )

    unit("Unit_0")
    for i, _, changes in _blocks(model):
        unit(f"Block_{i}/Unit_0")
        unit(f"Block_{i}/Unit_1")
        if changes:
            lead(f"Block_{i}/Unit_2")
    layout["params/Dense_0/kernel"] = Entry(("dense/kernel",))
    layout["params/Dense_0/bias"] = Entry(("dense/bias",))
    return layout


def _numbered(name: str, i: int) -> str:
    return f"{name}_{i}" if i else name


def _norm_paths(at: str) -> tuple[str, str]:
    """Where a unit has what it learns and what it keeps count of."""
    norm = f"{at}/Norm_0/BatchNorm_0"
    return f"params/{norm}", f"batch_stats/{norm}"


def _blocks(model: ResNet) -> Iterator[tuple[int, tuple[int, int], bool]]:
    """(number, (stage from 1, place in it), whether a unit leads around)."""
    each = (model.depth - 2) // 6
    for i in range(len(model.channels) * each):
        stage, place = divmod(i, each)
        changes = model.shortcut == "conv" and stage > 0 and place == 0
        yield i, (stage + 1, place), changes


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, finite numbers."""
    try:
        arrays = npz.load(path)
    except FileNotFoundError as error:
        raise checks.UsageError(
            f"there is no checkpoint {path}; put the file there, or give the"
            " path of yours."
        ) from error
    except npz.DAMAGED as error:
        raise checks.UsageError(
            f"{path} cannot be read as an .npz file ({npz.reason(error)});"
            " replace it with an intact copy."
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise checks.UsageError(
                f"{path}: {name} is {array.dtype}, but must be floating-point."
            )
        checks.finite(f"{path}: {name}", array)
    return arrays


def _check_names(
    path: Path, arrays: Mapping[str, np.ndarray], layout: Layout
) -> None:
    """Raises unless the file has all arrays of the layout, and no others."""
    wanted = {key for entry in layout.values() for key in entry.keys}
    for fault, names in (
        ("lacks", wanted - arrays.keys()),
        ("has, unknown to this network,", arrays.keys() - wanted),
    ):
        if names:
            shown = sorted(names)[:5]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise checks.UsageError(
                f"{path} {fault} {', '.join(shown)}{more}; check that the file"
                " is of this network."
            )


def _normalising(depth: int, shortcut: str = "pad") -> ResNet:
    return ResNet(
        depth=depth, shortcut=shortcut, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )


_AKAMASTER = "akamaster/pytorch_resnet_cifar10@d5489e89 (BSD)"
CHECKPOINTS: dict[str, Checkpoint] = {
    "resnet20_cifar10_akamaster": Checkpoint(
        _normalising(20),
        torch_resnet,
        (32, 32, 3),
        _AKAMASTER,
        error=0.0827,
    ),
    "resnet56_cifar10_akamaster": Checkpoint(
        _normalising(56),
        torch_resnet,
        (32, 32, 3),
        _AKAMASTER,
        error=0.0661,
    ),
    "resnet20_cifar10_crosssim": Checkpoint(
        _normalising(20, "conv"),
        _crosssim_resnet,
        (32, 32, 3),
        "sandialabs/cross-sim@0a2eb1ed",
        error=None,
    ),
    "resnet8_cifar10_mlperf_tiny": Checkpoint(
        ResNet(
            depth=8,
            shortcut="conv",
            padding="SAME",
            eps=1e-3,
            # It takes pixels from 0 to 255.
            std=(1 / 255, 1 / 255, 1 / 255),
        ),
        _keras_resnet,
        (32, 32, 3),
        "mlcommons/tiny@1afd2c98 (Apache-2.0)",
        error=None,
    ),
}
