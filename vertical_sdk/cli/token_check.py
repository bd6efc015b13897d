"""What a base can read of a file's texts, for `vertical data check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vertical_sdk.types import Example, Progress

if TYPE_CHECKING:
    from vertical_sdk.bases.base import Base
    from vertical_sdk.data.check import RowCheck
    from vertical_sdk.recipe import Recipe

__all__ = ["create_token_check"]


def create_token_check(name: str | None, recipe: Recipe | None, progress: Progress) -> RowCheck | None:
    """Load the tokenizer of a base; None if neither a base nor a recipe was named, or the base reads no texts.

    name  the base, downloaded if it must be; None: the recipe's, which is not downloaded for a check

    Raises what `pull_base` raises for a base that was named.
    """
    from vertical_sdk.bases.base import is_on_this_machine, pull_base

    if name is None and (recipe is None or recipe.data.modality != "text"):
        return None
    chosen = name or (recipe.base if recipe else "")
    if name is None and not is_on_this_machine(chosen):
        return lambda _rows: (f"not checked: {chosen} is not on this machine. Run vertical base pull {chosen}", [])
    base = pull_base(chosen, progress=progress)
    return None if base.family == "vision" else lambda rows: _check(base, recipe, rows)


def _check(base: Base, recipe: Recipe | None, rows: Sequence[Example]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    from vertical_sdk.bases.base import load_text_tokenizer
    from vertical_sdk.bases.reading import WORTH_A_WARNING
    from vertical_sdk.data.texts import full_text
    from vertical_sdk.families.chat import read_inputs
    from vertical_sdk.families.windows import Windows
    from vertical_sdk.recipe import Limits, Prompt
    from vertical_sdk.training.encode import describe_cut, describe_unknown

    texts = [full_text(row) for row in rows]
    reading = read_inputs(base, texts, recipe.prompt if recipe else Prompt())
    limits = recipe.data.limits if recipe else Limits()
    size = min(recipe.data.max_length if recipe else 10**9, base.max_length or 10**9)
    windows = Windows(size, load_text_tokenizer(base).extra, recipe.data.windows if recipe else 1)
    most = windows.reads
    section: dict[str, Any] = {
        "base": base.name,
        "longest": max(reading.lengths, default=0),
        "max_length": most if most < 10**9 else None,
        "longer": sum(length > most for length in reading.lengths),
        "unknown": round(reading.unknown_share, 4),
        "control": reading.control,
    }
    if reading.worst is not None:
        section["least_known"] = rows[reading.worst].id
    problems = [
        ("error", describe_unknown(reading.unknown, rows, limits, base, "texts")),
        ("error", describe_cut(reading.lengths, windows, limits, base, "texts")),
    ]
    if WORTH_A_WARNING < reading.unknown_share <= limits.unknown:
        unknown = f"{base.name} does not know {reading.unknown_share:.1%} of the tokens of the texts"
        problems.append(("warning", f"{unknown}, most of row {section['least_known']}"))
    if reading.control:
        problems.append(
            ("note", f"{reading.control} texts contain control tokens of {base.name}, which are read as characters")
        )
    return section, [(severity, problem) for severity, problem in problems if problem]
