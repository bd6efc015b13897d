"""A text for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vertical_sdk.outputs import Outputs, answer_of
from vertical_sdk.tasks.task import Task, Verb
from vertical_sdk.types import Example, LabelSpace, Modality

__all__ = ["GENERATION", "Generation"]


@dataclass(frozen=True, kw_only=True)
class Generation(Task):
    """A text that continues a conversation."""

    written: bool = True
    modalities: tuple[Modality, ...] = ("text",)
    verb: Verb = "generate"

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> list[str]:
        """The answers that the rows hold."""
        return [answer_of(row) for row in rows]

    def predictions(self, outputs: Outputs) -> list[str]:
        """The texts."""
        if outputs.texts is None:
            raise ValueError(f"these outputs are not those of {self.name}")
        return outputs.texts

    def format(self, values: Any, labels: LabelSpace | None) -> list[str]:
        """The texts unchanged."""
        return list(values)


GENERATION = Generation(name="generation", default_loss="cross_entropy", default_metrics=("exact_match", "token_f1", "rouge_l"))
