"""From a run folder, an adapter folder or a registry reference to a working model, and nothing in between."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.card import CARD
from vertical_sdk.errors import AdapterError
from vertical_sdk.types import Progress, silent

if TYPE_CHECKING:
    from vertical_sdk.inference.model import VerticalModel
    from vertical_sdk.registry import Registry

__all__ = ["find_adapter", "load"]


def find_adapter(adapter: str | Path, registry: Registry | None = None, *, allow_revoked: Collection[str] = ()) -> Path:
    """The adapter's folder.

    adapter        a run's folder, an adapter's folder, or a registry reference ("medical/icd-chapter@production")
    allow_revoked  versions ("medical/icd-chapter@3") that may be used although they were revoked

    Raises AdapterError for a folder that is none, RegistryError for a reference that does not exist.
    """
    path = Path(adapter)
    if path.is_dir():
        if (path / CARD).is_file() or (path / "adapter_config.json").is_file():
            return path
        if (path / "adapter").is_dir():
            return path / "adapter"
        if (path / "recipe.json").is_file():
            raise AdapterError(
                f"{path}: this run has not ended, so it has no adapter yet. Go on with it: vertical train ... --resume."
            )
        raise AdapterError(f"{path}: is neither a run nor an adapter: it has no adapter/ and no {CARD}.")
    if isinstance(adapter, Path) or str(adapter).startswith((".", "/", "~")) or path.exists():
        raise AdapterError(
            f"{adapter}: there is no such folder. Give a run's folder, an adapter's folder, or a registry reference."
        )
    from vertical_sdk.registry import Registry

    return (registry or Registry()).resolve(str(adapter), allow_revoked=allow_revoked).path


def load(
    adapter: str | Path,
    registry: Registry | None = None,
    *,
    base: str | None = None,
    allow_revoked: Collection[str] = (),
    progress: Progress = silent,
) -> VerticalModel:
    """A model from a run folder, an adapter folder or a registry reference, checked as `VerticalModel.from_pretrained` does."""
    from vertical_sdk.inference.model import VerticalModel

    folder = find_adapter(adapter, registry, allow_revoked=allow_revoked)
    return VerticalModel.from_pretrained(folder, name=str(adapter), base=base, progress=progress)
