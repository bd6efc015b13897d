"""Load a model from any reference to an adapter."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.adapters.folder import find_adapter
from vertical_sdk.inference.model import VerticalModel
from vertical_sdk.types import Progress, log_progress

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry

__all__ = ["load"]


def load(
    adapter: str | Path,
    registry: Registry | None = None,
    *,
    base: str | None = None,
    allow_revoked: Collection[str] = (),
    device: str | None = None,
    progress: Progress = log_progress,
) -> VerticalModel:
    """Load a run folder, an adapter folder or a registry reference, checked as `VerticalModel.from_pretrained` does."""
    folder = find_adapter(adapter, registry, allow_revoked=allow_revoked)
    return VerticalModel.from_pretrained(folder, name=str(adapter), base=base, device=device, progress=progress)
