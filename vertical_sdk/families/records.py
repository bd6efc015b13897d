"""Records read by a backbone that was pretrained on text: each field is a token made of its name and its value.

    token    = embedding of the field's name (the mean of the base's own token embeddings) + linear(value)
    value    = relu(what is learned of the field's bins, words or missing value)
    features = backbone(tokens), pooled, of length 1; and the last layer of a small network that reads all values

The backbone is frozen but for LoRA. The small network is fitted before training, and trained on with LoRA and head: it costs little, and
reads numbers as well as boosted trees; what the backbone adds is seen against the linear probe. Fields are a set: all tokens have the
same position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertical_sdk.bases.base import Base, load_text_tokenizer
from vertical_sdk.card import Card
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import CorruptAdapter, DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.field_coding import MOST_FIELDS, FieldCoding
from vertical_sdk.families.head import Head, load_head
from vertical_sdk.families.pooled import PooledSpecialist
from vertical_sdk.families.specialist import Batch, load_backbone
from vertical_sdk.families.text_backbone import drop_layers, find_model, lora_on_layers, run_tokens
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import get_task
from vertical_sdk.tensors import load_tensors
from vertical_sdk.types import Example, Family, LabelSpace, Modality, SeriesLayout, TaskName

__all__ = ["RECORDS", "RecordsSpecialist"]

RECORDS = "records.safetensors"
NUMBERS, HIDDEN = 16, 256
"""Learned numbers of a value, and the width of the small network."""
BATCH, RATE, DECAY = 256, 2e-3, 0.01
"""Rows of a step at most, learning rate and weight decay with which the small network is fitted."""
LEAST_BATCH, BATCHES = 16, 8
"""A step has at least so many rows; and of a small table an eighth, so that its steps differ."""


class FieldNetwork(nn.Module):
    """The values of all fields as vectors, and a network of two layers that reads them.

    table   (fields, slots, NUMBERS) what is learned of each bin, word and missing value
    bias    (fields, NUMBERS)
    scale   () mean length of the last layer over the training rows
    token   NUMBERS → the backbone's width
    """

    def __init__(self, coding: FieldCoding, width: int, dropout: float) -> None:
        super().__init__()
        fields, slots = len(coding.fields), coding.slots
        self.table = nn.Parameter(torch.empty(fields, slots, NUMBERS).uniform_(-1, 1) / math.sqrt(slots))
        self.bias = nn.Parameter(torch.empty(fields, NUMBERS).uniform_(-1, 1) / math.sqrt(slots))
        self.layers = nn.Sequential(
            *(nn.Linear(fields * NUMBERS, HIDDEN), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
        )
        self.dropout = nn.Dropout(dropout)
        self.token = nn.Linear(NUMBERS, width)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    def values(self, encoded: Tensor) -> Tensor:
        """(rows, fields, slots) as `FieldCoding.encode` has them → (rows, fields, NUMBERS)."""
        return F.relu(torch.einsum("rfs,fsn->rfn", encoded, self.table) + self.bias)

    def hidden(self, values: Tensor) -> Tensor:
        """The last layer, (rows, HIDDEN). While it learns, whole fields are left out at random, so that it relies on no single one."""
        kept = self.dropout(torch.ones(values.shape[:2], device=values.device))
        last: Tensor = self.layers((values * kept[..., None]).flatten(1)) / self.scale
        return last

    def fit(self, coding: FieldCoding, table: Any, targets: Tensor, task: TaskName, outputs: int, steps: int) -> None:
        """Fit values and layers to the training rows, with an output layer that is not kept.

        table    (rows, fields) as `FieldCoding.read` has them
        targets  as Encoded.target, one for each row
        """
        labelled, single = get_task(task).labelled, get_task(task).single_label
        if not labelled:
            targets = ((targets - targets.mean()) / targets.std().clamp_min(1e-12)).float()[:, None]
        outlet = nn.Linear(HIDDEN, outputs)
        optimizer = torch.optim.AdamW([*self.parameters(), *outlet.parameters()], lr=RATE, weight_decay=DECAY)
        size = max(LEAST_BATCH, min(BATCH, len(table) // BATCHES))
        order: list[int] = []
        self.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            if len(order) < size:
                order = torch.randperm(len(table)).tolist()
            chosen, order = order[:size], order[size:]
            hidden = self.hidden(self.values(torch.from_numpy(coding.encode(table[chosen]))))
            answer, truth = outlet(self.dropout(hidden)), targets[chosen]
            if not labelled:
                loss = F.mse_loss(answer, truth)
            else:
                loss = F.cross_entropy(answer, truth) if single else F.binary_cross_entropy_with_logits(answer, truth.float())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        self.eval()

    @torch.no_grad()
    def measure(self, encoded: Tensor, spread: float) -> None:
        """Set the scale of the last layer by some training rows, and tokens whose numbers spread as the base's own do."""
        values = self.values(encoded)
        self.scale.copy_(self.hidden(values).norm(dim=1).mean().clamp_min(1e-6))
        size = float(values.square().sum(-1).mean().sqrt()) or 1.0
        nn.init.normal_(self.token.weight, std=spread / size)
        nn.init.zeros_(self.token.bias)


class RecordsSpecialist(PooledSpecialist):
    """A record as one token for each field."""

    reads: ClassVar[Modality] = "records"
    bases: ClassVar[tuple[Family, ...]] = ("encoder", "causal")
    auto_class: ClassVar[str] = "AutoModel"

    def __init__(self, backbone: Any, base: Base, recipe: Recipe, labels: LabelSpace | None, head: Head | None = None) -> None:
        super().__init__(backbone, base, recipe, labels)
        self.settings = recipe.records
        self.base = base
        self.max_length = MOST_FIELDS
        model = find_model(backbone)
        drop_layers(model, self.settings.layers, "records.layers")
        self.width: int = model.config.hidden_size
        self.head = head or Head(self.width + HIDDEN, len(labels) if labels else 1)
        self.coding: FieldCoding | None = None
        self.network: FieldNetwork | None = None
        self.names: Tensor
        self.register_buffer("names", torch.zeros(0, self.width), persistent=False)

    @classmethod
    def build_untrained(
        cls, base: Base, recipe: Recipe, labels: LabelSpace | None, layout: SeriesLayout | None = None
    ) -> RecordsSpecialist:
        """Build an untrained specialist: LoRA that changes nothing yet. Its other layers are made by `fit_to_rows`."""
        adapted = lora_on_layers(load_backbone(base), recipe, recipe.records.layers, "records.layers", base.name)
        return cls(adapted, base, recipe, labels)

    @classmethod
    def load_trained(cls, backbone: Any, base: Base, recipe: Recipe, card: Card, files: CheckedFiles) -> RecordsSpecialist:
        """Load the files of `save` onto a backbone that already carries the adapter."""
        made = cls(backbone, base, recipe, card.labels, load_head(files))
        made.load_network(files)
        return made

    def load_network(self, files: CheckedFiles) -> None:
        """Load the coding of the fields and the network that reads them.

        Raises CorruptAdapter.
        """
        state: dict[str, Tensor] = load_tensors(files.read(RECORDS), files.folder / RECORDS)
        try:
            coding = FieldCoding.from_arrays({name: state.pop(name).numpy() for name in ("fields", "edges")})
            self._use(coding)
            assert self.network is not None
            self.network.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CorruptAdapter(
                f"cannot be read: {error}. Download the adapter again.", where=files.folder / RECORDS
            ) from None

    def save(self, folder: Path) -> None:
        """Write the coding of the fields, the network that reads them, and the head."""
        from safetensors.torch import save_file

        assert self.coding is not None
        assert self.network is not None
        arrays = {name: torch.from_numpy(array) for name, array in self.coding.to_arrays().items()}
        state = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        save_file({**arrays, **state}, folder / RECORDS)
        super().save(folder)

    def fit_to_rows(self, rows: Sequence[Encoded]) -> None:
        """Learn bins and words from the training rows, and fit the small network."""
        coding = FieldCoding.fit([row.record for row in rows], self.settings.bins)
        network = self._use(coding).cpu()
        table, targets = coding.read([row.record for row in rows]), torch.tensor([row.target for row in rows])
        assert self.head is not None
        network.fit(coding, table, targets, self.task, self.head.linear.out_features, self.settings.steps)
        spread = float(find_model(self.backbone).get_input_embeddings().weight.std())
        network.measure(torch.from_numpy(coding.encode(table[: 16 * BATCH])), spread)
        network.to(self.names.device)

    def _use(self, coding: FieldCoding) -> FieldNetwork:
        """Read records by a coding: embed the names of its fields, and make the network for it."""
        texts = load_text_tokenizer(self.base)
        embeddings = find_model(self.backbone).get_input_embeddings()
        device = embeddings.weight.device
        with torch.no_grad():
            ids = [torch.tensor(texts.encode(name).ids, dtype=torch.long, device=device) for name in coding.fields]
            named = [embeddings(own).float().mean(0) if len(own) else torch.zeros(self.width, device=device) for own in ids]
        self.coding, self.names = coding, torch.stack(named)
        self.network = FieldNetwork(coding, self.width, self.dropout.p).to(device).eval()
        return self.network

    def self_test_row(self, text: str) -> Example:
        """A record that depends on the text and on the coding alone."""
        assert self.coding is not None
        return Example(id=text, text=text, record=self.coding.draw(np.random.default_rng(stable_hash(text) % 2**32)))

    def encode(self, example: Example, *, learn: bool) -> Encoded:
        """Keep the row's record, and count the words in it that no training row has.

        Raises DataError for a row without a record.
        """
        if not example.record:
            raise DataError(
                f"row {example.id}: is not a record of fields. Set data.reader: {{use: table, record: all}}, or data.modality: text."
            )
        target = get_task(self.task).encode_target(example.target, self.labels) if learn else None
        unseen = self.coding.count_unseen(example.record) if self.coding is not None else 0
        return Encoded(
            target=target, record=example.record, size=len(example.record), unknown=unseen, tokens=len(example.record)
        )

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """encoded (rows, fields, slots); targets (rows,) or (rows, k) if rows have them."""
        assert self.coding is not None
        batch = {"encoded": torch.from_numpy(self.coding.encode(self.coding.read([row.record for row in rows])))}
        if rows[0].target is not None:
            batch["targets"] = torch.tensor([row.target for row in rows])
        return batch

    def features(self, batch: Batch) -> Tensor:
        """The mean of the tokens, of length 1, and the last layer of the small network: (rows, width + HIDDEN)."""
        assert self.network is not None
        with torch.autocast(self.names.device.type, enabled=False):  # the bins need more digits than bfloat16 has
            values = self.network.values(batch["encoded"])
            tokens = self.names + self.network.token(values)
            own = self.network.hidden(values)
        hidden = run_tokens(find_model(self.backbone), tokens.to(find_model(self.backbone).dtype), ordered=False)
        return torch.cat([F.normalize(hidden.float().mean(dim=1), dim=-1), own], dim=1)
