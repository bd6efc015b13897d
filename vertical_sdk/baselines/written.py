"""Answers without a model that writes: the beginning of the text, and the answer to the most similar training text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vertical_sdk.baselines.fitted import read_targets
from vertical_sdk.bases.sentence_encoder import ENCODER, Floats, SentenceEncoder, load_encoder
from vertical_sdk.catalog import baselines
from vertical_sdk.data.texts import BOUNDARY
from vertical_sdk.metrics.text import TOKEN, rouge_l
from vertical_sdk.outputs import Outputs, source_of
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["lead", "nearest_answer"]


@dataclass(frozen=True)
class _Lead:
    """Answers with the beginning of the text.

    words  how many; None: its first sentence
    """

    words: int | None

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Copy the first words of each text, or its first sentence."""
        return Outputs(texts=[_cut(source_of(row), self.words) for row in rows])


@baselines.register("lead", tasks=("generation",), title="first words of the text", classical=3)
def lead(train: Sequence[Example], labels: LabelSpace | None, task: TaskName, seed: int, base: Any) -> _Lead:
    """Answer with the first sentence of the text, or with as many of its first words as training answers have on average.

    Which of the two is decided by ROUGE-L on the training rows. In scripts without spaces, a word is a character. The text is the
    prompt without the instruction.

    Raises DataError if there are no training rows.
    """
    answers = read_targets(train, labels, task)
    size = max(1, round(sum(len(TOKEN.findall(answer)) for answer in answers) / len(answers)))
    return max((_Lead(size), _Lead(None)), key=lambda system: rouge_l(system.predict(train, base).texts or [], answers))


@dataclass(frozen=True, eq=False)
class _NearestAnswer:
    """Answers as the most similar training text was answered.

    known  (training rows, width) vectors of the training texts, of length 1
    """

    encoder: SentenceEncoder
    known: Floats
    answers: list[str]

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Copy the answer to the training text with the greatest cosine similarity; among equals, the first."""
        nearest = [int((self.known @ self.encoder.read_text(source_of(row))).argmax()) for row in rows]
        return Outputs(texts=[self.answers[place] for place in nearest])


@baselines.register("nearest_answer", tasks=("generation",), title="answer to the nearest training text", classical=2)
def nearest_answer(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: Any,
    *,
    encoder: str = ENCODER,
) -> _NearestAnswer:
    """Answer with the answer to the most similar training text, by the cosine similarity of mean token vectors.

    encoder  an embedded base, a folder or a hub id, of the family encoder. It must read the language of the texts

    Raises DataError if there are no training rows; BaseModelError for a base that is not an encoder.
    """
    answers = read_targets(train, labels, task)
    reader = load_encoder(encoder)
    return _NearestAnswer(reader, np.stack([reader.read_text(source_of(row)) for row in train]), answers)


def _cut(text: str, words: int | None) -> str:
    """The first words of a text, or its first sentence."""
    if words is None:
        end = BOUNDARY.search(text)
        return text[: end.end()].rstrip() if end else text
    places = [match.end() for match in TOKEN.finditer(text)][:words]
    return text[: places[-1]] if places else ""
