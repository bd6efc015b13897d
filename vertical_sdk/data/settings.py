"""Files of settings that a reader takes in place of rows, for example for a simulation: YAML with a closed schema."""

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
    """Read a YAML file as the schema.

    Raises DataError with the file, the key, and the expected value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        plain = yaml_value(text, str(path)) if len(text) <= LARGEST else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}. Write the settings as a YAML file.", where=path) from None
    except RecipeError as error:
        raise DataError(error.message, where=error.where) from None
    if not isinstance(plain, dict):
        what = f"{len(text)} characters" if plain is None and text.strip() else type(plain).__name__
        raise DataError(f"contains {what}. Write a YAML mapping with {', '.join(schema.model_fields)}.", where=path)
    try:
        return schema.model_validate(plain)
    except ValidationError as error:
        lines = describe_schema_errors(schema, plain, error)
        problems = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} errors:", *lines])
        raise DataError(problems, where=path) from None
