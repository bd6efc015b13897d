"""The registry: published adapters by name, version and alias. Nothing here imports torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertical_sdk.registry.references import Reference, parse_reference
    from vertical_sdk.registry.registry import Registry
    from vertical_sdk.registry.version import Version

_HOMES = {"Reference": "references", "Registry": "registry", "Version": "version", "parse_reference": "references"}

__all__ = ["Reference", "Registry", "Version", "parse_reference"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"vertical_sdk.registry.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vertical_sdk.registry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
