"""Similarity of meaning between written answers and references, by the token vectors of an encoder."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from vertical_sdk.bases.sentence_encoder import ENCODER, load_encoder
from vertical_sdk.catalog import SHARE, metrics
from vertical_sdk.metrics.text import mean_of_pairs

__all__ = ["bert_score"]


@metrics.register(
    "bert_score",
    within=SHARE,
    tasks=("generation",),
    title="BERTScore",
    meaning="Similarity of meaning between answer and reference, token by token.",
)
def bert_score(predictions: Sequence[str], references: Sequence[str], *, encoder: str = ENCODER) -> float:
    """BERTScore F1 (Zhang et al., 2020, section 3), a row at a time.

    Recall is the mean over the tokens of the reference of the largest cosine similarity to a token of the answer, precision the mean
    over the tokens of the answer of the largest similarity to one of the reference, and F1 is 2PR / (P + R). The vectors are the last
    layer of the encoder, without weights by rarity and without rescaling, so texts that have nothing in common do not get 0: compare
    systems by it, and only with the same encoder.

    encoder  an embedded base, a folder or a hub id, of the family encoder. It must read the language of the texts

    Raises BaseModelError for a base that is not an encoder; OfflineError if it must be downloaded and no network is available.
    """
    return mean_of_pairs(functools.partial(_score, encoder=encoder), predictions, references)


# A bootstrap scores the same pairs a thousand times, so their scores are cached.


@functools.lru_cache(maxsize=1 << 16)
def _score(prediction: str, reference: str, *, encoder: str) -> float:
    reader = load_encoder(encoder)
    answer, truth = reader.read_tokens(prediction), reader.read_tokens(reference)
    if not len(answer) or not len(truth):
        return float(len(answer) == len(truth))
    similarity = (truth @ answer.T).clip(0, 1)
    recall, precision = float(similarity.max(axis=1).mean()), float(similarity.max(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
