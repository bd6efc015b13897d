"""What `tune:` in a recipe searches: for each key a range of numbers, or a list of values."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Choices", "Range", "Scalar", "SearchSpace", "list_ends"]

Scalar: TypeAlias = bool | int | float | str | None
"""A value that a search can set."""


class Range(BaseModel):
    """The numbers between two ends, both included; whole numbers if both ends are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    low: int | float = Field(description="The smallest value.")
    high: int | float = Field(description="The largest value.")
    log: bool = Field(default=False, description="Search small and large values equally: for values that differ by factors.")

    @model_validator(mode="after")
    def _check_ends(self) -> Range:
        if self.low >= self.high:
            raise ValueError("the range should have a low below its high")
        if self.log and self.low <= 0:
            raise ValueError("the range should have a low above 0, or no log: true")
        return self

    def contains(self, value: object) -> bool:
        """Whether a search of this range can set a value."""
        numbers = int if self.whole else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices: TypeAlias = tuple[Scalar, ...]
SearchSpace: TypeAlias = dict[str, Range | Choices]
"""Dotted key, as `--set` has it → what is searched."""


def list_ends(searched: Range | Choices) -> tuple[Scalar, ...]:
    """List the values that must be right for all of them to be: both ends of a range, or every choice."""
    return (searched.low, searched.high) if isinstance(searched, Range) else searched
