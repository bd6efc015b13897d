"""YAML as plain data: what a recipe may be written in.

The rules for bare words are those of YAML 1.2 (`no` and `on` are text, 2e-4 is a number, a date is text), no tag is ever
carried out, a key stands once, and a file that unfolds into very much is refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from vertical_sdk.errors import RecipeError

__all__ = ["read_yaml", "yaml_value"]

LARGEST = 1 << 20
"""Bytes of a file."""
MOST = 100_000
"""Values in a file after its aliases are unfolded."""
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with the bare words of YAML 1.2, which refuses a key given twice."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (the base class has it so)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen and key.tag != MERGE:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, as plain data.

    Raises RecipeError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    if len(text) > LARGEST:
        raise RecipeError(f"{path}: holds {len(text)} characters; a recipe has a few hundred, at most {LARGEST}.")
    loaded = yaml_value(text, str(path))
    if not isinstance(loaded, dict):
        what = "nothing" if loaded is None else f"a {type(loaded).__name__}"
        raise RecipeError(f"{path}: a recipe is a mapping such as `name: my-task`; this file holds {what}.")
    return loaded


def yaml_value(text: str, where: str) -> Any:
    """What a piece of YAML says, as plain data. `where` stands before an error's message.

    Raises RecipeError.
    """
    try:
        loaded = yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
        if _count(loaded, MOST) < 0:
            raise RecipeError(f"{where}: its aliases unfold into more than {MOST} values; write fewer.")
        return json.loads(json.dumps(loaded))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise RecipeError(f"{where}: not plain YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RecipeError(f"{where}: nested too deep.") from None


def _count(value: Any, left: int) -> int:
    """How many values may still come after this one and all inside it; below 0 where they are too many."""
    left -= 1
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        if left < 0:
            break
        left = _count(item, left)
    return left
