"""Encoders: a backbone that reads the whole text at once, pooled into one vector, with a linear head on it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.bases.base import Base, load_text_tokenizer, load_tokenizer
from vertical_sdk.errors import RecipeError
from vertical_sdk.families.batching import Encoded, pad
from vertical_sdk.families.head import Head
from vertical_sdk.families.lora import with_lora
from vertical_sdk.families.low_rank import AdaptedModel
from vertical_sdk.families.plain_encoder import find_encoder
from vertical_sdk.families.pooled import PooledSpecialist
from vertical_sdk.families.specialist import Batch, load_backbone
from vertical_sdk.families.windows import Windows
from vertical_sdk.kernels.packing import plan_layout, use_layout
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Family, LabelSpace, Modality, SeriesLayout

__all__ = ["EncoderSpecialist"]


class EncoderSpecialist(PooledSpecialist):
    """A text as tokens, pooled over them."""

    reads: ClassVar[Modality] = "text"
    bases: ClassVar[tuple[Family, ...]] = ("encoder",)
    auto_class: ClassVar[str] = "AutoModel"

    def __init__(self, backbone: Any, base: Base, recipe: Recipe, labels: LabelSpace | None, head: Head | None = None) -> None:
        super().__init__(backbone, base, recipe, labels)
        self.tokenizer = load_tokenizer(base)
        self.text_tokenizer = load_text_tokenizer(base)
        width = backbone.config.hidden_size
        self.head = head or (None if get_task(recipe.task).unlabelled else Head(width, len(labels) if labels else 1))
        size = min(recipe.data.max_length, base.max_length or 10**9)
        self.windows = Windows(size, self.text_tokenizer.extra, recipe.data.windows)
        self.max_length = self.windows.reads

    @classmethod
    def build_untrained(
        cls, base: Base, recipe: Recipe, labels: LabelSpace | None, layout: SeriesLayout | None = None
    ) -> EncoderSpecialist:
        """Build an untrained specialist: LoRA that changes nothing yet, and a head of random weights."""
        if get_task(recipe.task).written:
            raise RecipeError(
                f"{recipe.name}: {base.name} is an encoder and cannot write; choose a causal base such as smollm2-135m."
            )
        backbone = with_lora(load_backbone(base, quantize=recipe.quantize), recipe.lora, "FEATURE_EXTRACTION", recipe.name)
        return cls(backbone, base, recipe, labels)

    def self_test_row(self, text: str) -> Example:
        """The text itself."""
        return Example(id=text, text=text)

    def encode(self, example: Example, *, learn: bool) -> Encoded:
        """Text as the tokenizer has it, without control tokens, cut at the end to `max_length` tokens, in windows if it is long."""
        texts = self.text_tokenizer
        ids = texts.encode(example.text, special=True).ids
        cut = max(0, len(ids) - self.max_length)
        unknown = texts.count_unknown(ids)
        tokens = len(ids) - texts.extra if unknown else 0
        windows: tuple[int, ...] = ()
        if len(ids) > self.windows.size:
            parts = _divide(texts.encode(example.text).ids, texts.edges, self.windows, self.tokenizer.truncation_side)
            ids = tuple(itertools.chain(*parts))
            windows = tuple(map(len, parts)) if len(parts) > 1 else ()
        target = get_task(self.task).encode_target(example.target, self.labels) if learn else None
        control = texts.count_control(example.text)
        return Encoded(ids=ids, target=target, cut=cut, unknown=unknown, tokens=tokens, control=control, windows=windows)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """input_ids, attention_mask (windows, longest); targets (rows,) or (rows, k) if rows have them; see `_describe_rows`."""
        ids, mask = pad([piece for row in rows for piece in row.pieces], self.tokenizer.pad_token_id or 0)
        return {"input_ids": ids, "attention_mask": mask, **_describe_rows(rows)}

    def pack(self, rows: Sequence[Encoded]) -> Batch:
        """Batch rows one after another: input_ids (1, tokens), layout; targets as `collate` has them."""
        pieces = [piece for row in rows for piece in row.pieces]
        layout = plan_layout(pieces, share=False)
        return {"input_ids": torch.tensor([layout.place(pieces)]), "layout": layout, **_describe_rows(rows)}

    def _packed_features(self, batch: Batch) -> Tensor:
        layout = batch["layout"]
        embeddings: Any = getattr(self.backbone.get_base_model(), "embeddings", None)
        # RoBERTa and its kind count positions from after that of padding
        first = embeddings.padding_idx + 1 if hasattr(embeddings, "create_position_ids_from_input_ids") else 0
        with use_layout(layout):
            hidden = self.backbone(input_ids=batch["input_ids"], position_ids=layout.positions + first).last_hidden_state[0]
        if self.pooling == "cls":
            return _join_windows(hidden[layout.starts].float(), None, batch)
        total = hidden.new_zeros(len(layout.order), hidden.shape[-1], dtype=torch.float32)
        return _join_windows(total.index_add(0, layout.owners, hidden.float()), layout.counts[:, None], batch)

    def features(self, batch: Batch) -> Tensor:
        """Pooled over the tokens, of length 1: (rows, width)."""
        if "layout" in batch:
            return self._packed_features(batch)
        return self._pool(self.run_backbone(self.backbone, self.backbone_inputs(batch)), batch)

    def backbone_inputs(self, batch: Batch) -> Batch:
        """input_ids and attention_mask (windows, tokens)."""
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}

    def run_backbone(self, backbone: Any, inputs: Batch) -> Tensor:
        """Hidden states (windows, tokens, width); of plain LoRA, without gradients, by `kernels.encoder` if it knows the base."""
        if isinstance(backbone, AdaptedModel) and not torch.is_grad_enabled():
            encoder = find_encoder(backbone.base)
            if encoder is not None:
                return encoder(inputs["input_ids"], inputs["attention_mask"], backbone.find_change())
        hidden: Tensor = backbone(**inputs).last_hidden_state
        return hidden

    def read_hidden(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Outputs (rows, k)."""
        return self.read_features(self._pool(hidden, batch))

    def _pool(self, hidden: Tensor, batch: Batch) -> Tensor:
        if self.pooling == "cls":
            return _join_windows(hidden[:, 0].float(), None, batch)
        mask = batch["attention_mask"].unsqueeze(-1)
        return _join_windows((hidden.float() * mask).sum(1), mask.sum(1), batch)


def _describe_rows(rows: Sequence[Encoded]) -> Batch:
    """The targets of rows, if they have them, and if a row has windows, the row of each, (windows,)."""
    described: Batch = {}
    if rows[0].target is not None:
        described["targets"] = torch.tensor([row.target for row in rows])
    if any(row.windows for row in rows):
        counts = torch.tensor([len(row.windows) or 1 for row in rows])
        described["owners"] = torch.repeat_interleave(torch.arange(len(rows)), counts)
    return described


def _join_windows(totals: Tensor, counts: Tensor | None, batch: Batch) -> Tensor:
    """The mean of each row's tokens, of length 1, (rows, width).

    totals  (windows, width) the sum over the tokens of each window
    counts  (windows, 1) of these tokens; None: one
    """
    if (owners := batch.get("owners")) is not None:
        rows = int(owners[-1]) + 1
        totals = totals.new_zeros(rows, totals.shape[-1]).index_add(0, owners, totals)
        counts = None if counts is None else counts.new_zeros(rows, 1).index_add(0, owners, counts)
    return F.normalize(totals if counts is None else totals / counts, dim=-1)


def _divide(
    plain: tuple[int, ...], edges: tuple[tuple[int, ...], tuple[int, ...]], windows: Windows, side: str
) -> list[tuple[int, ...]]:
    """The windows of a text as the tokenizer's own truncation cuts: special tokens stay, and the text's tokens are cut at one side.

    That truncation is a setting of the tokenizer, which threads share, so it cannot be switched for one call.

    plain  the whole text without special tokens
    edges  the special tokens before and after a text
    """
    first, last = edges
    fit = max(0, windows.reads - len(first) - len(last))
    kept = plain[len(plain) - fit :] if side == "left" else plain[:fit]
    return [first + part + last for part in windows.divide(kept)]
