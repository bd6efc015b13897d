"""A plain LoRA adapter on a base, for inference: light layers beside the base's own, for one adapter or a batch that mixes several.

The base's modules are never changed. An adapter gets a copy of the modules that lead to its layers (`copy_structure`); all other
modules and all weights are the base's own objects. So attaching costs about a millisecond, whatever else is attached, and threads
share nothing that changes. A model for mixed batches has layers without weights of their own: which rows get which adapter is a
context of the calling thread (`mix_adapters`).

A layer computes W x + scale · B (A x) (Hu et al., 2021), in float32.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import MethodType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertical_sdk.families.shared_base import computes_base

__all__ = [
    "AdaptedModel",
    "LowRank",
    "LowRankLinear",
    "Part",
    "UnmixableBatch",
    "copy_structure",
    "has_plain_structure",
    "mix_adapters",
]

FEW = 4
"""Up to so many adapters in a batch, each runs its own two products a layer; for more, one batched product over stacked weights.
`python benchmarks/inference.py --parts classify` measures batches of 4, 16 and 64."""


class Part(NamedTuple):
    """An adapter's weights for one linear layer.

    down   A, (rank, in)
    up     B, (out, rank)
    scale  alpha / rank, or alpha / sqrt(rank) of rank-stabilized LoRA
    """

    down: Tensor
    up: Tensor
    scale: float

    def compute(self, x: Tensor) -> Tensor:
        """scale · B (A x): (..., in) → (..., out), in the type of the weights, or that of autocast."""
        return F.linear(F.linear(x.to(self.down.dtype), self.down), self.up) * self.scale

    def add_to(self, out: Tensor, x: Tensor) -> None:
        """Add the part for x (..., in) to `out` (..., out), in place."""
        if x.dtype == out.dtype == self.down.dtype:
            inner = x.reshape(-1, x.shape[-1]).mm(self.down.T)
            out.view(-1, out.shape[-1]).addmm_(inner, self.up.T, alpha=self.scale)
        else:
            out.add_(self.compute(x))


@dataclass(frozen=True, eq=False)
class LowRank:
    """The weights of one adapter.

    parts    name of the base's linear layer → its part
    numbers  (n,) float32: all of them in one tensor, of which the parts are views, so one counter tells whether any was changed
    """

    parts: Mapping[str, Part]
    numbers: Tensor

    def add_to(self, out: Tensor, x: Tensor, name: str) -> None:
        """Add the part of a layer, if it has one, for x (..., in) to `out` (..., out), in place."""
        part = self.parts.get(name)
        if part is not None:
            part.add_to(out, x)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, tuple[Tensor, Tensor, float]], device: torch.device) -> LowRank:
        """Copy the tensors A and B of each layer, with the scale, into one tensor on a device."""
        with torch.inference_mode(False):  # a tensor of inference mode has no counter of changes
            flat = [tensor.reshape(-1).float() for down, up, _ in tensors.values() for tensor in (down, up)]
            numbers = torch.cat(flat).to(device)
            views = iter(torch.split(numbers, [len(tensor) for tensor in flat]))
            return cls(
                {
                    name: Part(next(views).view(down.shape), next(views).view(up.shape), scale)
                    for name, (down, up, scale) in tensors.items()
                },
                numbers,
            )


class LowRankLinear(nn.Module):
    """A base's linear layer with an adapter's part; without one it computes as the base, or as `mix_adapters` says."""

    def __init__(self, base_layer: nn.Linear, name: str, part: Part | None) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.name = name
        self.part = part
        self.training = False

    @property
    def weight(self) -> Tensor:
        """The base's weight, (out, in)."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The base's bias, (out,)."""
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        out: Tensor = self.base_layer(x)
        if computes_base():
            return out
        mixture = _MIXTURE.get()
        if mixture is not None:
            mixture.add_to(out, x, self.name)
        elif self.part is not None and torch.is_grad_enabled():
            return (out + self.part.compute(x)).to(out.dtype)
        elif self.part is not None:
            self.part.add_to(out, x)
        return out


class AdaptedModel(nn.Module):
    """A base with light layers, in the form of a peft.PeftModel as far as inference needs it.

    base      the model whose structure was copied
    low_rank  the adapter; None for a model of mixed batches

    Nothing in it is trained, so it stays in evaluation mode.
    """

    base: nn.Module

    def __init__(self, base: nn.Module, names: Iterable[str], low_rank: LowRank | None) -> None:
        """Plan a copy of the structure of a base, of which the linear layers with these names get a part.

        names  as in base.named_modules()
        """
        super().__init__()
        self._copies: tuple[nn.Module, ...] = ()
        vars(self)["base"] = base  # not a submodule: its layers are not those of this model
        self.low_rank = low_rank
        self.names = frozenset(names)
        self.training = False

    @functools.cached_property
    def model(self) -> Any:
        """The base's model with the light layers in it; built when it is first read, as `kernels.encoder` does not need it."""
        parts = self.low_rank.parts if self.low_rank is not None else {}
        layers = {name: LowRankLinear(_get_linear(self.base, name), name, parts.get(name)) for name in sorted(self.names)}
        copies: list[nn.Module] = []
        model = copy_structure(self.base, layers, copies)
        self._copies = tuple(copies)
        return model

    @property
    def has_layers(self) -> bool:
        """Whether `model` has been built."""
        return bool(self._copies)

    @property
    def config(self) -> Any:
        """The base's configuration."""
        return self.base.config

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The base's weights, which are the only ones that modules hold."""
        return self.base.parameters(recurse)

    def find_change(self) -> Callable[[Tensor, Tensor, str], None] | None:
        """Return what adds to a layer's output the adapter's part for its input, by the layer's name, as `LowRankLinear` does.

        None: this thread or task computes as the base. Without gradients.
        """
        if computes_base():
            return None
        mixture = _MIXTURE.get()
        if mixture is not None:
            return mixture.add_to
        return None if self.low_rank is None else self.low_rank.add_to

    def describe_weights(self) -> tuple[int, ...]:
        """What tells whether the adapter's weights were changed: their memory and its count of changes."""
        numbers = self.low_rank.numbers if self.low_rank is not None else None
        return () if numbers is None else (numbers.data_ptr(), numbers._version)

    def describe_layers(self) -> tuple[Any, ...]:
        """What tells whether the modules that are not the base's were changed: their classes, parts and children; () before they exist."""
        return tuple(
            (type(module), id(vars(module).get("part")), *map(id, module._modules.values())) for module in self._copies
        )

    def get_base_model(self) -> Any:
        """The base's model with the light layers in it."""
        return self.model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the base's model."""
        return self.model(*args, **kwargs)

    def train(self, mode: bool = True) -> AdaptedModel:  # noqa: ARG002
        """Do nothing: layers are shared with other adapters."""
        return self


def _get_linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def copy_structure(model: nn.Module, layers: Mapping[str, nn.Module], copies: list[nn.Module]) -> Any:
    """Copy a model with other layers in the place of those named; modules that do not contain any are the model's own objects.

    copies  gets the modules that are not the model's own, the layers included

    Weights are not copied. Raises KeyError for a name that the model does not have.
    """
    inside: dict[str, dict[str, nn.Module]] = {}
    for name, layer in layers.items():
        child, _, rest = name.partition(".")
        inside.setdefault(child, {})[rest] = layer
    copy = object.__new__(type(model))
    copy.__dict__ = {key: value.copy() if type(value) in {dict, *_HOOKS} else value for key, value in vars(model).items()}
    copies.append(copy)
    modules: dict[str, nn.Module | None] = copy.__dict__["_modules"]
    for child, below in inside.items():
        if "" in below:
            copies.append(below[""])
            modules[child] = below[""]
        else:
            modules[child] = copy_structure(model.get_submodule(child), below, copies)
    return copy


_HOOKS = {type(nn.Module()._forward_hooks)}
"""The type of the tables in which torch keeps the hooks of a module."""


def has_plain_structure(model: nn.Module) -> bool:
    """Whether `copy_structure` copies all that a model's modules know of each other: none keeps another one outside its table."""
    return not any(
        isinstance(value, nn.Module | MethodType)
        or (isinstance(value, list | tuple) and any(isinstance(item, nn.Module) for item in value))
        for module in model.modules()
        for value in vars(module).values()
    )


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Rows in segments: rows[n] rows of the batch, one after another, get adapters[n]."""

    adapters: Sequence[LowRank]
    rows: Sequence[int]

    def add_to(self, out: Tensor, x: Tensor, name: str) -> None:
        """Add to each row of `out` (rows, tokens, out) its own adapter's part for x (rows, tokens, in), in place.

        Raises UnmixableBatch for a layer that does not read the tokens of each row separately.
        """
        if x.ndim != 3 or len(x) != sum(self.rows):
            raise UnmixableBatch(f"{name} reads {tuple(x.shape)}, and the batch has {sum(self.rows)} rows.")
        parts = [adapter.parts.get(name) for adapter in self.adapters]
        known = [part for part in parts if part is not None]
        if len(known) > FEW:
            self._add_stacked(out, x, parts, known)
        elif known:
            counts = list(self.rows)
            for part, piece, own in zip(parts, torch.split(out, counts), torch.split(x, counts), strict=True):
                if part is not None:
                    part.add_to(piece, own)

    def _add_stacked(self, out: Tensor, x: Tensor, parts: Sequence[Part | None], known: Sequence[Part]) -> None:
        """By batched products over stacked weights, which are padded with zeros to the highest rank."""
        none = Part(known[0].down[:0], known[0].up[:, :0], 0.0)
        rank = max(len(part.down) for part in known)
        whole = [_pad(none if part is None else part, rank) for part in parts]
        if len(set(self.rows)) > 1:
            whole = [part for part, count in zip(whole, self.rows, strict=True) for _ in range(count)]
        down, up = torch.stack([part.down for part in whole]), torch.stack([part.up for part in whole])
        scale = torch.tensor([part.scale for part in whole], device=x.device)[:, None, None]
        inner = torch.bmm(x.reshape(len(whole), -1, x.shape[-1]).to(down.dtype), down.transpose(1, 2)) * scale
        wide = out.view(len(whole), -1, out.shape[-1])
        if out.dtype == down.dtype:
            wide.baddbmm_(inner, up.transpose(1, 2))
        else:
            wide.add_(torch.bmm(inner, up.transpose(1, 2)))


class UnmixableBatch(Exception):
    """A layer of the base reads the tokens of a batch without their rows, as those of experts do."""


def _pad(part: Part, rank: int) -> Part:
    short = rank - len(part.down)
    return Part(F.pad(part.down, (0, 0, 0, short)), F.pad(part.up, (0, short)), part.scale) if short else part


_MIXTURE: ContextVar[_Mixture | None] = ContextVar("mixture", default=None)


@contextlib.contextmanager
def mix_adapters(adapters: Sequence[LowRank], rows: Sequence[int]) -> Iterator[None]:
    """Give rows[n] rows of a batch, one after another, adapters[n], in this thread or task alone.

    It holds for an AdaptedModel whose `names` contain those of all the adapters.
    """
    token = _MIXTURE.set(_Mixture(adapters, rows))
    try:
        yield
    finally:
        _MIXTURE.reset(token)
