"""Signatures of versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.version import Version

__all__ = ["require_signature"]


def require_signature(version: Version, trusted_keys: Sequence[Path]) -> None:
    """See that one of these keys signed the version. Raises RegistryError."""
    raise RegistryError(f"{version}: not signed by {', '.join(map(str, trusted_keys))}.")
