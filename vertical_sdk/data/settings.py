"""Files of settings that a reader is given in place of rows, such as what to simulate: YAML with a closed schema."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.schema_errors import describe_schema_errors
from vertical_sdk.yaml_file import yaml_value

__all__ = ["read_settings"]

S = TypeVar("S", bound=BaseModel)
LARGEST = 1 << 20
"""Bytes of a file."""


def read_settings(path: Path, schema: type[S]) -> S:
    """What a YAML file says, as the schema has it.

    Raises DataError that names the file, the key, and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        plain = yaml_value(text, str(path)) if len(text) <= LARGEST else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}. A YAML file of settings is needed.") from None
    except RecipeError as error:
        raise DataError(str(error)) from None
    if not isinstance(plain, dict):
        what = f"{len(text)} characters" if plain is None and text.strip() else type(plain).__name__
        raise DataError(f"{path}: holds {what}; a YAML mapping is needed with {', '.join(schema.model_fields)}.")
    try:
        return schema.model_validate(plain)
    except ValidationError as error:
        lines = describe_schema_errors(schema, plain, error)
        raise DataError(f"{path}: {lines[0]}" if len(lines) == 1 else "\n  ".join([f"{path}:", *lines])) from None
