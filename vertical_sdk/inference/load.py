"""Load a model from any reference to an adapter."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.adapters.folder import open_adapter
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
    dtype: str = "float32",
    progress: Progress = log_progress,
) -> VerticalModel:
    """Load a run folder, an adapter folder or a registry reference, checked as `VerticalModel.from_pretrained` does.

    adapter  as for `find_adapter`: a text is a reference unless it starts with "./", "../", "/", "~" or "runs/"
    """
    found = open_adapter(adapter, registry, allow_revoked=allow_revoked)
    return VerticalModel.from_adapter(found, name=str(adapter), base=base, device=device, dtype=dtype, progress=progress)
