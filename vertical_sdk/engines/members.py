"""The engine of specialists without an adapter: their members answer alone, so it has no base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.adapters.members_only import replay_members
from vertical_sdk.engines.engine import Raw, check_batch_size
from vertical_sdk.errors import AdapterError
from vertical_sdk.types import Example, Progress, silent

__all__ = ["MembersEngine"]


class MembersEngine:
    """Holds specialists whose members answer alone. What they answer is computed by `inference.answer` from their members."""

    def __init__(self) -> None:
        self._loaded: dict[str, Adapter] = {}

    @property
    def base(self) -> NoReturn:
        """Raises AdapterError: there is no base."""
        raise self._describe_missing_base()

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the loaded specialists."""
        return tuple(self._loaded)

    def adapter(self, name: str) -> Adapter:
        """Return a loaded specialist. Raises AdapterError that lists the loaded ones."""
        if name not in self._loaded:
            raise AdapterError(f"no adapter is called {name!r} here. Loaded: {', '.join(self._loaded) or 'none'}.")
        return self._loaded[name]

    def load(self, adapter: Adapter, name: str = "") -> str:
        """Load a specialist, and replay the self-tests of its members.

        Raises AdapterError for a name that is taken, and for a specialist with an adapter, which needs a base; IdleAdapter and
        CorruptAdapter for one that fails the checks.
        """
        name = name or adapter.card.name
        if name in self._loaded:
            raise AdapterError(f"an adapter is already called {name!r} here. Give another name=.")
        if not adapter.card.members_only:
            raise AdapterError(
                f"{name} has an adapter, which needs a base, and this model has none. Load it as a model of its own."
            )
        replay_members(adapter)
        self._loaded[name] = adapter
        return name

    def unload(self, name: str) -> None:
        """Forget a specialist. Raises AdapterError for a name that is not loaded."""
        self.adapter(name)
        del self._loaded[name]

    def outputs(
        self,
        rows: Sequence[Example],
        adapters: Sequence[str],  # noqa: ARG002  (the arguments are those of Engine)
        *,
        batch_size: int | None = None,
        progress: Progress = silent,  # noqa: ARG002
    ) -> list[Raw]:
        """Return an empty output for each row: there is no adapter."""
        check_batch_size(batch_size)
        return [Raw(np.zeros(0, np.float32)) for _ in rows]

    def general(self, name: str, progress: Progress = silent) -> NoReturn:  # noqa: ARG002
        """Raises AdapterError: there is no base."""
        raise self._describe_missing_base()

    def generate(self, prompts: Any, adapters: Any, **options: Any) -> NoReturn:  # noqa: ARG002
        """Raises AdapterError: members write no answers."""
        raise self._describe_missing_base()

    def _describe_missing_base(self) -> AdapterError:
        return AdapterError(f"{', '.join(self._loaded)} has no adapter and needs no base: its members answer alone.")
