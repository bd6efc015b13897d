"""How a vision base wants to see a picture: its side, and what its greys are measured from. Read from the model's folder."""

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
"""Of ImageNet's pictures: what nearly all models were trained with that do not say it."""
SIDE = 224


@dataclass(frozen=True)
class PictureSettings:
    """A picture is brought to `size` × `size` pixels of 0 to 1; each channel then has `mean` taken off and is divided by `std`."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def text(self) -> str:
        """The settings as a line of JSON, for a digest."""
        return json.dumps(asdict(self), sort_keys=True)


def read_picture_settings(folder: Path) -> PictureSettings:
    """What the files of a model's image processor say, or timm's config.json; ImageNet's mean and spread where none does.

    Raises BaseModelError for settings that cannot be used.
    """
    config = read_json(folder / "config.json")
    said: Mapping[str, Any] = config.get("pretrained_cfg") or {}
    stated = {"image_mean": said.get("mean"), "image_std": said.get("std"), "size": said.get("input_size")}
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
        raise BaseModelError(f"{where}: says how pictures are prepared in a way that is not understood: {error}") from None
    if settings.size < 1 or min(settings.std) <= 0:
        raise BaseModelError(f"{where}: pictures cannot be prepared with {settings.text()}.")
    return settings


def _parse_side(said: Any) -> int | None:
    """224, {"height": 224, "width": 224}, {"shortest_edge": 224}, [224, 224] and [3, 224, 224] are all a side of 224."""
    if said is None:
        return None
    if isinstance(said, Mapping):
        said = said.get("height") or said.get("shortest_edge") or said.get("longest_edge")
    if isinstance(said, list | tuple):
        said = said[-1]
    return None if said is None else int(said)


def _parse_channels(said: Any, usual: tuple[float, float, float]) -> tuple[float, float, float]:
    if said is None:
        return usual
    numbers = [float(number) for number in said] if isinstance(said, list | tuple) else [float(said)]
    if len(numbers) == 1:
        numbers *= 3
    red, green, blue = numbers
    return red, green, blue
