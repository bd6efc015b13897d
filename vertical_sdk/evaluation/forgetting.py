"""Forgetting: what the adapter costs in general ability, on general prose with the adapter off and on.

An encoder is asked to find the second half of each paragraph by its first half among all of them: recall@1, by cosine similarity of
its features. A causal model is asked how well it foresees the text: bits a character, teacher-forced, without a chat template.
Both need no labels, and both fall where an adapter has bent the backbone away from what the base could do.
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

from vertical_sdk.card import Verdict
from vertical_sdk.data.formats import SUFFIXES, read_file
from vertical_sdk.errors import DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.causal import CausalSpecialist
from vertical_sdk.families.specialist import Batch, Specialist, run_rows, switched_off
from vertical_sdk.recipe import Forgetting
from vertical_sdk.sources import fetch
from vertical_sdk.types import Example, Progress, silent

__all__ = ["Forgot", "halves", "measure", "read_general", "verdict", "with_forgetting"]

OWN = Path(__file__).with_name("general.txt")
TEXT = (".txt", ".text", ".tokens")
COLUMN = "text"
FEWEST_WORDS = 40
"""Shorter paragraphs of a source are left out: captions, headings and list items."""
FEWEST = 20
"""Paragraphs; with fewer, one lucky hit moves the measure too much."""
READ = 16 << 20
"""Characters of a text file that are looked at: many times what is measured."""
CHARACTERS = 20_000
LONGEST = 2_000
WINDOW = 256
LOGITS = 512
"""Tokens whose logits stand in memory at once."""
HEADING = re.compile(r"\s*=.*=\s*")
BOUNDARY = re.compile(r"""[.!?]["'’”)\]]*\s+(?![a-z])""")


@dataclass(frozen=True)
class Forgot:
    """What the adapter costs.

    measure  what was measured: "recall@1" or "bits per character"
    before   with the adapter off
    after    with the adapter on
    cost     by how much `after` is worse than `before`; below 0 where it is better
    unit     of all three: "share" or "bits"
    rows     paragraphs measured on
    """

    measure: str
    before: float
    after: float
    cost: float
    unit: str
    rows: int

    def to_dict(self, budget: float) -> dict[str, Any]:
        """Plain data for JSON, with the budget and whether it is kept."""
        return {**asdict(self), "budget": budget, "passed": self.cost <= budget}


def read_general(spec: Forgetting, progress: Progress = silent) -> list[str]:
    """Paragraphs of general prose, each once: our own, or those of the recipe's source.

    A source is a text file with a paragraph on each line or blank lines between (WikiText is such a one), or a CSV, JSONL or Parquet
    file with a column "text". Its headings (" = Title = ") and paragraphs under FEWEST_WORDS words are left out.

    Raises DataError for a source without enough such paragraphs, and what `fetch` raises.
    """
    if spec.source is None:
        return OWN.read_text(encoding="utf-8").strip().split("\n\n")
    progress("fetching general text", None)
    path = _one_file(fetch(spec.source, file=spec.file, progress=progress).path)
    found = _lines(path) if path.suffix.lower() in TEXT else _column(path)
    usable = list(dict.fromkeys(one for one in found if len(one.split()) >= FEWEST_WORDS and not HEADING.fullmatch(one)))
    if len(usable) < FEWEST:
        raise DataError(
            f"evaluate.forgetting: {path}: {len(usable)} of its {len(found)} paragraphs have {FEWEST_WORDS} words or more; "
            f"at least {FEWEST} are needed. Name another source, or leave it out to use the general text that is built in."
        )
    return usable


def measure(specialist: Specialist, paragraphs: Sequence[str], *, most: int = 256, progress: Progress = silent) -> Forgot:
    """What the adapter costs on these paragraphs, of which at most `most` are taken, spread evenly over them all.

    Of a causal model's about CHARACTERS characters are read, as each costs a pass through the output layer.

    Raises DataError where too few paragraphs can be used.
    """
    chosen = _evenly(paragraphs, most)
    if isinstance(specialist, CausalSpecialist):
        texts = [text[:LONGEST] for text in chosen]
        texts = _evenly(texts, max(1, len(texts) * CHARACTERS // max(CHARACTERS, sum(map(len, texts)))))
        before, after = _off_and_on(specialist, lambda what: _bits(specialist, texts, progress, what))
        return Forgot("bits per character", before, after, after - before, "bits", len(texts))
    pairs = [pair for text in chosen if (pair := halves(text))]
    if len(pairs) < 2:
        raise DataError(
            f"evaluate.forgetting: {len(pairs)} of {len(chosen)} paragraphs have two sentences or more; "
            "retrieval needs at least 2 such paragraphs."
        )
    before, after = _off_and_on(specialist, lambda what: _recall(specialist, pairs, progress, what))
    return Forgot("recall@1", before, after, before - after, "share", len(pairs))


def halves(paragraph: str) -> tuple[str, str] | None:
    """A paragraph in two, at the end of the sentence nearest to its middle; None where it is one sentence."""
    ends = [match.end() for match in BOUNDARY.finditer(paragraph.strip())]
    if not ends:
        return None
    text = paragraph.strip()
    cut = min(ends, key=lambda end: abs(2 * end - len(text)))
    return (text[:cut].rstrip(), text[cut:]) if text[cut:] else None


def verdict(forgot: Forgot, budget: float) -> tuple[bool, str]:
    """Whether the cost is within the budget, and a sentence that says so. What is not a number is never within it."""
    measured = (
        f"on {forgot.rows} paragraphs of general text, {forgot.measure} is {forgot.after:.3f} with the adapter and "
        f"{forgot.before:.3f} without"
    )
    if not math.isfinite(forgot.cost):
        return False, f"Fails: {measured}; what is forgotten cannot be told."
    if forgot.cost <= 0:
        return True, f"Passes: {measured}; nothing is forgotten."
    if forgot.cost <= budget:
        return True, f"Passes: {measured}, which costs {forgot.cost:.3f} of a budget of {budget:g}."
    return False, f"Fails: {measured}, which costs {forgot.cost:.3f}, more than the budget of {budget:g}."


def with_forgetting(gate: Verdict | None, forgot: Forgot, budget: float) -> Verdict:
    """The gate's verdict with this one in it: passed where both are. Without a gate, forgetting alone decides."""
    kept, reason = verdict(forgot, budget)
    if gate is None:
        return Verdict(passed=kept, reasons=(reason,))
    return Verdict(passed=gate.passed and kept, reasons=(*gate.reasons, reason))


def _off_and_on(specialist: Specialist, ask: Any) -> tuple[float, float]:
    with switched_off(specialist):
        before: float = ask("without the adapter")
    return before, ask("with the adapter")


def _recall(specialist: Specialist, pairs: Sequence[tuple[str, str]], progress: Progress, what: str) -> float:
    """The share of first halves whose own second half is nearer than every other; a tie is no find."""
    texts = [first for first, _ in pairs] + [second for _, second in pairs]
    rows = [specialist.encode(Example(id=str(number), text=text), learn=False) for number, text in enumerate(texts)]
    made = run_rows(
        specialist, rows, specialist.features, progress=lambda share: progress(f"reading general text {what}", share)
    )
    first, second = F.normalize(made, dim=-1).chunk(2)
    likeness = first @ second.T
    own = likeness.diagonal().clone()
    others = likeness.fill_diagonal_(-math.inf).amax(1)
    return float((own > others).double().mean())


def _bits(specialist: CausalSpecialist, texts: Sequence[str], progress: Progress, what: str) -> float:
    """Bits a character. A text's very first token, where no token stands before it, is neither asked nor counted."""
    longest = min(WINDOW, getattr(specialist.backbone.get_base_model().config, "max_position_embeddings", None) or WINDOW)
    rows, characters = [], 0
    for text in texts:
        ids = tuple(specialist.tokenizer(text, truncation=False, verbose=False)["input_ids"])
        characters += len(text) - len(specialist.tokenizer.decode(ids[:1], skip_special_tokens=True))
        for start in range(0, len(ids) - 1, longest - 1):  # each window begins with the last token of the one before
            window = ids[start : start + longest]
            rows.append(Encoded(ids=window, learn=(True,) * len(window)))
    if not characters:
        raise DataError("evaluate.forgetting: the general text has no paragraph of more than one token.")

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
        progress=lambda share: progress(f"reading general text {what}", share),
    )
    return float(nats.double().sum()) / math.log(2) / characters


def _evenly(texts: Sequence[str], most: int) -> list[str]:
    """At most so many, spread over them all."""
    return [texts[number * len(texts) // most] for number in range(most)] if len(texts) > most else list(texts)


def _one_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.suffix.lower() in {*TEXT, *SUFFIXES})
    if len(files) == 1:
        return files[0]
    names = ", ".join(one.relative_to(path).as_posix() for one in files[:20])
    raise DataError(
        f"evaluate.forgetting: {path}: "
        + (f"has several files; set evaluate.forgetting.file to one of: {names}." if files else "has no file of text in it.")
    )


def _lines(path: Path) -> list[str]:
    """The paragraphs of a text file: its lines where one of them is as long as a paragraph, or no blank lines part them."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(READ)
    except UnicodeDecodeError:
        raise DataError(f"evaluate.forgetting: {path}: is not UTF-8 text. Save the file as UTF-8.") from None
    lines = [line.strip() for line in text.splitlines()]
    if "" not in lines or any(len(line.split()) >= FEWEST_WORDS for line in lines):
        return [line for line in lines if line]
    return [" ".join(block.split()) for block in re.split(r"\n{2,}", "\n".join(lines)) if block.strip()]


def _column(path: Path) -> list[str]:
    """The texts of a table."""
    rows = read_file(path)
    if COLUMN not in rows.columns and len(rows.columns) > 1:
        raise DataError(
            f"evaluate.forgetting: {path}: has no column {COLUMN!r}; it has {', '.join(rows.columns)}. Call the one with prose so."
        )
    name = COLUMN if COLUMN in rows.columns else rows.columns[0]
    texts = [row.get(name) for row in rows.rows]
    return [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
