"""Instruction rows for measurements: notes of medical dialogues, from which the dialogue is written.

The rows come from MTS-Dialog's training file (`medical/dialogue_train.csv` in the folder of --data). All of them begin with the same
instruction; the dialogue is learned.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = "medical/dialogue_train.csv"
ROWS = 200
SHORTEST, LONGEST = 100, 650
"""Tokens of a row."""
EQUAL = 240
"""Tokens of each row of `equal`: about the mean of `instructions`."""
INSTRUCTION = (
    "You write practice dialogues for students of medicine. From a section of a medical note, write the conversation between the doctor "
    "and the patient in which the doctor learns these facts. Use plain words, keep every number and every name of a medicine, and add "
    "nothing that the note does not say."
)
KINDS = {
    "instructions": "lengths from 100 to 650 tokens, one shared instruction, the dialogue learned",
    "equal": f"every row cut to {EQUAL} tokens",
    "no-prefix": "the rows of `instructions` without their shared beginning",
    "all-labelled": "the rows of `instructions`, every token learned",
}
Row = tuple[list[int], list[bool]]
"""Token ids, and for each whether it is learned."""


def instruction_rows(data: Path, kind: str, base: Any) -> list[Row]:
    """Build the rows of a kind for a base.

    data  the folder with FILE
    kind  one of KINDS
    """
    from vertical_sdk.bases.base import load_text_tokenizer
    from vertical_sdk.families.chat import encode_conversation
    from vertical_sdk.types import Message

    texts = load_text_tokenizer(base)
    shortest = EQUAL if kind == "equal" else SHORTEST
    rows: list[Row] = []
    with (data / FILE).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            turns = (
                Message("system", INSTRUCTION),
                Message("user", row["section_text"]),
                Message("assistant", row["dialogue"]),
            )
            encoded = encode_conversation(texts, turns, 10 * LONGEST)
            if shortest <= len(encoded.ids) <= LONGEST:
                rows.append((list(encoded.ids), list(encoded.learn)))
            if len(rows) == ROWS:
                break
    if kind == "equal":
        rows = [(ids[:EQUAL], learn[:EQUAL]) for ids, learn in rows]
    if kind == "no-prefix":
        common = shared_beginning([ids for ids, _ in rows])
        rows = [(ids[common:], learn[common:]) for ids, learn in rows]
    if kind == "all-labelled":
        rows = [(ids, [False, *[True] * (len(ids) - 1)]) for ids, _ in rows]
    return rows


def shared_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens with which all rows begin; at most all but one of the shortest row."""
    most = min(map(len, rows)) - 1
    return next((n for n in range(most) if len({row[n] for row in rows}) > 1), most)


def describe_rows(rows: Sequence[Row]) -> dict[str, float]:
    """Count rows, tokens, learned tokens and the shared beginning."""
    lengths = [len(ids) for ids, _ in rows]
    return {
        "rows": len(rows),
        "shortest": min(lengths),
        "longest": max(lengths),
        "mean": round(sum(lengths) / len(rows), 1),
        "learned": round(sum(sum(learn) for _, learn in rows) / sum(lengths), 3),
        "shared_beginning": shared_beginning([ids for ids, _ in rows]),
    }


def useful_flop(rows: Sequence[Row], batch: int, steps: range, layers: int, head: int) -> float:
    """Floating-point operations that LoRA training of these steps cannot do without.

    Forward and gradient of the inputs are 2 operations each for every weight and token: 4 · layers for each token, where the beginning
    that the rows of a batch share counts once, and 4 · head for each learned token. Attention and LoRA itself are not counted.

    steps  numbers of the steps, from 0; the rows come in their order, again and again
    layers  parameters of the layers; head: of the output layer
    """
    total = 0.0
    per_epoch = -(-len(rows) // batch)
    for step in steps:
        start = step % per_epoch * batch
        part = rows[start : start + batch]
        common = shared_beginning([ids for ids, _ in part]) if len(part) > 1 else 0
        tokens = sum(len(ids) for ids, _ in part) - (len(part) - 1) * common
        total += 4.0 * layers * tokens + 4.0 * head * sum(sum(learn[1:]) for _, learn in part)
    return total
