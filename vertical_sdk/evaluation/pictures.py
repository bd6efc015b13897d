"""Pictures in a report, as data: addresses, so that the report fetches nothing."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.types import Numbers

__all__ = ["draw_evidence"]

SIDE = 112
"""Small pictures are enlarged to this many pixels."""
RED = np.array([220.0, 50.0, 32.0])


def draw_evidence(picture: Numbers | None, specialist: Any, label: int) -> tuple[str, str]:
    """Draw a picture, and the same with the evidence for a label in red; a stronger red is stronger evidence.

    picture     (h, w) or (h, w, 3) bytes
    specialist  of the family vision
    """
    from vertical_sdk.families.vision import activation_map

    assert picture is not None
    grey = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    evidence = activation_map(specialist, picture, label)
    strength = np.maximum(evidence, 0)[..., None] / max(float(evidence.max()), 1e-12)
    red = grey * (1 - 0.6 * strength) + RED * 0.6 * strength
    return _address(grey), _address(red.round().clip(0, 255).astype(np.uint8))


def _address(pixels: NDArray[Any]) -> str:
    from PIL import Image

    image = Image.fromarray(pixels)
    if max(image.size) < SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
