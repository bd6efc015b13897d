"""Read YAML as plain data, the format of recipes.

Bare words follow YAML 1.2 (`no` and `on` are text, 2e-4 is a number, a date is text). No tag is ever executed, a repeated key is
refused, and so is a file whose aliases expand to too many values.
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
"""The largest size of a file, in characters."""
MOST = 100_000
"""The largest number of values of a file after its aliases are expanded; WRITTEN characters of text count as one value."""
WRITTEN = 100
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """The safe loader of YAML, with the bare words of YAML 1.2. It refuses a repeated key."""

    merged = 0
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (the base class has it so)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen and key.tag != MERGE:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is repeated", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Write merged keys (`<<`) into a mapping, each key once: yaml's own way repeats them, which lets few lines fill the memory."""
        merged: dict[str, Any] = {}
        own = [pair for pair in node.value if pair[0].tag != MERGE]
        for _, value in (pair for pair in node.value if pair[0].tag == MERGE):
            for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(other, yaml.MappingNode):
                    raise yaml.constructor.ConstructorError(
                        None, None, "<< needs a mapping or a list of them", other.start_mark
                    )
                self.flatten_mapping(other)
                self.merged += len(other.value)
                if self.merged > MOST:
                    raise yaml.constructor.ConstructorError(None, None, f"<< merges more than {MOST} keys", other.start_mark)
                for pair in other.value:
                    merged.setdefault(pair[0].value, pair)
        named = {key.value for key, _ in own}
        node.value = [*(pair for name, pair in merged.items() if name not in named), *own]


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file with a mapping as plain data.

    Raises RecipeError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", where=path) from None
    if len(text) > LARGEST:
        raise RecipeError(f"contains {len(text)} characters. A recipe has a few hundred, at most {LARGEST}.", where=path)
    loaded = yaml_value(text, str(path))
    if not isinstance(loaded, dict):
        what = "nothing" if loaded is None else f"a {type(loaded).__name__}"
        raise RecipeError(f"a recipe is a mapping such as `name: my-task`, but this file contains {what}.", where=path)
    return loaded


def yaml_value(text: str, where: str) -> Any:
    """Read a YAML text as plain data. `where` is the place that an error names.

    Raises RecipeError.
    """
    try:
        loaded = yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
        if _count(loaded, MOST) < 0:
            raise RecipeError(f"its aliases expand to more than {MOST} values. Write fewer.", where=where)
        return json.loads(json.dumps(loaded))
    except RecipeError:
        raise
    except RecursionError:
        raise RecipeError("nested too deep.", where=where) from None
    except Exception as error:  # noqa: BLE001  (the constructors of yaml's own tags, such as !!timestamp, raise all kinds)
        raise RecipeError(f"not plain YAML: {' '.join(str(error).split())}", where=where) from None


def _count(value: Any, left: int) -> int:
    """Return how many values may still follow this one and all inside it; below 0 means too many."""
    left -= 1 + (len(value) // WRITTEN if isinstance(value, str) else 0)
    if isinstance(value, dict):
        left -= sum(len(key) // WRITTEN for key in value if isinstance(key, str))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        if left < 0:
            break
        left = _count(item, left)
    return left
