"""Tiny networks for images of other libraries, and what they compute.

    PEER_PYTHON scripts/peers/vision_reference.py [FOLDER]

PEER_PYTHON is a Python that has torch, torchvision, timm and transformers; it
needs nothing of jaxedge. FOLDER is by default tests/models/vision, where the
results are kept: one .npz file a network with its tensors, drawn by numpy from
a fixed seed, as "tensors/NAME", with images `x` [B, H, W, 3], normalised
already, and the scores `y` [B, classes]. The file of ResNet-18, which cannot
be made small, has the shapes of the tensors in place of them; they are drawn
as `uniform` does. Those of EfficientNet have shapes too, drawn as `lively`
does, and what a stage of it shows in means over 3 x 3 parts, `features`; the
small one has also the scores of a step of training, `trained`, and its running
statistics behind it, "after/NAME".
"""

from pathlib import Path
import sys
import tempfile
from typing import Any
import zlib

import numpy as np
import safetensors.numpy
import timm  # type: ignore
import timm.models.efficientnet as timm_efficientnet  # type: ignore
import timm.models.swin_transformer  # type: ignore
import timm.models.vision_transformer  # type: ignore
import torch  # type: ignore
import torchvision  # type: ignore
import transformers  # type: ignore

FOLDER = Path(__file__).parents[2] / "tests" / "models" / "vision"
CLASSES, IMAGES = 5, 2
_VIT = {"image_size": 16, "patch_size": 8}
_SWIN = {"depths": [2, 2], "num_heads": [2, 4]}


class Vits:
    """Image 16, patch 8, width 8, depth 2, heads 2, feed-forward 16."""

    @staticmethod
    def timm() -> Any:
        return timm.models.vision_transformer.VisionTransformer(
            img_size=16,
            patch_size=8,
            num_classes=CLASSES,
            embed_dim=8,
            depth=2,
            num_heads=2,
            mlp_ratio=2.0,
        )

    @staticmethod
    def torchvision() -> Any:
        return torchvision.models.VisionTransformer(
            **_VIT,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
            num_classes=CLASSES,
        )

    @staticmethod
    def transformers() -> Any:
        config = transformers.ViTConfig(
            **_VIT,
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            layer_norm_eps=1e-6,
            num_labels=CLASSES,
        )
        return transformers.ViTForImageClassification(config)


class Swins:
    """Image 32, patch 4, width 8, depths 2 and 2, heads 2 and 4, window 4.

    The second stage has 4 x 4 tokens, so that nothing is shifted there.
    """

    @staticmethod
    def timm() -> Any:
        return timm.models.swin_transformer.SwinTransformer(
            img_size=32,
            patch_size=4,
            num_classes=CLASSES,
            embed_dim=8,
            depths=(2, 2),
            num_heads=(2, 4),
            window_size=4,
            mlp_ratio=2.0,
        )

    @staticmethod
    def torchvision() -> Any:
        return torchvision.models.SwinTransformer(
            **_SWIN,
            patch_size=[4, 4],
            embed_dim=8,
            window_size=[4, 4],
            mlp_ratio=2.0,
            num_classes=CLASSES,
        )

    @staticmethod
    def transformers() -> Any:
        config = transformers.SwinConfig(
            **_SWIN,
            image_size=32,
            patch_size=4,
            embed_dim=8,
            window_size=4,
            mlp_ratio=2.0,
            num_labels=CLASSES,
        )
        return transformers.SwinForImageClassification(config)


def mobilenet() -> Any:
    """Fewer stages than the published network, but all kinds of blocks."""
    blocks = [[1, 8, 1, 1], [6, 8, 2, 2], [6, 24, 1, 2]]
    return torchvision.models.MobileNetV2(
        num_classes=CLASSES, width_mult=0.5, inverted_residual_setting=blocks
    )


def efficientnet() -> Any:
    """All kinds of blocks: with and without widening, led around or not."""
    return timm_efficientnet.EfficientNet(
        timm_efficientnet.decode_arch_def(
            [
                ["ds_r2_k3_s1_e1_c16_se0.25"],
                ["ir_r2_k5_s2_e6_c24_se0.25"],
                ["ir_r1_k3_s1_e6_c40_se0.25"],
            ],
            depth_multiplier=0.75,
        ),
        num_classes=CLASSES,
        num_features=640,
        act_layer=torch.nn.SiLU,
        round_chs_fn=lambda n: timm_efficientnet.round_channels(n, 0.5),
    )


def fill(network: Any, rng: np.random.Generator) -> None:
    """Draws every tensor: scales around 1, variances above 0."""
    kinds = (torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    for module in network.modules():
        for name, tensor in module.named_parameters(recurse=False):
            scale = isinstance(module, kinds) and name == "weight"
            fan = np.prod(tensor.shape[1:]) if tensor.ndim > 1 else 1
            std = 0.3 if tensor.ndim < 2 else max(fan, 1) ** -0.5
            values = rng.normal(float(scale), std, tuple(tensor.shape))
            tensor.data = torch.tensor(values, dtype=torch.float32)
        if isinstance(module, torch.nn.BatchNorm2d):
            shape = tuple(module.running_var.shape)
            for name, low in (("running_mean", -0.5), ("running_var", 0.5)):
                values = rng.uniform(low, low + 1, shape)
                getattr(module, name).data = torch.tensor(
                    values, dtype=torch.float32
                )


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers from [-1, 1) / sqrt(fan in); of one axis from [0.5, 1.5)."""
    # The legacy generator, as its stream is the same in every version.
    state = np.random.RandomState(zlib.crc32(name.encode()))
    fan = float(np.prod(shape[1:]))
    draw = state.uniform(-1, 1, shape)
    values = draw / np.sqrt(fan) if len(shape) > 1 else 1 + draw / 2
    return values.astype(np.float32)


def lively(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """As `uniform`, so that images differ behind many layers too.

    Kernels have a variance of 2 / fan in, and biases and running means lie
    around 0.
    """
    values = uniform(name, shape)
    if len(shape) > 1:
        return values * np.float32(6**0.5)
    return values - np.float32(name.endswith(("bias", "running_mean")))


def tensors(network: Any) -> dict[str, np.ndarray]:
    """The tensors by their names; of transformers as its files have them."""
    if isinstance(network, transformers.PreTrainedModel):
        with tempfile.TemporaryDirectory() as folder:
            network.save_pretrained(folder)
            path = Path(folder) / "model.safetensors"
            return safetensors.numpy.load_file(path)
    return {k: v.numpy() for k, v in network.state_dict().items()}


def scores(network: Any, x: np.ndarray) -> np.ndarray:
    """What a network makes of images [B, H, W, C]."""
    network.eval()
    with torch.no_grad():
        y = network(torch.tensor(x.transpose(0, 3, 1, 2)))
    return (y if isinstance(y, torch.Tensor) else y.logits).numpy()


def seen(network: Any, x: np.ndarray, stage: int) -> np.ndarray:
    """Outputs of a stage in means over 3 x 3 parts, flattened."""
    kept = []
    hook = network.blocks[stage].register_forward_hook(
        lambda module, given, y: kept.append(y)
    )
    scores(network, x)
    hook.remove()
    parts = torch.nn.functional.adaptive_avg_pool2d(kept[0], 3)
    return parts.flatten(1).numpy()


def step(network: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """What a network does in training, before it learns."""
    network.train()
    with torch.no_grad():
        y = network(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    after = {
        f"after/{name}": a
        for name, a in tensors(network).items()
        if name.endswith(("running_mean", "running_var"))
    }
    return {"trained": y, **after}


def draw(network: Any) -> dict[str, np.ndarray]:
    """Draws the tensors as `lively` does, and returns their shapes."""
    shapes = {k: a.shape for k, a in tensors(network).items() if a.ndim}
    drawn = {k: torch.tensor(lively(k, s)) for k, s in shapes.items()}
    network.load_state_dict(drawn, strict=False)
    return {f"shapes/{k}": np.array(s, np.int32) for k, s in shapes.items()}


def efficientnets(folder: Path) -> None:
    """Writes B0 and the small one."""
    rng = np.random.default_rng(0)
    for name, network, side, stage in (
        ("efficientnet_timm", timm.create_model(
            "efficientnet_b0", num_classes=CLASSES), 49, 4),
        ("efficientnet_small_timm", efficientnet(), 19, 1),
    ):  # fmt: skip
        named = draw(network)
        x = rng.normal(size=(IMAGES, side, side, 3)).astype(np.float32)
        named |= {"y": scores(network, x), "features": seen(network, x, stage)}
        if "small" in name:
            named |= step(network, x)
        write(folder / f"{name}.npz", x=x, **named)


def write(path: Path, **arrays: np.ndarray) -> None:
    """Writes a file and says how large it is."""
    np.savez_compressed(path, **arrays)  # type: ignore
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    """Writes every network."""
    # One order of additions, whatever the machine.
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    networks = {
        "vit_timm": (Vits.timm, 16),
        "vit_torchvision": (Vits.torchvision, 16),
        "vit_transformers": (Vits.transformers, 16),
        "swin_timm": (Swins.timm, 32),
        "swin_torchvision": (Swins.torchvision, 32),
        "swin_transformers": (Swins.transformers, 32),
        "mobilenet_torchvision": (mobilenet, 32),
    }
    for name, (make, side) in networks.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        network = make()
        fill(network, rng)
        x = rng.normal(size=(IMAGES, side, side, 3)).astype(np.float32)
        named = {f"tensors/{k}": a for k, a in tensors(network).items()}
        write(folder / f"{name}.npz", x=x, y=scores(network, x), **named)
    network = torchvision.models.resnet18(num_classes=CLASSES)
    shapes = {k: a.shape for k, a in tensors(network).items() if a.ndim}
    drawn = {k: torch.tensor(uniform(k, s)) for k, s in shapes.items()}
    network.load_state_dict(drawn, strict=False)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 33, 33, 3)).astype(np.float32)
    named = {f"shapes/{k}": np.array(s, np.int32) for k, s in shapes.items()}
    y = scores(network, x)
    write(folder / "resnet18_torchvision.npz", x=x, y=y, **named)
    efficientnets(folder)
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__},"
        f" timm {timm.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
