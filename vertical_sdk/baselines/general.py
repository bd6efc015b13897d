"""The general model as a baseline: asked as it comes, or with a linear probe on what it makes of the rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.baselines.fitted import Arrays, as_bytes, from_bytes
from vertical_sdk.catalog import baselines
from vertical_sdk.data.texts import comparable_values
from vertical_sdk.errors import DataError
from vertical_sdk.families.causal import CausalSpecialist
from vertical_sdk.families.chat import encode_turns
from vertical_sdk.families.head import PROBE_HEAD, Head, fit_probe, load_head
from vertical_sdk.families.specialist import Specialist, run_rows, switched_off
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Progress, Task, silent

__all__ = ["General", "LinearProbe", "ZeroShot", "base", "probe"]


class General:
    """A specialist's base with the adapter switched off. What it makes of a row is computed once."""

    def __init__(self, specialist: Specialist, folder: Path | None = None, progress: Progress = silent) -> None:
        self.specialist = specialist
        self.folder = folder
        self.progress = progress
        self._features: dict[tuple[object, ...], Tensor] = {}

    def features(self, rows: Sequence[Example]) -> Tensor:
        """What the backbone makes of each row: (rows, width)."""
        new = list({_read(row): row for row in rows if _read(row) not in self._features}.values())
        if new:
            encoded = [self.specialist.encode(row, learn=False) for row in new]
            with switched_off(self.specialist):
                made = run_rows(
                    self.specialist,
                    encoded,
                    self.specialist.features,
                    progress=lambda share: self.progress("reading with the base", share),
                )
            self._features.update(zip(map(_read, new), made, strict=True))
        return torch.stack([self._features[_read(row)] for row in rows])


def _read(row: Example) -> tuple[object, ...]:
    """What a specialist reads of a row."""
    return row.text, row.messages, comparable_values(row)


@dataclass(frozen=True)
class ZeroShot:
    """The general model as it comes."""

    task: Task
    labels: LabelSpace | None
    sharpness: float
    max_new_tokens: int

    def ask(self, rows: Sequence[Example], base: General) -> Outputs:
        """The label of the nearest description, the likeliest word, or what the base writes."""
        specialist = base.specialist
        if get_task(self.task).written:
            assert isinstance(specialist, CausalSpecialist)
            prompts = [encode_turns(specialist.tokenizer, row.messages[:-1], specialist.max_length) for row in rows]
            with switched_off(specialist):
                return Outputs(texts=specialist.write(prompts, max_new_tokens=self.max_new_tokens, progress=base.progress))
        assert self.labels is not None
        if isinstance(specialist, CausalSpecialist):
            encoded = [specialist.encode(row, learn=False) for row in rows]
            with switched_off(specialist):
                raw = run_rows(specialist, encoded, lambda batch: specialist(batch)[0])
            return get_task(self.task).decode(raw.numpy())
        described = [Example(id=label, text=self.labels.describe(label)) for label in self.labels.labels]
        similarity = F.normalize(base.features(rows), dim=-1) @ F.normalize(base.features(described), dim=-1).T
        return get_task(self.task).decode((similarity * self.sharpness).numpy())

    def arrays(self) -> Arrays:
        """What it was told."""
        labels = self.labels and {"labels": self.labels.labels, "descriptions": dict(self.labels.descriptions)}
        return {"kept": as_bytes({"task": self.task, "labels": labels, "sharpness": self.sharpness})}

    @classmethod
    def of(cls, arrays: Arrays) -> ZeroShot:
        """The same again."""
        kept = from_bytes(arrays["kept"])
        labels = kept["labels"] and LabelSpace(tuple(kept["labels"]["labels"]), kept["labels"]["descriptions"])
        return cls(kept["task"], labels, kept["sharpness"], 0)


@baselines.register("base", title="general base, zero-shot", saves_as=ZeroShot)
def base(
    train: Sequence[Example],  # noqa: ARG001  (all baselines are given the same things)
    labels: LabelSpace | None,
    task: Task,
    seed: int,  # noqa: ARG001
    base: General,  # noqa: ARG001
    *,
    sharpness: float = 20.0,
    max_new_tokens: int = 128,
) -> ZeroShot:
    """The general model as it comes, without training: zero-shot.

    An encoder takes the label whose description is nearest to the text (cosine similarity × `sharpness` as logits); a causal model
    the label whose words are likeliest behind the prompt; for generation it writes.

    Raises DataError for tasks that the base cannot do untrained; use `probe` there.
    """
    kind = get_task(task)
    if not kind.written and not kind.single_label:
        raise DataError(f"the general base cannot do {task} untrained; compare with evaluate.baselines: [probe] instead.")
    return ZeroShot(task, labels, sharpness, max_new_tokens)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear layer on the frozen base."""

    task: Task
    head: Head

    def ask(self, rows: Sequence[Example], base: General) -> Outputs:
        """What the layer says of the base's features."""
        with torch.inference_mode():
            return get_task(self.task).decode(self.head(base.features(rows)).numpy())

    def arrays(self) -> Arrays:
        """The layer's weights."""
        state = {key: value.numpy() for key, value in self.head.state_dict().items()}
        return {"kept": as_bytes({"task": self.task})} | state

    @classmethod
    def of(cls, arrays: Arrays) -> LinearProbe:
        """The same again."""
        outputs, width = arrays["linear.weight"].shape
        head = Head(width, outputs)
        head.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items() if key != "kept"})
        return cls(from_bytes(arrays["kept"])["task"], head)


@baselines.register(
    "probe",
    tasks=("classification", "ordinal", "multilabel", "regression"),
    title="general base, linear probe",
    saves_as=LinearProbe,
)
def probe(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: General,
    *,
    most: int = 2000,
    C: float = 1.0,  # noqa: N803  (scikit-learn's name)
) -> LinearProbe:
    """A linear layer on the frozen base, fitted on the training rows: what the base knows without being changed.

    The one that the adapter's head began from is used where it was kept. Else it is fitted here, on at most `most` training rows
    chosen by the seed, as reading a row costs a pass through the whole base.

    C  inverse strength of the L2 penalty, where it is fitted here
    """
    if base.folder is not None and (base.folder / PROBE_HEAD).is_file():
        return LinearProbe(task, load_head(base.folder, PROBE_HEAD))
    chosen = train if len(train) <= most else random.Random(seed).sample(list(train), most)  # noqa: S311
    targets = [base.specialist.encode(row, learn=True).target for row in chosen]
    return LinearProbe(
        task, fit_probe(base.features(chosen), targets, task, len(labels) if labels else 1, seed=seed, strength=C)
    )
