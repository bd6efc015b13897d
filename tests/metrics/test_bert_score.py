"""BERTScore against its formula, with token vectors that transformers computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from vertical_sdk.errors import BaseModelError
from vertical_sdk.metrics import bind


def token_vectors(folder: Path, text: str) -> torch.Tensor:
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0]
    return normalize(hidden[1:-1], dim=-1)


def test_bert_score_is_the_f1_of_the_best_matches(encoder: Path) -> None:
    answer, reference = "pain cough rash", "cough pain"
    mine, other = token_vectors(encoder, answer), token_vectors(encoder, reference)
    best_of = lambda a, b: sum(max(float(x @ y) for y in b) for x in a) / len(a)  # noqa: E731
    precision, recall = best_of(mine, other), best_of(other, mine)
    expected = 2 * precision * recall / (precision + recall)

    score = bind("bert_score", arguments={"encoder": str(encoder)})

    assert 0 < expected < 1
    assert score([answer], [reference]) == pytest.approx(expected, abs=1e-5)
    assert score([answer, "rash"], [reference, "rash"]) == pytest.approx((expected + 1) / 2, abs=1e-5)


def test_an_empty_answer_scores_only_if_the_reference_is_empty(encoder: Path) -> None:
    assert bind("bert_score", arguments={"encoder": str(encoder)})(["", ""], ["", "pain"]) == 0.5


def test_a_causal_base_is_refused(causal: Path) -> None:
    with pytest.raises(BaseModelError, match="is a causal base, and an encoder is needed to compare texts"):
        bind("bert_score", arguments={"encoder": str(causal)})(["a"], ["b"])
