"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, made for phones (Tan and Le, 2019).

This file has the network in plain torch. timm has it too, but needs torchvision, whose wheels on the package index do not load
with a torch that was built for CPUs only. Modules have the names of timm's `tf_efficientnet_lite0` inside the TimmWrapperModel of
transformers, so an adapter fits both. As in TensorFlow, the origin of the weights, padding is of the kind "same", and batch
normalisation adds 1e-3.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vertical_sdk.bases.weights import weight_files
from vertical_sdk.errors import BaseModelError
from vertical_sdk.types import Progress, silent

__all__ = ["ARCHITECTURE", "EfficientNetLite", "convert_checkpoint", "load_lite"]

ARCHITECTURE = "tf_efficientnet_lite0"
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Table 1 of the paper, one row for each stage: expansion inside a block, kernel, stride of the first block, channels, blocks."""
STEM, WIDTH, LABELS = 32, 1280, 1000
CONFIG: dict[str, Any] = {
    "model_type": "timm_wrapper",
    "architecture": ARCHITECTURE,
    "architectures": ["TimmWrapperModel"],
    "num_classes": LABELS,
    "num_features": WIDTH,
    "hidden_size": WIDTH,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "classifier": "classifier",
        "license": "apache-2.0",
    },
}
"""As timm writes it on the hub."""


class _Strided(nn.Conv2d):
    """A convolution that halves the side of its input, rounded up. An odd row of padding is added at the end."""

    def __init__(self, channels: int, out: int, kernel: int, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (max(0, (-(-n // 2) - 1) * 2 + k - n) for n, k in zip(x.shape[-2:], self.kernel_size, strict=True))
        return super().forward(F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)))


class _Separable(nn.Module):
    """A depthwise convolution, then a pointwise one."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _depthwise(channels, kernel, stride)
        self.bn1 = _norm(channels)
        self.conv_pw = _pointwise(channels, out)
        self.bn2 = _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))
        return out


class _Inverted(nn.Module):
    """An inverted residual block: expand, depthwise convolution, project. The input is added if both have the same shape."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, wider: int) -> None:
        super().__init__()
        self.conv_pw = _pointwise(channels, channels * wider)
        self.bn1 = _norm(channels * wider)
        self.conv_dw = _depthwise(channels * wider, kernel, stride)
        self.bn2 = _norm(channels * wider)
        self.conv_pwl = _pointwise(channels * wider, out)
        self.bn3 = _norm(out)
        self.added = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self.bn2(self.conv_dw(F.relu6(self.bn1(self.conv_pw(x))))))
        out: Tensor = self.bn3(self.conv_pwl(inner))
        return x + out if self.added else out


class _Network(nn.Module):
    """Pictures (rows, 3, h, w) → (rows, 1280, h/32, w/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _Strided(3, STEM, 3)
        self.bn1 = _norm(STEM)
        stages, channels = [], STEM
        for wider, kernel, stride, out, count in STAGES:
            blocks: list[nn.Module] = []
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(
                    _Separable(channels, out, kernel, step) if wider == 1 else _Inverted(channels, out, kernel, step, wider)
                )
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _pointwise(channels, WIDTH)
        self.bn2 = _norm(WIDTH)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(pixels))))
        return F.relu6(self.bn2(self.conv_head(x)))


class EfficientNetLite(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The network with the interface of image models in transformers: a map of features, and its mean over the picture."""

    config_class = PretrainedConfig
    base_model_prefix = "timm_model"
    main_input_name = "pixel_values"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.timm_model = _Network()

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: weights are read from a file, or are the initial ones of torch."""

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Return last_hidden_state (rows, 1280, h/32, w/32) and pooler_output (rows, 1280)."""
        maps = self.timm_model(pixel_values.contiguous(memory_format=torch.channels_last))
        return BaseModelOutputWithPooling(last_hidden_state=maps, pooler_output=maps.mean((2, 3)))


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride == 2:
        return _Strided(channels, channels, kernel, channels)
    return nn.Conv2d(channels, channels, kernel, padding=(kernel - 1) // 2, groups=channels, bias=False)


def _pointwise(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 1, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def load_lite(folder: Path) -> EfficientNetLite:
    """Load the network from a folder with timm's config.json and weights, without the classifier for ImageNet.

    Raises BaseModelError for a tensor that is missing or has another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = {key: value for file in weight_files(folder) for key, value in load_file(file).items()}
        with torch.device("meta"):
            config = PretrainedConfig(**CONFIG)
            config.name_or_path = str(folder)
            model: Any = EfficientNetLite(config)
        weights = {
            key.removeprefix("timm_model."): value.float() if value.is_floating_point() else value
            for key, value in state.items()
        }
        model.timm_model.load_state_dict({k: v for k, v in weights.items() if not k.startswith("classifier.")}, assign=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise BaseModelError(f"its weights are not those of {ARCHITECTURE}: {error}", where=folder) from None
    network: EfficientNetLite = model.to(memory_format=torch.channels_last)
    return network


def convert_checkpoint(file: Path, folder: Path, progress: Progress = silent) -> None:
    """Write a checkpoint of torch (.pth) of this network as safetensors and config.json, into a new folder.

    The restricted unpickler of torch (`weights_only=True`) reads the file. It knows tensors and plain containers, and calls
    nothing else. The tensors are in the order of timm, with other names.

    Raises BaseModelError for the tensors of another network.
    """
    from safetensors.torch import save_file

    progress(f"converting {file.name} to safetensors, once", 0.0)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        tensors = list(state.values())
        with torch.device("meta"):
            expected = _Network().state_dict()
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError) as error:
        raise BaseModelError(f"is cut, changed or not a checkpoint of torch: {error}", where=file) from None
    names = {**{key: tuple(value.shape) for key, value in expected.items()}}
    names |= {"classifier.weight": (LABELS, WIDTH), "classifier.bias": (LABELS,)}
    if [tuple(tensor.shape) for tensor in tensors] != list(names.values()):
        raise BaseModelError(f"its tensors are not those of {ARCHITECTURE}.", where=file)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: tensor.contiguous() for key, tensor in zip(names, tensors, strict=True)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    progress(f"converting {file.name} to safetensors, once", 1.0)
