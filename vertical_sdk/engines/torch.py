"""The engine that runs everything in this process, on torch.

The base's weights are in memory once, and once more in 4 bits if adapters were trained on that (`adapter.quantize`).
Each adapter has layers of its own around them, so calls for different adapters share
nothing that changes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from numpy.typing import NDArray
from torch import Tensor

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.adapters.load import load_specialist, replay_adapter
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.bases.base import Base, layer_width
from vertical_sdk.engines.engine import LIKELIEST, Raw, Stream, check_batch_size
from vertical_sdk.engines.mixed_batch import can_mix, run_mixed
from vertical_sdk.engines.writing import Writer
from vertical_sdk.errors import AdapterError, IdleAdapter
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.chat import encode_turns
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.families.low_rank import AdaptedModel, UnmixableBatch
from vertical_sdk.families.specialist import Batch, Specialist, load_backbone, run_rows
from vertical_sdk.kernels.rates import measure_rates
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.types import Example, GeneratedText, Message, Progress, silent

__all__ = ["TorchEngine"]

_LOADING = threading.RLock()
"""transformers and PEFT change settings of the whole process while they build a model, so one load runs at a time."""
DTYPES = ("float32", "bfloat16", "auto")
REPLAYED = 4
"""How many of the adapters that are loaded already, the newest, answer their self-tests again after a load by PEFT."""
WATCHED = 16
"""How many of the loaded adapters have their layers compared at a load, in turns; the weights of all are compared."""
_computing = False
"""Whether an adapter was loaded in this process, so that torch has started threads of its own."""


def _continue_after_fork() -> None:
    """Make a forked process safe: of the parent's threads it has only one, so it must not wait for the others.

    Without this, the first prediction would wait for ever for threads of torch that were not copied.
    """
    global _LOADING  # noqa: PLW0603
    _LOADING = threading.RLock()  # another thread of the parent may have held it
    if _computing:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_continue_after_fork)


@dataclass(frozen=True, eq=False)
class _Loaded:
    adapter: Adapter
    specialist: Specialist
    process: int


class TorchEngine:
    """Runs adapters in this process.

    base    the base model
    device  such as "cpu" or "cuda:1"; None: a GPU if there is one
    dtype   what rows are read in: "float32", "bfloat16", or "auto", the faster one as measured here. Weights stay in float32, and
            self-tests, members and written answers are computed in it
    """

    def __init__(self, base: Base, *, device: str | None = None, dtype: str = "float32") -> None:
        self._base = base
        self._device = _check_device(device) if device else None
        self._bf16 = _reads_in_bf16(dtype, base, self._device)
        self._backbones: dict[str | None, Any] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._verified: WeakSet[CheckedFiles] = WeakSet()
        """Files of adapters whose self-tests were replayed here; they are read again at each load, and compared with their digests."""
        self._watched = 0
        self._mixing: AdaptedModel | None = None
        self._writer = Writer()

    @property
    def base(self) -> Base:
        """The base model that all adapters share."""
        return self._base

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the loaded adapters."""
        return tuple(self._loaded)

    def adapter(self, name: str) -> Adapter:
        """Return a loaded adapter.

        Raises AdapterError that lists the loaded ones.
        """
        return self._get(name).adapter

    def specialist(self, name: str) -> Specialist:
        """Return an adapter on its base as a torch module.

        Raises AdapterError that lists the loaded ones.
        """
        return self._get(name).specialist

    def load(self, adapter: Adapter, name: str = "") -> str:
        """Load an adapter and check it; the first one loads the base's weights too.

        Self-tests are replayed at the first load of an Adapter object. If it is loaded again after it was unloaded, its files are read
        and compared with their digests again, and then it computes what it computed before.

        Raises AdapterError for a name that is taken, and what `load_specialist` raises; the engine is then as before.
        """
        global _computing  # noqa: PLW0603
        name = name or adapter.card.name
        with _LOADING:
            _computing = True
            if name in self._loaded:
                raise AdapterError(f"an adapter is already called {name!r} here. Give another name=.")
            quantize = adapter.recipe.quantize
            backbone = self._backbones.get(quantize) or load_backbone(self._base, device=self._device, quantize=quantize)
            with self._watch_loaded() as plain:
                specialist = load_specialist(adapter, self._base, backbone, replay=adapter.files not in self._verified)
                if isinstance(specialist.backbone, AdaptedModel):
                    plain.append(specialist)
            self._backbones[quantize] = backbone
            self._verified.add(adapter.files)
            self._loaded[name] = _Loaded(adapter, specialist, os.getpid())
        return name

    def unload(self, name: str) -> None:
        """Forget an adapter. Calls that use it already run to their end.

        Raises AdapterError for a name that is not loaded.
        """
        with _LOADING:
            self._get(name)
            del self._loaded[name]

    def outputs(
        self,
        rows: Sequence[Example],
        adapters: Sequence[str],
        *,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> list[Raw]:
        """Compute the raw output of each row by its adapter; adapters of plain LoRA share each pass through the base."""
        check_batch_size(batch_size)
        groups = list(self._groups(adapters))
        encoded: dict[int, Encoded] = {}
        for specialist, positions in groups:
            encoded |= {position: specialist.encode(rows[position], learn=False) for position in positions}
        values: dict[int, NDArray[Any]] = {}

        def report(count: int, share: float) -> None:
            progress("running the specialist", (len(values) + share * count) / len(rows))

        mixed = [(specialist, positions) for specialist, positions in groups if self._can_mix(specialist)]
        if len(mixed) > 1:
            owners = {position: specialist for specialist, positions in mixed for position in positions}
            own = [encoded[position] for position in owners]
            with contextlib.suppress(UnmixableBatch):
                results = run_mixed(
                    list(owners.values()),
                    own,
                    self._mixing_model(owners.values()),
                    batch_size=batch_size,
                    bf16=self._bf16,
                    progress=functools.partial(report, len(own)),
                )
                values |= {position: value.numpy() for position, value in zip(owners, results, strict=True)}
        for specialist, positions in groups:
            if positions[0] not in values:
                own = [encoded[position] for position in positions]
                step = functools.partial(_forward, specialist)
                share = functools.partial(report, len(own))
                outputs = run_rows(specialist, own, step, batch_size=batch_size, bf16=self._bf16, progress=share)
                values |= zip(positions, outputs.numpy(), strict=True)
        return [Raw(values[n], encoded[n].cut, encoded[n].unknown, encoded[n].control) for n in range(len(rows))]

    def _can_mix(self, specialist: Specialist) -> bool:
        return can_mix(specialist) and specialist.backbone.base is self._backbones.get(None)

    def _mixing_model(self, specialists: Iterable[Specialist]) -> AdaptedModel:
        """The model of mixed batches; it has the layers of all adapters that were in one until now."""
        model, names = self._mixing, frozenset[str]().union(*{specialist.backbone.names for specialist in specialists})
        backbone = self._backbones[None]
        if model is None or model.base is not backbone or not names <= model.names:
            before = model.names if model is not None and model.base is backbone else frozenset()
            self._mixing = model = AdaptedModel(backbone, sorted(names | before), None)
        return model

    def general(self, name: str, progress: Progress = silent) -> FrozenBase:
        """Return the base without the adapter, reading rows as the adapter does."""
        loaded = self._get(name)
        return FrozenBase(loaded.specialist, loaded.adapter.files, progress)

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        adapters: Sequence[str],
        *,
        decoding: Decoding = LIKELIEST,
        batch_size: int = 8,
        stream: Stream | None = None,
        progress: Progress = silent,
    ) -> list[GeneratedText]:
        """Write an answer to each conversation; a batch may mix adapters.

        Raises AdapterError if the base is an encoder; DataError for a prompt that is too long, and for a JSON schema that cannot be
        followed.
        """
        check_batch_size(batch_size)
        from vertical_sdk.families.causal import CausalSpecialist

        specialists = {name: self._get(name).specialist for name in dict.fromkeys(adapters)}
        encoded, writers = [], []
        for name, prompt in zip(adapters, prompts, strict=True):
            specialist = specialists[name]
            if not isinstance(specialist, CausalSpecialist):
                raise AdapterError(f"{name}: {self._base.name} cannot write text. Call predict() instead.")
            writers.append(specialist)
            encoded.append(encode_turns(specialist.text_tokenizer, prompt, specialist.max_length))
        return self._writer.write(writers, encoded, decoding, batch_size=batch_size, stream=stream, progress=progress)

    @contextlib.contextmanager
    def _watch_loaded(self) -> Iterator[list[Specialist]]:
        """Check that the adapters that are loaded already compute the same after the block, whether it fails or not.

        Weights of all of them, and layers of WATCHED, are compared with before. REPLAYED of them answer their self-tests, unless the
        block adds to the list that it gets: plain LoRA was loaded, so nothing but this library's own code has run, and the new
        adapter's self-tests have run through the base that all share. One that has changed is unloaded: no answer is better than
        another answer. Raises IdleAdapter.
        """
        names = [
            name
            for name, loaded in self._loaded.items()
            if isinstance(model := loaded.specialist.backbone, AdaptedModel) and model.has_layers
        ]
        chosen = {names[(self._watched + n) % len(names)] for n in range(min(WATCHED, len(names)))}
        self._watched += WATCHED
        before = self._describe_loaded(chosen)
        plain: list[Specialist] = []
        try:
            yield plain
        finally:
            after = self._describe_loaded(chosen)
            changed = {name for name, state in before.items() if after[name] != state}
            replayed = () if plain else [name for name in before if name not in changed][-REPLAYED:]
            for name in replayed:
                loaded = self._loaded[name]
                try:
                    if not _is_out_of_reach(loaded):
                        replay_adapter(loaded.adapter, self._base, loaded.specialist)
                except IdleAdapter:
                    changed.add(name)
            if changed:
                self._verified.clear()
                self._backbones.clear()  # the next adapter gets weights that are read again
                for name in changed:
                    del self._loaded[name]
                raise IdleAdapter(
                    f"loading another adapter changed what {', '.join(sorted(changed))} computes, so it was unloaded. Do not load that "
                    "other adapter, and load this one again."
                )

    def _describe_loaded(self, names: Collection[str]) -> dict[str, tuple[Any, ...]]:
        """What each loaded adapter computes with: its weights and the base's; of those named, also the layers."""
        bases: dict[int, int] = {}
        states: dict[str, tuple[Any, ...]] = {}
        for name, loaded in self._loaded.items():
            model: Any = loaded.specialist.backbone
            if not isinstance(model, AdaptedModel):
                states[name] = _describe_layers(model)
                continue
            if id(model.base) not in bases:
                bases[id(model.base)] = hash(_describe_layers(model.base))
            layers = model.describe_layers() if name in names else ()
            states[name] = (bases[id(model.base)], *model.describe_weights(), *layers)
        return states

    def _groups(self, adapters: Sequence[str]) -> Iterator[tuple[Specialist, list[int]]]:
        """Each adapter that is named, with the positions of its rows; all of them are looked up before the first one runs."""
        loaded = {name: self._get(name) for name in dict.fromkeys(adapters)}
        for name, found in loaded.items():
            yield found.specialist, [position for position, owner in enumerate(adapters) if owner == name]

    def _get(self, name: str) -> _Loaded:
        loaded = self._loaded.get(name)
        if loaded is None:
            raise AdapterError(f"no adapter is called {name!r} here. Loaded: {', '.join(self._loaded)}.")
        if _is_out_of_reach(loaded):
            raise AdapterError(
                f"{name!r} is on a GPU, which a forked process cannot use. Load it in that process, or start the process with "
                "multiprocessing's 'spawn'."
            )
        return loaded


def _is_out_of_reach(loaded: _Loaded) -> bool:
    """Whether an adapter is on a GPU that belongs to the parent of this process."""
    return loaded.process != os.getpid() and next(loaded.specialist.backbone.parameters()).is_cuda


def _describe_layers(model: torch.nn.Module) -> tuple[Any, ...]:
    """What a model computes with: the class and children of each layer, and the memory of each tensor with its count of changes."""
    found: list[Any] = []
    seen, rest = set[int](), [model]
    while rest:
        module = rest.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        children = [child for child in module._modules.values() if child is not None]
        found.append((type(module), module.training, *module._modules, *map(id, children)))
        rest += children
        tensors = (tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None)
        found += [(tensor.data_ptr(), tensor.shape, 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
    return tuple(found)


def _check_device(name: str) -> torch.device:
    """Check that this machine has the device. Raises AdapterError."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (AssertionError, NotImplementedError, RuntimeError):
        known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise AdapterError(f"device = {name!r} is not available on this machine. Available: {', '.join(known)}.") from None
    return device


def _reads_in_bf16(dtype: str, base: Base, device: torch.device | None) -> bool:
    """Whether rows are read in bfloat16. Raises AdapterError for another type of number than these two."""
    if dtype not in DTYPES:
        raise AdapterError(f"dtype = {dtype!r:.60} is wrong: it should be one of {', '.join(DTYPES)}.")
    if dtype != "auto":
        return dtype == "bfloat16"
    if device.type == "cuda" if device is not None else torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return measure_rates(layer_width(base)).prefers_bf16


def _forward(specialist: Specialist, batch: Batch) -> Tensor:
    return specialist(batch)[0]
