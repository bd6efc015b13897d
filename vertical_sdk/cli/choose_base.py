"""Choose the base and the length limit of a new recipe from its own texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertical_sdk.errors import VerticalError
from vertical_sdk.paths import expand_home
from vertical_sdk.types import Progress

if TYPE_CHECKING:
    from vertical_sdk.bases.base import Base
    from vertical_sdk.bases.reading import Reading

__all__ = ["BaseChoice", "choose_base"]

FIRST = "minilm-l6"
LOOKED_AT = 5000
"""Texts that are read, evenly spread over the file."""
CUT = 0.01
"""Share of the texts that the length limit may cut; training allows more, as the split changes the share a little."""
MARGIN = 0.05
"""Added to the share of texts that are longer than the base reads, for the same reason."""


@dataclass(frozen=True)
class BaseChoice:
    """A base and what it reads of the texts.

    max_length  tokens that nearly all texts fit into, at most what the base reads
    truncated   for data.limits.truncated: the share of texts that no limit could keep whole; None: the default will do
    notes       sentences for the user
    """

    base: str
    max_length: int
    truncated: float | None = None
    notes: tuple[str, ...] = ()


def choose_base(texts: Sequence[str], name: str | None, progress: Progress) -> BaseChoice:
    """Choose the first base that can read the texts, and the length that they need by its own tokenizer.

    texts  none for rows of numbers
    name   the base that the user named; None: FIRST, or one that reads every language if FIRST does not know the texts

    A base that is not on this machine is downloaded, as training would do. If that is not possible, the length is estimated.
    Raises BaseModelError and others of `pull_base` for a base that the user named.
    """
    from vertical_sdk.bases.base import base_names, list_reading_anything
    from vertical_sdk.recipe import Limits

    if name and name not in base_names() and expand_home(name).is_dir():
        name = str(expand_home(name).absolute())  # the recipe may be in another folder
    if not texts:
        return BaseChoice(name or FIRST, 128)
    chosen = [texts[number * len(texts) // LOOKED_AT] for number in range(LOOKED_AT)] if len(texts) > LOOKED_AT else texts
    notes: list[str] = []
    measured: list[tuple[str, Base, Reading]] = []
    for candidate in [name] if name else [FIRST, *list_reading_anything()]:
        try:
            base, reading = _measure(chosen, candidate, progress)
        except VerticalError as error:
            if name:
                raise
            notes.append(f"the tokenizer of {candidate} cannot be had ({error})")
            break
        measured.append((candidate, base, reading))
        if reading.unknown_share <= Limits().unknown:
            break
        notes.append(f"{candidate} does not know {reading.unknown_share:.0%} of the tokens of these texts")
    if not measured:
        notes[-1] += ", so max_length is an estimate"
        return BaseChoice(FIRST, _estimate_length(chosen), None, tuple(notes))
    candidate, base, reading = measured[-1]
    if len(measured) > 1:
        notes.append(f"the recipe uses {candidate}, which reads them; it is larger, so training takes longer")
    elif reading.unknown_share > Limits().unknown:
        notes.append("training will refuse it; name a base that reads this language ('vertical base list')")
    return _choose_length(candidate, base, reading, notes)


def _measure(texts: Sequence[str], name: str, progress: Progress) -> tuple[Base, Reading]:
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.families.chat import read_inputs
    from vertical_sdk.recipe import Prompt

    progress(f"reading the texts as {name} does", None)
    base = pull_base(name, progress=progress)
    return base, read_inputs(base, texts, Prompt())


def _choose_length(name: str, base: Base, reading: Reading, notes: list[str]) -> BaseChoice:
    from vertical_sdk.bases.base import load_text_tokenizer
    from vertical_sdk.bases.reading import fitting_length, share_above
    from vertical_sdk.families.windows import Windows
    from vertical_sdk.recipe import Limits

    needed = max(16, fitting_length(reading.lengths, CUT))
    most = base.max_length
    if most is None or needed <= most:
        return BaseChoice(name, needed, None, tuple(notes))
    over = share_above(reading.lengths, most)
    whole = (
        f"set data.windows to {Windows(most, load_text_tokenizer(base).extra).count(needed)}"
        if base.family == "encoder"
        else "split them into several rows, or choose a base that reads longer texts"
    )
    notes.append(
        f"{over:.0%} of the texts are longer than the {most} tokens that {name} reads, and are cut at their end. To read them whole, {whole}"
    )
    limit = min(1.0, round(over + MARGIN, 2))
    return BaseChoice(name, most, limit if limit > Limits().truncated else None, tuple(notes))


def _estimate_length(texts: Sequence[str]) -> int:
    """Estimate the tokens that 99% of the texts fit into: three ASCII characters a token, one of any others."""
    lengths = sorted(2 + sum(1 if character > "\x7f" else 1 / 3 for character in text) for text in texts)
    long = int(lengths[int(0.99 * (len(lengths) - 1))]) if lengths else 0
    return min(512, max(64, -(-long // 32) * 32))
