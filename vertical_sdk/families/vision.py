"""Vision: a backbone that reads a picture, pooled into one vector, with a linear head on it.

Nothing of the base is trained but LoRA, on linear layers and on convolutions that join channels; batch normalisation keeps the
statistics that it was trained with.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertical_sdk.bases.base import Base
from vertical_sdk.bases.images import read_picture_settings
from vertical_sdk.errors import BaseModelError, DataError, RecipeError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.head import Head
from vertical_sdk.families.lora import with_lora
from vertical_sdk.families.pooled import PooledSpecialist
from vertical_sdk.families.specialist import Batch, load_backbone
from vertical_sdk.recipe import Recipe
from vertical_sdk.tables import TASKS
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Family, LabelSpace, Modality, Numbers, SeriesLayout

__all__ = ["VisionSpecialist", "activation_map", "lora_targets"]

CELL = 8
"""Pixels of a square that counts as one token for a convolutional network; a Vision Transformer has one token for each patch."""


class VisionSpecialist(PooledSpecialist):
    """An image as pixels, pooled over its positions."""

    reads: ClassVar[Modality] = "image"
    bases: ClassVar[tuple[Family, ...]] = ("vision",)
    auto_class: ClassVar[str] = "AutoModel"
    head: Head

    def __init__(self, backbone: Any, base: Base, recipe: Recipe, labels: LabelSpace | None, head: Head | None = None) -> None:
        super().__init__(backbone, base, recipe, labels)
        settings = read_picture_settings(base.path)
        self.size = recipe.image.size or settings.size
        patch = getattr(backbone.get_base_model().config, "patch_size", None)
        self.max_length = math.ceil(self.size / (patch if isinstance(patch, int) else CELL)) ** 2
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(settings.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).reshape(3, 1, 1), persistent=False)
        self.more = _any_size(backbone.get_base_model(), self.size)
        self.head = head or Head(self._width(base), len(labels) if labels else 1)

    @classmethod
    def build_untrained(
        cls, base: Base, recipe: Recipe, labels: LabelSpace | None, layout: SeriesLayout | None = None
    ) -> VisionSpecialist:
        """Build an untrained specialist: LoRA that changes nothing yet, and a head of random weights."""
        if "image" not in get_task(recipe.task).modalities:
            able = ", ".join(name for name in TASKS if "image" in get_task(name).modalities)
            raise RecipeError(f"{base.name} reads images and can do {able}, not {recipe.task}.", where=recipe.name)
        model = load_backbone(base)
        targets = {} if "target_modules" in recipe.adapter else {"target_modules": lora_targets(model)}
        return cls(with_lora(model, {**targets, **recipe.adapter}, None, recipe.name), base, recipe, labels)

    def self_test_row(self, text: str) -> Example:
        """An image of 8 × 8 squares whose greys are the text's SHAKE-256 (FIPS 202): the same on every machine, from no data set."""
        greys = np.frombuffer(hashlib.shake_256(text.encode()).digest(64), dtype=np.uint8).reshape(8, 8)
        return Example(id=text, text=text, values=np.kron(greys, np.ones((4, 4), dtype=np.uint8)))

    def encode(self, example: Example, *, learn: bool) -> Encoded:
        """Convert the image to bytes, no larger than the backbone sees it.

        Raises DataError for a row that is not an image.
        """
        picture = example.values
        if (
            picture is None
            or picture.dtype != np.uint8
            or not picture.size
            or picture.shape[2:] not in {(), (3,)}
            or picture.ndim < 2
        ):
            found = "nothing" if picture is None else f"{picture.dtype} {picture.shape}"
            raise DataError(f"row {example.id}: a picture must be bytes (height, width) or (height, width, 3), not {found}.")
        height, width = (min(self.size, side) for side in picture.shape[:2])
        if (height, width) != picture.shape[:2]:
            small = _resized(_channels_first(picture)[None], height, width)[0].round().clamp(0, 255).to(torch.uint8)
            picture = small.permute(1, 2, 0).numpy().reshape(height, width, *picture.shape[2:])
        target = get_task(self.task).encode_target(example.target, self.labels) if learn else None
        return Encoded(target=target, values=picture, size=self.max_length)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """pixel_values (rows, 3, size, size), the whole picture, in the base's own scale; targets if rows have them."""
        pictures = [_channels_first(row.values).expand(3, -1, -1) for row in rows if row.values is not None]
        if len({picture.shape for picture in pictures}) == 1:
            pixels = _resized(torch.stack(pictures), self.size, self.size)
        else:
            pixels = torch.cat([_resized(picture[None], self.size, self.size) for picture in pictures])
        batch = {"pixel_values": (pixels / 255 - self.mean.cpu()) / self.std.cpu()}
        if rows[0].target is not None:
            batch["targets"] = torch.tensor([row.target for row in rows])
        return batch

    def maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute features of each position of the image, (rows, width, h, w), and of the whole image, (rows, width)."""
        pixels = batch["pixel_values"].to(next(self.backbone.parameters()).dtype)
        said = self.backbone(pixel_values=pixels, **self.more)
        hidden, pooled = said.last_hidden_state, getattr(said, "pooler_output", None)
        if hidden.ndim == 4:  # a convolutional network; its own pooling has weights of its own in some
            return hidden, (hidden.mean((2, 3)) if pooled is None else pooled.flatten(1)).float()
        side = int(hidden.shape[1] ** 0.5)  # the tokens before the patches summarize the image
        patches = hidden[:, hidden.shape[1] - side * side :]
        pooled = hidden[:, 0] if self.pooling == "cls" else hidden.mean(1)
        return patches.transpose(1, 2).unflatten(2, (side, side)), pooled.float()

    def features(self, batch: Batch) -> Tensor:
        """Pooled over the picture, of length 1: (rows, width)."""
        return F.normalize(self.maps(batch)[1], dim=-1)

    def train(self, mode: bool = True) -> VisionSpecialist:
        """Training mode for head and LoRA alone: batch normalisation and stochastic depth belong to the frozen base."""
        super().train(mode)
        self.backbone.eval()
        for name, module in self.backbone.named_modules():
            if "lora_dropout" in name:
                module.train(mode)
        return self

    def _width(self, base: Base) -> int:
        """Measure the width of the backbone's features, which configurations name in too many ways."""
        device = next(self.backbone.parameters()).device
        try:
            with torch.inference_mode():
                return int(self.maps({"pixel_values": torch.zeros(1, 3, self.size, self.size, device=device)})[1].shape[1])
        except (RuntimeError, ValueError, AttributeError, TypeError) as error:
            raise BaseModelError(
                f"{base.name}: cannot read pictures of {self.size} pixels with three channels: {error}"
            ) from None


def lora_targets(model: Any) -> list[str]:
    """Choose the layers for LoRA if a recipe names none: linear layers, and convolutions that join channels.

    Left out are: depthwise and grouped convolutions, whose weights are few and into which LoRA cannot be merged; the convolution
    that reads the image itself; convolutions with a padding of their own, which LoRA would miss; and layers after the features.

    Raises BaseModelError if there is no such layer.
    """
    names = [
        name
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) or (type(module) is nn.Conv2d and module.groups == 1 and module.in_channels > 3))
        and not any(part in {"pooler", "classifier"} for part in name.split("."))
    ]
    if not names:
        raise BaseModelError(f"{type(model).__name__}: has no linear layer and no convolution that LoRA could go on.")
    return names


def activation_map(specialist: VisionSpecialist, picture: Numbers, label: int) -> Numbers:
    """Compute a class activation map: the positions of the evidence for a label (Zhou et al., 2016).

    picture  (h, w) or (h, w, 3) bytes
    label    its position among the labels; 0 for regression
    returns  (h, w) float32: of each place the head's weights for the label times what the backbone makes of it. Of several
             labels of which one holds, the labels' mean is taken off. Before it is drawn out to the picture's size, the map's
             mean is the label's output less the bias, where the base pools by the mean over places.
    """
    head = specialist.head
    weight = head.linear.weight.detach()
    if get_task(specialist.task).single_label:
        weight = weight - weight.mean(0)
    batch = specialist.collate([specialist.encode(Example(id="picture", values=picture), learn=False)])
    specialist.eval()
    with torch.inference_mode():
        device = next(specialist.backbone.parameters()).device
        maps, pooled = specialist.maps({key: value.to(device) for key, value in batch.items()})
        evidence = torch.einsum("c,chw->hw", weight[label], maps[0].float()) / pooled[0].norm().clamp_min(1e-12)
        drawn = F.interpolate(evidence[None, None], size=picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]
    made: Numbers = (drawn * head.std).cpu().numpy().astype(np.float32)
    return made


def _channels_first(picture: Numbers) -> Tensor:
    """(1 or 3, h, w) float of 0 to 255."""
    whole = torch.from_numpy(np.array(picture, dtype=np.float32))
    return whole[None] if whole.ndim == 2 else whole.permute(2, 0, 1)


def _resized(pictures: Tensor, height: int, width: int) -> Tensor:
    """(rows, channels, height, width), bilinear; where it gets smaller, over all pixels that fall together."""
    if pictures.shape[-2:] == (height, width):
        return pictures
    return F.interpolate(pictures, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def _any_size(model: Any, size: int) -> dict[str, bool]:
    """Collect the arguments with which a transformer reads images of another size than in its training."""
    own = getattr(model.config, "image_size", None)
    known = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    return {"interpolate_pos_encoding": True} if known and own not in {None, size} else {}
