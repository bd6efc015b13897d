"""The interface of all base families: a backbone that carries LoRA, and the layers on top of it.

A specialist is a torch module whose `forward` takes a batch of encoded rows and gives (outputs, targets). Rows are encoded
and batched by the specialist, as each family reads text in its own way; the trainer and the predictor know no family.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from vertical_sdk.bases.base import Base
from vertical_sdk.bases.config import is_timm
from vertical_sdk.bases.model import load_model
from vertical_sdk.bases.weights import read_json
from vertical_sdk.card import Card
from vertical_sdk.errors import MissingExtra, RecipeError
from vertical_sdk.families.batching import Encoded, micro_batches
from vertical_sdk.families.head import Head
from vertical_sdk.families.quantized import loading_options, prepare_layers
from vertical_sdk.families.shared_base import use_base
from vertical_sdk.kernels.threads import SMALL_PRODUCT, count_threads_for, use_threads
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tables import FAMILIES, TASKS
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Family, LabelSpace, Modality, SeriesLayout, TaskName

__all__ = [
    "Batch",
    "Specialist",
    "count_batch_tokens",
    "create_specialist",
    "family_for",
    "has_fast_path",
    "load_backbone",
    "reads_by_base_alone",
    "run_rows",
    "specialist_class",
    "switched_off",
]

Batch = dict[str, Any]
"""Tensors by their names, and the layout of packed rows."""
TOKEN_BUDGET = 8192
"""Tokens of a batch, padding included."""
CPU_TOKEN_BUDGET = 2048
"""The same on a CPU: what a layer computes then stays in the cache, which takes a quarter less time."""
USUAL_WIDTH = 384
"""The width of a base whose config.json does not name one."""
LARGE = 1_000_000_000
"""Weights from which a base is loaded in bfloat16 on a GPU; below it, answers are the same on every machine up to float32."""

"""Weights that a file need not have: nothing here reads what the pooler of a transformer computes."""


class Specialist(Protocol):
    """A backbone with LoRA and the layers on top of it, for one task."""

    backbone: Any
    """A peft.PeftModel."""
    tokenizer: Any
    """None for a family that reads no text."""
    task: TaskName
    labels: LabelSpace | None
    head: Head | None
    max_length: int

    reads: ClassVar[Modality]
    """The kind of rows that the family reads."""
    bases: ClassVar[tuple[Family, ...]]
    """The families of bases that it can be built on."""
    auto_class: ClassVar[str]
    """The class of transformers that loads a base of this family."""

    @classmethod
    def build_untrained(cls, base: Base, recipe: Recipe, labels: LabelSpace | None, layout: SeriesLayout | None) -> Specialist:
        """Build an untrained specialist: LoRA that changes nothing yet."""

    @classmethod
    def load_trained(cls, backbone: Any, base: Base, recipe: Recipe, card: Card, files: CheckedFiles) -> Specialist:
        """Load the files of `save` onto a backbone that already carries the adapter."""

    def save(self, folder: Path) -> None:
        """Write the trained weights other than the backbone's adapter."""

    def fit_to_rows(self, rows: Sequence[Encoded]) -> None:
        """Fit what must be known before training, such as the scale of the training rows."""

    @property
    def scale(self) -> float:
        """The standard deviation of numeric training targets; 1 for other targets."""

    def self_test_row(self, text: str) -> Example:
        """Build the input row of a self-test from its text."""

    def encode(self, example: Example, *, learn: bool) -> Encoded:
        """Encode a row as tokens; with `learn` also its target."""

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Batch rows as padded tensors."""

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Compute outputs and targets of a batch: one for each row, or for generation one for each answer token."""

    def features(self, batch: Batch) -> Tensor:
        """Compute the backbone's features of each row, (rows, width), before any head."""

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """`forward`."""


def has_fast_path(specialist: Specialist, method: str) -> bool:
    """Whether a method that computes what `features` and `forward` do, in another way, was written for those that a family has.

    A family that inherits the method and replaces one of them computes something else.
    """
    lines = type(specialist).__mro__
    place = {
        name: next((n for n, one in enumerate(lines) if name in vars(one)), len(lines))
        for name in (method, "features", "forward")
    }
    return place[method] < len(lines) and place[method] <= min(place["features"], place["forward"])


def reads_by_base_alone(specialist: Specialist) -> bool:
    """Whether the base reads rows without layers that training changes, so that its features stay the same."""
    return specialist.reads in {"text", "image"}


def specialist_class(family: str) -> Any:
    """Import the class of a base family."""
    return FAMILIES.load(family)


def load_backbone(base: Base, *, device: torch.device | None = None, quantize: str | None = None) -> Any:
    """Load the base's weights as a transformers model, frozen and in evaluation mode.

    float32; bfloat16 for a LARGE base on a GPU that supports it. The base's own dropout is off, in training too: nothing of the base is
    trained, and LoRA has `lora_dropout`.

    quantize  "nf4": the linear layers in 4 bits (`families.quantized`)

    Raises BaseModelError; MissingExtra without the library that quantizes.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = base.parameters > LARGE and device.type == "cuda" and torch.cuda.is_bf16_supported()
    dtype = torch.bfloat16 if half else torch.float32
    options = loading_options(dtype, device) if quantize else {}
    model = _from_ours(base) or load_model(base, specialist_class(base.family).auto_class, dtype=dtype, **options)
    if quantize:
        prepare_layers(model, base.name)
    # PEFT writes this into adapter_config.json; it must not be a path of this machine
    model.name_or_path = base.hub_id or base.name
    model.requires_grad_(False)
    return model.to(device).eval()


def _from_ours(base: Base) -> Any:
    """Load a network that is implemented in this package; None for all others.

    Raises MissingExtra for another model of timm if timm is not installed.
    """
    if base.family != "vision" or not is_timm(config := read_json(base.path / "config.json")):
        return None
    from vertical_sdk.bases.efficientnet import ARCHITECTURE, load_lite

    if config["architecture"] == ARCHITECTURE:
        return load_lite(base.path)
    if importlib.util.find_spec("timm") is None:
        raise MissingExtra("vision", f"{base.name}, a model of timm,")
    return None


def count_batch_tokens(device: torch.device) -> int:
    """Count the tokens that a batch without gradients has at most on a device, padding included."""
    return CPU_TOKEN_BUDGET if device.type == "cpu" else TOKEN_BUDGET


def family_for(base: Base, recipe: Recipe) -> Family:
    """Choose the family that reads the recipe's rows on this base.

    Raises RecipeError if there is none.
    """
    modality = recipe.data.modality
    for name in FAMILIES:
        family = specialist_class(name)
        if family.reads == modality and base.family in family.bases:
            return name
    kinds = {"text": "text", "image": "images"}
    reads = kinds.get(specialist_class(base.family).reads, "other rows")
    needed = "a vision base such as efficientnet-lite0" if modality == "image" else "a base that reads text, such as minilm-l6"
    raise RecipeError(
        f"{base.name} reads {reads}, and data.modality is {modality}. Choose {needed}.", where=f"{recipe.name}: base"
    )


def create_specialist(base: Base, recipe: Recipe, labels: LabelSpace | None, layout: SeriesLayout | None = None) -> Specialist:
    """Build an untrained specialist with the recipe's LoRA, which changes nothing yet.

    layout  what the channels of series are, for forecasting and anomaly

    Raises RecipeError or BaseModelError if the base cannot do the task.
    """
    task, family = get_task(recipe.task), family_for(base, recipe)
    if task.families and family not in task.families:
        others = [name for name in TASKS if get_task(name).unlabelled and family in get_task(name).families]
        other = f" For {base.name}, set task: {others[0]}." if task.unlabelled and others else ""
        raise RecipeError(
            f"{task.name} needs a base of the family {' or '.join(task.families)}, and {base.name} is of the family {family}.{other}",
            where=f"{recipe.name}: base",
        )
    made: Specialist = specialist_class(family).build_untrained(base, recipe, labels, layout)
    return made


def run_rows(
    specialist: Specialist,
    rows: Sequence[Encoded],
    what: Callable[[Batch], Tensor],
    *,
    token_budget: int | None = None,
    batch_size: int | None = None,
    bf16: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Tensor:
    """Apply `what` (the specialist's features or outputs) to all rows in length-sorted batches, without gradients.

    token_budget  tokens of a batch, padding included; None: what is fast on the device
    batch_size    at most so many rows in a batch; None: as many as `token_budget` allows
    returns       (rows, ...) float32 on the CPU, in the order of the rows
    """
    parts: list[tuple[list[int], Tensor]] = []
    device = next(specialist.backbone.parameters()).device
    if specialist.backbone.training:  # `eval` walks through all layers, which takes longer than one text
        specialist.backbone.eval()
    done = 0
    budget = token_budget or count_batch_tokens(device)
    threads = _choose_threads(specialist, rows) if device.type == "cpu" else torch.get_num_threads()
    with use_threads(threads), torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for group in micro_batches([row.length for row in rows], budget, batch_size):
            batch = {key: value.to(device) for key, value in specialist.collate([rows[n] for n in group]).items()}
            parts.append((group, what(batch).float().cpu()))
            done += len(group)
            if progress:
                progress(done / len(rows))
    if not parts:
        return torch.zeros(0)
    out = torch.empty(len(rows), *parts[0][1].shape[1:])
    for group, values in parts:
        out[group] = values
    return out


def _choose_threads(specialist: Specialist, rows: Sequence[Encoded]) -> int:
    """The threads that read so many rows fastest: one for a few tokens, else those that are free."""
    tokens = sum(row.length for row in rows)
    width = getattr(getattr(specialist.backbone, "config", None), "hidden_size", None) or USUAL_WIDTH
    return count_threads_for(4.0 * tokens * width**2, SMALL_PRODUCT)


@contextlib.contextmanager
def switched_off(specialist: Specialist) -> Iterator[None]:  # noqa: ARG001  (its layers read the context)
    """Compute as the general base, in this thread or task alone: the same backbone without its adapter."""
    with use_base():
        yield
