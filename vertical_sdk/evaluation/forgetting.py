"""Forgetting: the adapter's cost in general ability, measured on general prose with the adapter off and on.

For an encoder the measure is recall@1: how often the first half of a paragraph finds its second half among all second halves, by
cosine similarity of its features. For a causal model it is bits per character: how well the model predicts the text, teacher-forced,
without a chat template. Both need no labels, and both get worse if an adapter moves the backbone away from what the base can do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.card import Fingerprint, Verdict
from vertical_sdk.data.formats import SUFFIXES, read_file
from vertical_sdk.data.texts import split_paragraph
from vertical_sdk.errors import DataError
from vertical_sdk.evaluation.base_ability import measure_base
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.causal import CausalSpecialist
from vertical_sdk.families.specialist import Batch, Specialist, run_rows
from vertical_sdk.recipe import Forgetting
from vertical_sdk.sources import fetch
from vertical_sdk.types import Example, Progress, silent

__all__ = ["Forgot", "measure_forgetting", "read_general", "verdict", "with_forgetting"]

OWN = Path(__file__).with_name("general.txt")
TEXT = (".txt", ".text", ".tokens")
COLUMN = "text"
FEWEST_WORDS = 40
"""Shorter paragraphs of a source are left out: captions, headings and list items."""
FEWEST = 20
"""Paragraphs; with fewer, one lucky hit changes the measure too much."""
READ = 16 << 20
"""Characters of a text file that are read: many times as many as are measured."""
CHARACTERS = 20_000
LONGEST = 2_000
WINDOW = 256
LOGITS = 512
"""Tokens whose logits are in memory at once."""
WHERE = "evaluate.forgetting"
UNCOMPARED = "The recipe has no gate, so nothing is compared; only what was forgotten is judged."
OFF, ON = "without the adapter", "with the adapter"
HEADING = re.compile(r"\s*=.*=\s*")


@dataclass(frozen=True)
class Forgot:
    """The adapter's cost in general ability.

    measure  "recall@1" or "bits per character"
    before   with the adapter off
    after    with the adapter on
    cost     how much worse `after` is than `before`; below 0 if it is better
    unit     of all three: "share" or "bits"
    rows     the number of paragraphs
    """

    measure: str
    before: float
    after: float
    cost: float
    unit: str
    rows: int

    def to_dict(self, budget: float) -> dict[str, Any]:
        """Plain data for JSON, with the budget and whether the cost is within it."""
        return {**asdict(self), "budget": budget, "passed": self.cost <= budget}


def read_general(spec: Forgetting, progress: Progress = silent) -> list[str]:
    """Read paragraphs of general prose, each once: the built-in ones, or those of the recipe's source.

    A source is a text file with a paragraph on each line or with blank lines between paragraphs (such as WikiText), or a CSV, JSONL or
    Parquet file with a column "text". Headings (" = Title = ") and paragraphs under FEWEST_WORDS words are left out.

    Raises DataError for a source with too few such paragraphs, and what `fetch` raises.
    """
    if spec.source is None:
        return OWN.read_text(encoding="utf-8").strip().split("\n\n")
    progress("fetching general text", None)
    path = _one_file(fetch(spec.source, file=spec.file, progress=progress).path)
    paragraphs = _read_text(path) if path.suffix.lower() in TEXT else _read_column(path)
    long = [text for text in paragraphs if len(text.split()) >= FEWEST_WORDS and not HEADING.fullmatch(text)]
    usable = list(dict.fromkeys(long))
    if len(usable) < FEWEST:
        raise DataError(
            f"{len(usable)} of its {len(paragraphs)} paragraphs have {FEWEST_WORDS} words or more; at least {FEWEST} are needed. "
            "Name another source, or remove the key to use the built-in text.",
            where=f"{WHERE}: {path}",
        )
    return usable


def measure_forgetting(
    specialist: Specialist,
    paragraphs: Sequence[str],
    *,
    most: int = 256,
    base: Fingerprint | None = None,
    progress: Progress = silent,
) -> Forgot:
    """Measure the adapter's cost on at most `most` of these paragraphs, spread evenly over all of them.

    A causal model reads about CHARACTERS characters, because each token costs a pass through the output layer.

    base  of the specialist: what it reaches alone is kept for the next adapter on it; None: keep nothing

    Raises DataError if too few paragraphs can be used.
    """
    chosen = _evenly(paragraphs, most)
    if isinstance(specialist, CausalSpecialist):
        texts = [text[:LONGEST] for text in chosen]
        texts = _evenly(texts, max(1, len(texts) * CHARACTERS // max(CHARACTERS, sum(map(len, texts)))))
        before = measure_base(specialist, texts, lambda: _bits(specialist, texts, progress, OFF), base)
        after = _bits(specialist, texts, progress, ON)
        return Forgot("bits per character", before, after, after - before, "bits", len(texts))
    pairs = [pair for text in chosen if (pair := split_paragraph(text))]
    if len(pairs) < 2:
        raise DataError(
            f"{len(pairs)} of {len(chosen)} paragraphs have two sentences or more; at least 2 such paragraphs are needed. "
            "Name another source.",
            where=WHERE,
        )
    halves = [half for pair in pairs for half in pair]
    before = measure_base(specialist, halves, lambda: _recall(specialist, pairs, progress, OFF), base)
    after = _recall(specialist, pairs, progress, ON)
    return Forgot("recall@1", before, after, before - after, "share", len(pairs))


def verdict(forgot: Forgot, budget: float) -> tuple[bool, str]:
    """Whether the cost is within the budget, and a sentence that says so. A cost that is not finite is not within it."""
    measured = (
        f"on {forgot.rows} paragraphs of general text, {forgot.measure} is {forgot.after:.3f} with the adapter and "
        f"{forgot.before:.3f} without"
    )
    if not math.isfinite(forgot.cost):
        return False, f"Fails: {measured}. The cost is not a finite number."
    if forgot.cost <= 0:
        return True, f"Passes: {measured}. Nothing was forgotten."
    if forgot.cost <= budget:
        return True, f"Passes: {measured}. The cost is {forgot.cost:.3f} of a budget of {budget:g}."
    return False, f"Fails: {measured}. The cost is {forgot.cost:.3f}, more than the budget of {budget:g}."


def with_forgetting(gate: Verdict | None, forgot: Forgot, budget: float) -> Verdict:
    """Add the forgetting to the gate's verdict: passed if both pass. Without a gate, forgetting alone decides, and the verdict says so."""
    within, reason = verdict(forgot, budget)
    if gate is None:
        return Verdict(passed=within, reasons=(UNCOMPARED, reason))
    return Verdict(passed=gate.passed and within, noninferior=gate.noninferior and within, reasons=(*gate.reasons, reason))


def _recall(specialist: Specialist, pairs: Sequence[tuple[str, str]], progress: Progress, state: str) -> float:
    """The share of first halves whose own second half is nearer than every other; a tie does not count."""
    texts = [first for first, _ in pairs] + [second for _, second in pairs]
    rows = [specialist.encode(Example(id=str(number), text=text), learn=False) for number, text in enumerate(texts)]
    features = run_rows(
        specialist, rows, specialist.features, progress=lambda share: progress(f"reading general text {state}", share)
    )
    first, second = F.normalize(features, dim=-1).chunk(2)
    similarity = first @ second.T
    own = similarity.diagonal().clone()
    others = similarity.fill_diagonal_(-math.inf).amax(1)
    return float((own > others).double().mean())


def _bits(specialist: CausalSpecialist, texts: Sequence[str], progress: Progress, state: str) -> float:
    """Bits per character. The first token of a text has no token before it, so it is neither predicted nor counted."""
    longest = min(WINDOW, getattr(specialist.backbone.get_base_model().config, "max_position_embeddings", None) or WINDOW)
    rows, characters = [], 0
    for text in texts:
        ids = specialist.text_tokenizer.encode(text, special=True).ids
        characters += len(text) - len(specialist.tokenizer.decode(ids[:1], skip_special_tokens=True))
        for start in range(0, len(ids) - 1, longest - 1):  # each window starts with the last token of the previous one
            window = ids[start : start + longest]
            rows.append(Encoded(ids=window, learn=(True,) * len(window)))
    if not characters:
        raise DataError("the general text has no paragraph of more than one token. Name another source.", where=WHERE)

    def surprise(batch: Batch) -> Tensor:
        logits, tokens = specialist(batch)
        assert tokens is not None
        nats = F.cross_entropy(logits.float(), tokens, reduction="none")
        row = batch["learn"][:, 1:].nonzero()[:, 0]
        return torch.zeros(len(batch["learn"]), device=nats.device).index_add_(0, row, nats)

    nats = run_rows(
        specialist,
        rows,
        surprise,
        token_budget=LOGITS,
        progress=lambda share: progress(f"reading general text {state}", share),
    )
    return float(nats.double().sum()) / math.log(2) / characters


def _evenly(texts: Sequence[str], most: int) -> list[str]:
    """Select at most this many texts, spread over all of them."""
    return [texts[number * len(texts) // most] for number in range(most)] if len(texts) > most else list(texts)


def _one_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in {*TEXT, *SUFFIXES})
    if len(files) == 1:
        return files[0]
    if not files:
        raise DataError("the folder has no file of text. Name another source.", where=f"{WHERE}: {path}")
    names = ", ".join(file.relative_to(path).as_posix() for file in files[:20])
    raise DataError(f"the folder has several files; set evaluate.forgetting.file to one of: {names}.", where=f"{WHERE}: {path}")


def _read_text(path: Path) -> list[str]:
    """The paragraphs of a text file: its lines if one of them is as long as a paragraph or no lines are blank."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(READ)
    except UnicodeDecodeError:
        raise DataError("the file is not UTF-8 text. Save it as UTF-8.", where=f"{WHERE}: {path}") from None
    lines = [line.strip() for line in text.splitlines()]
    if "" not in lines or any(len(line.split()) >= FEWEST_WORDS for line in lines):
        return [line for line in lines if line]
    return [" ".join(block.split()) for block in re.split(r"\n{2,}", "\n".join(lines)) if block.strip()]


def _read_column(path: Path) -> list[str]:
    """The texts of a table."""
    rows = read_file(path)
    if COLUMN not in rows.columns and len(rows.columns) > 1:
        raise DataError(
            f"the file has no column {COLUMN!r}; it has {', '.join(rows.columns)}. Give this name to the column with prose.",
            where=f"{WHERE}: {path}",
        )
    name = COLUMN if COLUMN in rows.columns else rows.columns[0]
    texts = [row.get(name) for row in rows.rows]
    return [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
