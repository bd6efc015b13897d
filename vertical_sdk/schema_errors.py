"""Describe the errors of a schema in plain words."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from vertical_sdk.errors import did_you_mean

MOST = 20
"""Errors that are described at once: for each of 100,000 unknown keys, similar names would be searched."""
__all__ = ["describe_expected", "describe_schema_errors"]


def describe_schema_errors(schema: type[BaseModel], plain: dict[str, Any], error: ValidationError) -> list[str]:
    """Write a line for each error of the schema: the key, the value, and the expected value.

    For a value of several possible types, pydantic reports an error for each type. Only the deepest errors are reported.
    """
    wrong: dict[tuple[str, ...], list[Any]] = {}
    for detail in error.errors(include_url=False, include_context=True, include_input=False)[:MOST]:
        path, *place = _locate_error(schema, plain, detail["loc"])
        wrong.setdefault(path, []).append((detail, *place))
    deepest = {path: each for path, each in wrong.items() if not any(p != path and p[: len(path)] == path for p in wrong)}
    return [_describe_error(".".join(path), each) for path, each in deepest.items()]


def describe_expected(annotation: Any, value: Any) -> str | None:
    """Describe what a value should be by its annotation; None if the value is right, or if the annotation cannot be checked."""
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        return " or ".join(dict.fromkeys(_extract_wish(each["msg"]) for each in error.errors()))
    except PydanticUserError:  # a type that only the library itself can read
        return None
    return None


def _extract_wish(message: str) -> str:
    """Return the text after "should" in a message of pydantic."""
    return message.partition(" should ")[2] or message


def _describe_error(name: str, wrong: list[tuple[Any, Any, Any, FieldInfo | None]]) -> str:
    """Describe what is wrong with one key, and what would be right."""
    detail, value, section, field = wrong[0]
    if detail["loc"][-1] == "[key]":
        return f"unknown key {name!r}. Known here: {detail['ctx']['expected']}."
    if detail["type"] == "extra_forbidden":
        known = list(section.model_fields)
        return f"unknown key {name!r}.{did_you_mean(name.rpartition('.')[2], known)} Known here: {', '.join(known)}."
    if detail["type"] == "missing":
        return f"{name} is missing."
    if _is_part(section) and detail["type"] == "model_type":
        return f"{name} = {value!r} is wrong: it should be a name, or {{use: name, argument: value}}."
    right = " or ".join(dict.fromkeys(_extract_wish(each["msg"]) for each, *_ in wrong))
    right = (
        right.replace("a valid dictionary", "a mapping").replace("a valid tuple", "a list").replace("a valid string", "text")
    )
    if detail["type"] == "string_type" and not isinstance(value, list | dict):
        right += f"; to mean the text, put it in quotes: '{json.dumps(value)}'"
    about = f" ({field.description.rstrip('.')})" if field is not None and field.description else ""
    right, mark, hint = right.partition(" Did you mean ")
    return f"{name} = {value!r} is wrong: it should {right}{about}.{mark}{hint}"


def _locate_error(
    schema: type[BaseModel], plain: Any, loc: Sequence[int | str]
) -> tuple[tuple[str, ...], Any, Any, FieldInfo | None]:
    """Locate an error of pydantic: the path in the file, the value there, the model with this key, and its field.

    The path of pydantic also names the branch of a union that it tried. Such steps are not keys of the file.
    """
    path: list[str] = []
    value, section, field = plain, schema, None
    model: Any = schema
    for step in loc:
        fields = getattr(model, "model_fields", None)
        if fields is not None and isinstance(step, str) and (step in fields or step != model.__name__):
            section, field = model, fields.get(str(step))
            model = _find_model(field.annotation) if field else None
        elif not (step in value if isinstance(value, dict) else isinstance(value, list) and isinstance(step, int)):
            continue
        path.append(str(step))
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(path), value, model if _is_part(model) else section, field


def _find_model(annotation: Any) -> Any:
    """Find the model in an annotation such as `Part | None` or `tuple[Part, ...]`."""
    inner = (annotation, *typing.get_args(annotation))
    return next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), None)


def _is_part(model: Any) -> bool:
    """Whether a model describes a named part with its arguments."""
    return "use" in getattr(model, "model_fields", {})
