"""Encode rows as tokens, and refuse them if too much is cut or unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vertical_sdk.bases.base import Base, list_reading_anything
from vertical_sdk.bases.reading import fitting_length, mean_share, share_above
from vertical_sdk.data.texts import full_text, prompt_text
from vertical_sdk.errors import DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Specialist
from vertical_sdk.families.windows import Windows
from vertical_sdk.losses import TokenFinder
from vertical_sdk.recipe import Limits
from vertical_sdk.types import Example

__all__ = ["check_unknown", "describe_cut", "describe_unknown", "encode_rows"]


def encode_rows(
    specialist: Specialist,
    examples: Sequence[Example],
    *,
    learn: bool,
    limits: Limits | None = None,
    base: Base | None = None,
    what: str = "rows",
    avoid: TokenFinder | None = None,
) -> list[Encoded]:
    """Encode rows as tokens.

    learn   with targets, for training
    limits  what may be cut or unknown; None: anything
    base    names the base in messages, and its limit
    what    the rows' name in messages
    avoid   finds the tokens that the loss avoids (see losses.get_token_finder); None if it avoids none

    Raises DataError if more rows are cut or more tokens unknown than allowed, or if a row has no token to learn from.
    """
    encoded = [specialist.encode(example, learn=learn) for example in examples]
    if limits is not None and base is not None:
        check_unknown([row.unknown_share for row in encoded], examples, limits, base, what)
    if learn:
        empty = [example.id for example, row in zip(examples, encoded, strict=True) if not row.units]
        if empty:
            raise DataError(
                f"{len(empty)} of {len(examples)} {what} have no token to learn from (row {', row '.join(empty[:3])}): the answer is "
                f"missing, or it comes after the first {specialist.max_length} tokens. Raise data.max_length or correct the rows."
            )
    if limits is not None and base is not None:
        windows = getattr(specialist, "windows", None)
        read = [specialist.max_length if row.cut else min(row.length, specialist.max_length) for row in encoded]
        lengths = [length + row.cut for length, row in zip(read, encoded, strict=True)]
        problem = describe_cut(lengths, windows or Windows(specialist.max_length, 0), limits, base, what)
        if problem:
            raise DataError(problem)
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


def check_unknown(shares: Sequence[float], examples: Sequence[Example], limits: Limits, base: Base, what: str) -> None:
    """Raise DataError if the base's vocabulary lacks too much of the texts; see `describe_unknown`."""
    if problem := describe_unknown(shares, examples, limits, base, what):
        raise DataError(problem)


def describe_unknown(shares: Sequence[float], examples: Sequence[Example], limits: Limits, base: Base, what: str) -> str:
    """Say that the base's vocabulary lacks too much of the texts, and what to do; "" if it does not.

    shares  for each row the share of its text's tokens that are unknown
    """
    share = mean_share(shares)
    if share <= limits.unknown:
        return ""
    row = examples[max(range(len(shares)), key=shares.__getitem__)]
    others = ", ".join(name for name in list_reading_anything() if name != base.name)
    return (
        f"{base.name} does not know {share:.0%} of the tokens of the {what}, so it cannot read them; data.limits.unknown allows "
        f"{limits.unknown:.0%}. An example is row {row.id}: {full_text(row)[:80]!r}. Set base to one that reads this language"
        f"{f', such as {others}' if others else ''} ('vertical base list' shows what each reads), or a model of the hub; or raise "
        "data.limits.unknown."
    )


def describe_cut(lengths: Sequence[int], windows: Windows, limits: Limits, base: Base, what: str) -> str:
    """Say that too many rows are longer than what is read of them, and what would do; "" if not too many are.

    lengths  tokens of each row
    windows  in which an encoder reads them; of a causal base, one
    """
    longer = sum(length > windows.reads for length in lengths)
    if longer <= limits.truncated * len(lengths):
        return ""
    needed = fitting_length(lengths, limits.truncated)
    most = base.max_length
    if windows.most > 1:
        advice = f"Set data.windows: {windows.count(needed)}."
    elif most is None or needed <= most:
        reads = f"; {base.name} reads at most {most}" if most else ""
        advice = f"Set data.max_length: {needed}{reads}."
    else:
        over = sum(length > most for length in lengths)
        first = (
            f"Set data.max_length: {most}, the most that {base.name} reads: {over} rows are longer even so. Then"
            if windows.size < most
            else f"{base.name} reads no more than {most}. So"
        )
        split = (
            f"read long texts in windows (data.windows: {replace(windows, size=most).count(needed)})"
            if base.family == "encoder"
            else "split long texts into several rows (data.columns.group keeps those of one text in one split)"
        )
        advice = (
            f"{first} {split}, choose a base that reads longer texts ('vertical base list'), or accept the cuts: data.limits.truncated: "
            f"{share_above(lengths, most)}."
        )
    return (
        f"{longer} of {len(lengths)} {what} are longer than {windows.reads} tokens (the longest has {max(lengths)}) and would be cut at "
        f"their end; data.limits.truncated allows {limits.truncated:.0%}. {advice}"
    )
