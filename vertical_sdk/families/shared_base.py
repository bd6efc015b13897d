"""Many adapters on the weights of one base, safe for many threads at once.

PEFT keeps the active adapter and "adapters off" as attributes of the shared layers, so one thread could change what another
computes. Here a forward pass only reads. Each adapter gets layers of its own around the base's tensors (`share_weights`), and
whether the adapter takes part in a call is a context variable, which each thread and each asyncio task has for itself
(`use_base`).
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from torch import nn

__all__ = ["read_context", "share_weights", "use_base", "uses_base"]

_BASE_ONLY: ContextVar[bool] = ContextVar("base_only", default=False)


@contextlib.contextmanager
def use_base() -> Iterator[None]:
    """Compute without adapters, as the general base, in this thread or task alone."""
    token = _BASE_ONLY.set(True)
    try:
        yield
    finally:
        _BASE_ONLY.reset(token)


def uses_base() -> bool:
    """Whether this thread or task computes without adapters, within `use_base`."""
    return _BASE_ONLY.get()


def share_weights(model: nn.Module) -> Any:
    """Copy a model's structure around the same tensors: no parameter or buffer is stored twice.

    PEFT changes the layers of the copy, and the original stays as it is.
    """
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, tensors)


def read_context(model: nn.Module) -> None:
    """Make all layers that PEFT changed in a model compute as the base within `use_base`; else as PEFT does.

    Each such layer gets a subclass of its own class, so this works for every kind: linear, convolution, DoRA, modules_to_save.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for module in model.modules():
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            kind: Any = type(module)
            module.__class__ = _context_class(kind)


@functools.cache
def _context_class(kind: type) -> type:
    """A subclass of a PEFT layer's class whose `disable_adapters` is also true within `use_base`."""
    if kind.__dict__.get("reads_context"):
        return kind
    own: Any = kind

    def disable_adapters(layer: Any) -> bool:
        """Whether the layer computes as the base does."""
        return _BASE_ONLY.get() or bool(own.disable_adapters.fget(layer))

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, "reads_context": True, "disable_adapters": property(disable_adapters)})
