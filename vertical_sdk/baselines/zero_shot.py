"""The base model as a baseline, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError
from vertical_sdk.families.causal import CausalSpecialist
from vertical_sdk.families.chat import encode_turns
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.families.specialist import run_rows, switched_off
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["ZeroShot", "base"]


@dataclass(frozen=True)
class ZeroShot:
    """The untrained base model.

    sharpness       factor from cosine similarity to logits, for encoders
    max_new_tokens  limit of an answer, for generation
    """

    task: TaskName
    labels: LabelSpace | None
    sharpness: float
    max_new_tokens: int

    def predict(self, rows: Sequence[Example], base: FrozenBase) -> Outputs:
        """Predict the label with the nearest description, the likeliest label word, write an answer, or read the texts."""
        specialist = base.specialist
        if get_task(self.task).written:
            assert isinstance(specialist, CausalSpecialist)
            prompts = [encode_turns(specialist.text_tokenizer, row.messages[:-1], specialist.max_length) for row in rows]
            with switched_off(specialist):
                answers = specialist.write(prompts, Decoding(max_new_tokens=self.max_new_tokens), progress=base.progress)
            return Outputs(texts=[answer.text for answer in answers])
        unlabelled = get_task(self.task).unlabelled
        assert unlabelled or self.labels is not None
        if unlabelled or isinstance(specialist, CausalSpecialist):
            encoded = [specialist.encode(row, learn=False) for row in rows]
            with switched_off(specialist):
                raw = run_rows(specialist, encoded, lambda batch: specialist(batch)[0])
            return get_task(self.task).decode(raw.numpy(), rows=rows)
        assert self.labels is not None
        described = [Example(id=label, text=self.labels.describe(label)) for label in self.labels.labels]
        similarity = F.normalize(base.features(rows), dim=-1) @ F.normalize(base.features(described), dim=-1).T
        return get_task(self.task).decode((similarity * self.sharpness).numpy())

    def to_arrays(self) -> Arrays:
        """Return the settings; nothing was trained."""
        labels = self.labels and {"labels": self.labels.labels, "descriptions": dict(self.labels.descriptions)}
        return {"settings": encode_json({"task": self.task, "labels": labels, "sharpness": self.sharpness})}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ZeroShot:
        """Restore the baseline from `to_arrays`. Members of an ensemble do not write, so `max_new_tokens` is not stored."""
        settings = decode_json(arrays["settings"])
        labels = settings["labels"] and LabelSpace(tuple(settings["labels"]["labels"]), settings["labels"]["descriptions"])
        sharpness = float(settings["sharpness"])
        if not sharpness > 0:
            raise ValueError(f"sharpness must be more than 0, and is {sharpness:g}")
        return cls(settings["task"], labels, sharpness, 0)


@baselines.register("base", title="general base, zero-shot", saves_as=ZeroShot, reads_base=True)
def base(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: FrozenBase,
    *,
    sharpness: float = 20.0,
    max_new_tokens: int = 128,
) -> ZeroShot:
    """Use the base model without training (zero-shot).

    An encoder predicts the label whose description is nearest to the text (cosine similarity × `sharpness` as logits). A causal
    model predicts the label whose words are likeliest after the prompt; for generation it writes the answer. For a task without labels
    it reads the texts as it is.

    Raises DataError for tasks that need training; use `probe` there.
    """
    if not get_task(task).untrained:
        raise DataError(f"the untrained base cannot do {task}. Use the linear probe: evaluate.baselines: [probe].")
    return ZeroShot(task, labels, sharpness, max_new_tokens)
