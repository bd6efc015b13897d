"""Inputs of requests for specialists that read texts, records, series or pictures."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, TypeAlias

from vertical_sdk.errors import DataError
from vertical_sdk.inference.inputs import decode_picture
from vertical_sdk.serving.served import Served

__all__ = ["Given", "count_tokens", "list_inputs"]

Given: TypeAlias = str | dict[str, Any] | list[Any]
"""One text, picture (base64) or record, or a list of inputs; a list of numbers is one series."""
MOST_PIXELS = 1 << 24
"""Pixels of a picture."""
DATA_URL = re.compile(r"data:image/(?:png|jpeg);base64,", re.IGNORECASE)


def list_inputs(served: Served, given: Given) -> list[Any]:
    """List the inputs of a request as `VerticalModel.predict` takes them.

    Raises DataError for a picture that cannot be decoded.
    """
    one = not isinstance(given, list) or (bool(given) and all(cell is None or isinstance(cell, int | float) for cell in given))
    inputs = [given] if one else list(given)
    if served.adapter.recipe.data.modality != "image":
        return inputs
    return [_decode(item, f"input {number}") for number, item in enumerate(inputs)]


def count_tokens(served: Served, inputs: list[Any]) -> int:
    """Count the tokens of texts, without a recipe's prompt around them; 0 for records and everything else, and for members without a base."""
    card = served.adapter.card
    if card.members_only or card.family not in {"encoder", "causal"}:
        return 0
    from vertical_sdk.bases.base import load_text_tokenizer

    texts = load_text_tokenizer(served.engine.base)
    return sum(len(texts.encode(text, special=True).ids) for text in inputs if isinstance(text, str))


def _decode(item: Any, where: str) -> Any:
    """A picture's pixels. Raises DataError."""
    if not isinstance(item, str):
        raise DataError(f"{where} is not a text. Give a PNG or JPEG in base64, or its data URL.")
    try:
        content = base64.b64decode(DATA_URL.sub("", item, count=1), validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{where} is not a picture in base64. Give a PNG or JPEG in base64, or its data URL.") from None
    try:
        return decode_picture(content, where, most_pixels=MOST_PIXELS)
    except DataError as error:
        raise DataError(f"{where}: {error.message}") from None
