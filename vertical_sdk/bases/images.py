"""Read how a vision base expects a picture: its side, and the mean and spread of its pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.bases.weights import read_json
from vertical_sdk.errors import BaseModelError

__all__ = ["PictureSettings", "read_picture_settings"]

FILES = ("preprocessor_config.json", "processor_config.json")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The values of ImageNet, with which nearly all models without stated values were trained."""
SIDE = 224


@dataclass(frozen=True)
class PictureSettings:
    """A picture is resized to `size` × `size` pixels of 0 to 1; then `mean` is subtracted from each channel, divided by `std`."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def text(self) -> str:
        """Write the settings as a line of JSON, for a digest."""
        return json.dumps(asdict(self), sort_keys=True)


def read_picture_settings(folder: Path) -> PictureSettings:
    """Read the settings from the image processor of a model, or from the config.json of timm; else use those of ImageNet.

    Raises BaseModelError for settings that cannot be used.
    """
    config = read_json(folder / "config.json")
    timm: Mapping[str, Any] = config.get("pretrained_cfg") or {}
    stated = {"image_mean": timm.get("mean"), "image_std": timm.get("std"), "size": timm.get("input_size")}
    where = folder / "config.json"
    for name in FILES:
        if (folder / name).is_file():
            where = folder / name
            read = read_json(where)
            stated = read.get("image_processor") or read
            break
    try:
        if stated.get("do_normalize") is False:
            stated = {**stated, "image_mean": (0.0,) * 3, "image_std": (1.0,) * 3}
        side = _parse_side(stated.get("crop_size") if stated.get("do_center_crop") else None) or _parse_side(stated.get("size"))
        size = _parse_side(config.get("image_size")) or side or SIDE
        settings = PictureSettings(
            size, _parse_channels(stated.get("image_mean"), MEAN), _parse_channels(stated.get("image_std"), STD)
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise BaseModelError(f"its settings for pictures cannot be read: {error}", where=where) from None
    if settings.size < 1 or min(settings.std) <= 0:
        raise BaseModelError(f"pictures cannot be prepared with {settings.text()}.", where=where)
    return settings


def _parse_side(stated: Any) -> int | None:
    """Read a side: 224, {"height": 224, "width": 224}, {"shortest_edge": 224}, [224, 224] and [3, 224, 224] all mean 224."""
    if stated is None:
        return None
    if isinstance(stated, Mapping):
        stated = stated.get("height") or stated.get("shortest_edge") or stated.get("longest_edge")
    if isinstance(stated, list | tuple):
        stated = stated[-1]
    return None if stated is None else int(stated)


def _parse_channels(stated: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
    if stated is None:
        return default
    numbers = [float(number) for number in stated] if isinstance(stated, list | tuple) else [float(stated)]
    if len(numbers) == 1:
        numbers *= 3
    red, green, blue = numbers
    return red, green, blue
