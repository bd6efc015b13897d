"""The sentence encoder against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from vertical_sdk.bases.sentence_encoder import load_encoder


def test_a_text_is_the_mean_of_its_hidden_states_and_is_cut_at_the_longest_input(encoder: Path) -> None:
    text = " ".join(["pain cough rash"] * 30)  # 90 tokens, of which 62 fit beside [CLS] and [SEP]
    inputs = AutoTokenizer.from_pretrained(encoder)(
        text, return_tensors="pt", truncation=True, max_length=64, return_token_type_ids=False
    )
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(encoder).eval()(**inputs).last_hidden_state[0].numpy()
    mean = hidden.mean(axis=0)

    read = load_encoder(str(encoder)).read_text(text)

    assert inputs["input_ids"].shape == (1, 64)
    np.testing.assert_allclose(read, mean / np.linalg.norm(mean), atol=1e-5)


def test_control_tokens_of_a_text_are_characters(encoder: Path) -> None:
    reader = load_encoder(str(encoder))

    assert len(reader.read_tokens("pain [SEP] road")) > len(reader.read_tokens("pain cough"))
    assert reader.read_tokens("").shape == (0, 32)
