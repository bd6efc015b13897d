"""The general model as a rival: asked as it comes, or with a linear probe on what it makes of the rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError
from vertical_sdk.evaluation.outputs import Outputs
from vertical_sdk.metrics.calibration import to_probabilities
from vertical_sdk.models.causal import CausalSpecialist
from vertical_sdk.models.chat import encode_turns
from vertical_sdk.models.head import PROBE_HEAD, Head, fit_probe, load_head
from vertical_sdk.models.specialist import Specialist, run_rows, switched_off
from vertical_sdk.types import Example, LabelSpace, Progress, Task, silent

__all__ = ["General", "as_outputs", "base", "probe"]


class General:
    """A specialist's base with the adapter switched off. What it makes of rows is computed once."""

    def __init__(self, specialist: Specialist, folder: Path, progress: Progress = silent) -> None:
        self.specialist = specialist
        self.folder = folder
        self.progress = progress
        self._features: dict[int, tuple[Sequence[Example], Tensor]] = {}

    def features(self, rows: Sequence[Example]) -> Tensor:
        """What the trunk makes of each row: (rows, width)."""
        known = self._features.get(id(rows))
        if known is None or known[0] is not rows:
            encoded = [self.specialist.encode(row, learn=False) for row in rows]
            with switched_off(self.specialist):
                made = run_rows(
                    self.specialist,
                    encoded,
                    self.specialist.features,
                    progress=lambda share: self.progress("reading with the base", share),
                )
            known = self._features[id(rows)] = (rows, made)
        return known[1]


def as_outputs(raw: Tensor, task: Task, temperature: float = 1.0) -> Outputs:
    """Raw outputs of a specialist or a head, (rows, k), as Outputs."""
    if task == "regression":
        return Outputs(values=raw[:, 0].double().numpy())
    return Outputs(scores=to_probabilities(raw.numpy(), temperature=temperature, multilabel=task == "multilabel"))


@baselines.register("base")
def base(
    train: Sequence[Example],  # noqa: ARG001  (all baselines are given the same things)
    rows: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,  # noqa: ARG001
    base: General,
    *,
    sharpness: float = 20.0,
    max_new_tokens: int = 128,
) -> Outputs:
    """The general model as it comes, without training: zero-shot.

    An encoder takes the label whose description is nearest to the text (cosine similarity × `sharpness` as logits); a causal model
    the label whose words are likeliest behind the prompt; for generation it writes.

    Raises DataError for tasks that the base cannot do untrained; use `probe` there.
    """
    specialist = base.specialist
    if task == "generation":
        assert isinstance(specialist, CausalSpecialist)
        prompts = [encode_turns(specialist.tokenizer, row.messages[:-1], specialist.max_length) for row in rows]
        with switched_off(specialist):
            return Outputs(texts=specialist.write(prompts, max_new_tokens=max_new_tokens, progress=base.progress))
    if labels is None or task == "multilabel":
        raise DataError(f"the general base cannot do {task} untrained; compare with evaluate.against: [probe] instead.")
    if isinstance(specialist, CausalSpecialist):
        encoded = [specialist.encode(row, learn=False) for row in rows]
        with switched_off(specialist):
            raw = run_rows(specialist, encoded, lambda batch: specialist(batch)[0])
        return as_outputs(raw, task)
    described = [Example(id=label, text=labels.describe(label)) for label in labels.labels]
    similarity = F.normalize(base.features(rows), dim=-1) @ F.normalize(base.features(described), dim=-1).T
    return as_outputs(similarity * sharpness, task)


@baselines.register("probe")
def probe(
    train: Sequence[Example],
    rows: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: General,
    *,
    most: int = 2000,
) -> Outputs:
    """A linear layer on the frozen base, fitted on the training rows: what the base knows without being changed.

    The one that the adapter's head began from is used where it was kept. Else it is fitted here, on at most `most` training rows
    chosen by the seed, as reading a row costs a pass through the whole base.

    Raises DataError for generation.
    """
    if task == "generation":
        raise DataError("a linear probe cannot write; leave 'probe' out of evaluate.against.")
    head: Head
    if (base.folder / PROBE_HEAD).is_file():
        head = load_head(base.folder, PROBE_HEAD)
    else:
        chosen = train if len(train) <= most else random.Random(seed).sample(list(train), most)  # noqa: S311
        targets = [base.specialist.encode(row, learn=True).target for row in chosen]
        head = fit_probe(base.features(chosen), targets, task, len(labels) if labels else 1, seed=seed)
    with torch.inference_mode():
        return as_outputs(head(base.features(rows)), task)
