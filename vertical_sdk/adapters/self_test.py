"""Self-tests: inputs stored with an adapter, with the outputs of base and adapter when it was trained.

Each load replays them. Their texts are the labels' own descriptions or sentences written for this purpose, never rows of
anyone's data.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.baselines.stacking import Ensemble
from vertical_sdk.card import Calibration, Field, SelfTest
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import DataError, IdleAdapter
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Specialist, run_rows, switched_off
from vertical_sdk.outputs import Outputs
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, TaskName

__all__ = ["SHARE", "Whole", "compare_answer", "complete_row", "list_numbers", "record_self_tests", "replay_self_tests", "thin"]

SENTENCES = (
    "The first of two parts is complete.",
    "Nothing of note was found on Monday.",
    "Please send 12 copies to the office.",
)
SHARE = 0.02
"""By which an answer may differ from the recorded one, as processors round differently."""
MOST_NUMBERS = 64
"""About how many numbers of an output are stored: a forecast for many channels has thousands."""
MOST_TOKENS = 24
"""Tokens of a self-test that a generation specialist is compared on."""


@dataclass(frozen=True, eq=False)
class Whole:
    """What answers together with an adapter: the members of its ensemble, and its calibration.

    files   those of the adapter, for members that read the base's linear probe
    fields  of the adapter's records
    """

    ensemble: Ensemble | None
    calibration: Calibration
    files: CheckedFiles | None = None
    fields: tuple[Field, ...] = ()

    def answer(self, specialist: Specialist, texts: Sequence[str], raw: Tensor) -> NDArray[np.float64]:
        """Answer self-tests as predictions are answered: combine, calibrate, decide. (rows, numbers), about MOST_NUMBERS at most.

        raw  the adapter's outputs

        Raises DataError for a member that cannot read the inputs of self-tests, IdleAdapter for a number that is not finite.
        """
        rows, own = [self._build_row(specialist, text) for text in texts], raw.numpy()
        if self.ensemble is not None:
            own = self.ensemble.combine(own, self.ensemble.gather(rows, FrozenBase(specialist, self.files)), rows)
        numbers = list_numbers(get_task(specialist.task).decode(own, self.calibration, rows))
        if not np.isfinite(numbers).all():
            raise IdleAdapter("a self-test is answered with a number that is not finite. Train the adapter again.")
        return thin(numbers)

    def _build_row(self, specialist: Specialist, text: str) -> Example:
        """The row of a self-test, with what the members and the task read besides: a time, the next step, fields and numbers."""
        return complete_row(specialist.self_test_row(text), specialist.task, self.ensemble, self.fields)


def complete_row(row: Example, task_name: TaskName, ensemble: Ensemble | None, fields: Sequence[Field]) -> Example:
    """Add to the row of a self-test what the members and the task read besides, drawn from its text, which is its id."""
    rng = np.random.default_rng(stable_hash(row.id) % 2**32)
    if get_task(task_name).ahead and row.values is not None:
        row = replace(row, time=f"2024-01-{1 + int(28 * rng.random()):02d}T{int(24 * rng.random()):02d}:00:00")
        row = replace(row, target=np.asarray(row.values)[:1])
    for member in ensemble.members if ensemble is not None else ():
        fill_row = getattr(member, "fill_row", None)
        row = fill_row(row, rng) if fill_row is not None else row
    known = dict(row.record)
    rest = ((field.name, "" if field.words else rng.random()) for field in fields if field.name not in known)
    return replace(row, record=(*row.record, *rest))


def thin(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out columns of (tests, numbers) evenly, so that about MOST_NUMBERS are left."""
    return numbers[:, :: max(1, numbers.shape[1] // MOST_NUMBERS)]


def list_numbers(outputs: Outputs) -> NDArray[np.float64]:
    """All numbers of an answer, and how far each label and score is on the way to being chosen."""
    p, scores = outputs.probabilities, outputs.values
    parts = [p, scores, outputs.quantiles]
    if p is not None and outputs.offsets is not None:
        odds = p * np.exp(outputs.offsets)
        parts.append(odds / (1 - p + odds))
    if scores is not None and outputs.threshold is not None:
        parts.append(scores / (scores + outputs.threshold))
    return np.concatenate([part.reshape(len(part), -1) for part in parts if part is not None], axis=1)


def record_self_tests(specialist: Specialist, whole: Whole | None = None, most: int = 4) -> tuple[SelfTest, ...]:
    """Record the outputs of base and adapter for the same few inputs, and the answers of the whole."""
    labels = specialist.labels
    texts = [labels.describe(label) for label in labels.labels[: most - 1]] if labels else list(SENTENCES[1:])
    texts.append(SENTENCES[0])
    rows = _encode(specialist, texts)
    adapter, raw = _outputs(specialist, rows)
    with switched_off(specialist):
        base, _ = _outputs(specialist, rows)
    answers: Any = [()] * len(texts)
    if whole is not None and raw is not None:
        with contextlib.suppress(DataError):  # a member from outside that needs more than the row of a self-test has
            answers = whole.answer(specialist, texts, raw).tolist()
    return tuple(
        SelfTest(text=text, base=tuple(before.tolist()), adapter=tuple(after.tolist()), whole=tuple(answer))
        for text, before, after, answer in zip(texts, base, adapter, answers, strict=True)
    )


def replay_self_tests(
    specialist: Specialist, self_tests: Sequence[SelfTest], where: str, *, whole: Whole | None = None, large: bool = False
) -> None:
    """Check that the adapter gives the recorded outputs, and that they come from the adapter and not from the base alone.

    The base runs only if the adapter's outputs do not already show that: its weights are known by their fingerprint. Numbers may
    differ by 2% of what the adapter changes (or 1e-3), because processors round differently.

    whole  members and calibration, whose answers are compared too. Cards of earlier versions have none recorded: then the answers
           need only be finite numbers
    large  the base may have run in bfloat16, so 10% are allowed

    Raises IdleAdapter if the adapter changes nothing, or something else than when it was trained.
    """
    if not self_tests:
        raise IdleAdapter("the adapter has no self-tests, so nothing shows that it works. Train it again.", where=where)
    rows = _encode(specialist, [self_test.text for self_test in self_tests])
    outputs, raw = _outputs(specialist, rows)
    share = 0.1 if large else SHARE
    _compare_adapter(specialist, self_tests, rows, outputs, share, where)
    if whole is not None and raw is not None:
        _compare_whole(whole, specialist, self_tests, raw, share, where)


def _compare_whole(
    whole: Whole, specialist: Specialist, self_tests: Sequence[SelfTest], raw: Tensor, share: float, where: str
) -> None:
    """Compare the answers of adapter, members and calibration together with the recorded ones."""
    try:
        answers = whole.answer(specialist, [self_test.text for self_test in self_tests], raw)
    except DataError as error:
        if any(self_test.whole for self_test in self_tests):
            raise IdleAdapter(
                f"the members do not answer a self-test that they answered in training: {error}", where=where
            ) from None
        return
    for self_test, answer in zip(self_tests, answers, strict=True):
        if self_test.whole:
            who, what = "adapter, members and calibration together", "The members, the calibration or library versions"
            compare_answer(self_test.text, np.array(self_test.whole), answer, share, where, who=who, what=what)


def compare_answer(
    text: str, recorded: NDArray[np.float64], answer: NDArray[np.float64], share: float, where: str, *, who: str, what: str
) -> None:
    """Compare an answer to a self-test with the recorded one. It may differ by a share of the largest number, or by 1e-3.

    who, what  give the answer; may have changed

    Raises IdleAdapter.
    """
    if recorded.shape != answer.shape:
        raise IdleAdapter(f"a self-test is answered with {len(answer)} numbers; {len(recorded)} were recorded.", where=where)
    distance, allowed = float(np.abs(recorded - answer).max()), max(1e-3, share * float(np.abs(recorded).max()))
    if not distance <= allowed:
        raise IdleAdapter(
            f"{who} give another answer than when the adapter was trained: {text!r} differs by {distance:.4g}, and {allowed:.4g} is "
            f"allowed. {what} have changed.",
            where=where,
        )


def _compare_adapter(
    specialist: Specialist,
    self_tests: Sequence[SelfTest],
    rows: list[Encoded],
    outputs: list[Tensor],
    share: float,
    where: str,
) -> None:
    """Compare the adapter's outputs with the recorded ones, and with the base's if they do not differ from those enough."""
    recorded = [(torch.tensor(self_test.base), torch.tensor(self_test.adapter)) for self_test in self_tests]
    changes = [float((adapter - base).abs().max()) if len(base) == len(adapter) else 0.0 for base, adapter in recorded]
    allowed = [max(1e-3, share * change) for change in changes]
    for (_, adapter), output in zip(recorded, outputs, strict=True):
        if adapter.shape != output.shape:
            raise IdleAdapter(
                f"the adapter gives {len(output)} numbers for a self-test; {len(adapter)} were recorded.", where=where
            )
    distances = [float((adapter - output).abs().max()) for (_, adapter), output in zip(recorded, outputs, strict=True)]
    if all(distance <= limit < change for distance, limit, change in zip(distances, allowed, changes, strict=True)):
        return  # the outputs are as recorded, and further from the base than the tolerance
    with switched_off(specialist):
        bare, _ = _outputs(specialist, rows)
    for n, self_test in enumerate(self_tests):
        if changes[n] == 0.0 or float((outputs[n] - bare[n]).abs().max()) < min(changes[n] / 2, 1e-6):
            raise IdleAdapter(
                "the adapter changes nothing: base and adapter give the same outputs. It was not applied, or it is empty.",
                where=where,
            )
        for name, distance in (("base", float((recorded[n][0] - bare[n]).abs().max())), ("adapter", distances[n])):
            if not distance <= allowed[n]:
                raise IdleAdapter(
                    f"the {name} gives other outputs than when the adapter was trained: {self_test.text!r} differs by {distance:.4g}, "
                    f"and {allowed[n]:.4g} is allowed. Base weights, tokenizer, library versions or the adapter's files have changed.",
                    where=where,
                )


def _encode(specialist: Specialist, texts: Sequence[str]) -> list[Encoded]:
    rows = [specialist.encode(specialist.self_test_row(text), learn=False) for text in texts]
    if get_task(specialist.task).written:
        return [Encoded(ids=row.ids[:MOST_TOKENS], learn=(True,) * len(row.ids[:MOST_TOKENS])) for row in rows]
    return rows


def _outputs(specialist: Specialist, rows: Sequence[Encoded]) -> tuple[list[Tensor], Tensor | None]:
    """Outputs of each row (k,), or every n-th of them if there are many; for generation each token's log-likelihood after the first.

    returns  also the raw outputs of all rows; None for generation
    """
    if not get_task(specialist.task).written:
        raw = run_rows(specialist, rows, lambda batch: specialist(batch)[0])
        flat = raw.flatten(1)
        return list(flat[:, :: max(1, flat.shape[1] // MOST_NUMBERS)]), raw
    with torch.inference_mode():
        device = next(specialist.backbone.parameters()).device
        outputs, targets = specialist({key: value.to(device) for key, value in specialist.collate(rows).items()})
        assert targets is not None
        likelihoods = outputs.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].cpu()
        return list(torch.split(likelihoods, [row.units for row in rows])), None
