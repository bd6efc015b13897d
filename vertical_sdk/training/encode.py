"""Encode rows as tokens, and refuse them if too many are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vertical_sdk.data.texts import prompt_text
from vertical_sdk.errors import DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Specialist
from vertical_sdk.losses import TokenFinder
from vertical_sdk.types import Example

__all__ = ["encode_rows"]


def encode_rows(
    specialist: Specialist,
    examples: Sequence[Example],
    *,
    learn: bool,
    truncated: float = 1.0,
    what: str = "rows",
    avoid: TokenFinder | None = None,
) -> list[Encoded]:
    """Encode rows as tokens.

    learn      with targets, for training
    truncated  the largest share of rows that may be cut
    what       the rows' name in messages
    avoid      finds the tokens that the loss avoids (see losses.get_token_finder); None if it avoids none

    Raises DataError if more rows are cut than allowed, or if a row has no token to learn from.
    """
    encoded = [specialist.encode(example, learn=learn) for example in examples]
    if learn:
        empty = [example.id for example, row in zip(examples, encoded, strict=True) if not row.units]
        if empty:
            raise DataError(
                f"{len(empty)} of {len(examples)} {what} have no token to learn from (row {', row '.join(empty[:3])}): the answer is "
                f"missing, or it comes after the first {specialist.max_length} tokens. Raise data.max_length or correct the rows."
            )
    cut = [row.cut for row in encoded if row.cut]
    if len(cut) > truncated * len(encoded):
        raise DataError(
            f"{len(cut)} of {len(encoded)} {what} are longer than data.max_length = {specialist.max_length} tokens (the longest by "
            f"{max(cut)}) and would be cut; data.limits.truncated allows {truncated:.0%}. Raise one of the two limits."
        )
    if learn and avoid:
        find_tokens = avoid(specialist.tokenizer)
        encoded = [
            replace(row, avoid=tuple(find_tokens(prompt_text(example), _answer_tokens(row))))
            for example, row in zip(examples, encoded, strict=True)
        ]
    return encoded


def _answer_tokens(row: Encoded) -> list[int]:
    """The learned tokens that have a token before them, as many as the row has units."""
    return [token for token, learned in zip(row.ids[1:], row.learn[1:], strict=True) if learned]
