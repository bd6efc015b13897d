"""Small frozen types that every layer speaks in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DAY",
    "NO_ANSWER",
    "WEEK",
    "Cell",
    "Example",
    "Family",
    "Interval",
    "LabelSpace",
    "Message",
    "Modality",
    "Numbers",
    "Prediction",
    "Progress",
    "SeriesLayout",
    "Split",
    "Target",
    "Task",
    "silent",
]

Task: TypeAlias = str
"""The name of a task: a key of `vertical_sdk.tables.TASKS`."""
Family: TypeAlias = str
"""The name of a base family: a key of `vertical_sdk.tables.FAMILIES`."""
Modality: TypeAlias = Literal["text", "series", "image"]
"""What a row is: words, numbers in the order of time, or a picture."""
Split: TypeAlias = Literal["train", "validation", "test"]
Numbers: TypeAlias = "NDArray[Any]"
Target: TypeAlias = "str | tuple[str, ...] | float | Numbers | None"
"""What is to be learned: a label (classification, ordinal), labels (multilabel), a number (regression), what came next, as
(steps, channels) with NaN where it is not known (forecasting, anomaly), or nothing yet."""


DAY, WEEK = 86_400.0, 604_800.0
"""Seconds."""
NO_ANSWER = -1
"""The prediction for an answer that could not be read as a label; it is never right."""
Cell: TypeAlias = str | float | None
"""A field of a record: a word, a number, or nothing that is known."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data, on its way from a reader to an encoder.

    `messages` holds the conversation of a generation task, whose last turn is the assistant's answer (none when there is
    nothing to learn). Other tasks have `text` and `target`. `group` (a patient, a contract) never stands on two sides of a
    split; `time` sorts in time order as a string. `only` keeps a row to one side: "train" rows are never evaluated on,
    "evaluate" rows never trained on. `split` is set where the source itself says it, and later by the splitter.
    `record` holds the fields that `text` was written from (`data.records`), or facts about the row that metrics want to see.
    `copy_of` is the id of the row that an augmented copy was made of. `values` are a row's numbers: a series (steps,) or
    (steps, channels), oldest first, NaN where nothing was measured; a picture (height, width) or (height, width, 3) of bytes;
    or facts (n,) that a member reads beside the text. They are not changed in place. `record_id` is the id that the source itself
    gives the row, as it stands there; None where a row is only known by its place in a file.
    """

    id: str
    text: str = ""
    target: Target = None
    messages: tuple[Message, ...] = ()
    group: str | None = None
    time: str | None = None
    only: Literal["train", "evaluate"] | None = None
    split: Split | None = None
    record: tuple[tuple[str, Cell], ...] = ()
    copy_of: str | None = None
    values: Numbers | None = field(default=None, compare=False)
    record_id: str | None = None


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a task, in the order of the model's outputs (from worst to best, or low to high, for ordinal)."""

    labels: tuple[str, ...]
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """label → a sentence about it, for zero-shot comparison; the label itself where there is none."""
    words: Mapping[str, str] = field(default_factory=dict)
    """label → the words a causal model answers with; the label itself where there are none."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """label → number of training rows."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """label → what it is a kind of, for hierarchical losses and metrics; a label without one is its own."""

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: str) -> int:
        """The position of a label in the model's outputs; KeyError for a label that was never seen in training."""
        try:
            return self.labels.index(label)
        except ValueError:
            raise KeyError(label) from None

    def describe(self, label: str) -> str:
        """A sentence about the label."""
        return self.descriptions.get(label, label)

    def parent(self, label: str) -> str:
        """What the label is a kind of; itself where nothing is known."""
        return self.parents.get(label, label)

    def word(self, label: str) -> str:
        """What a causal model answers for the label."""
        return self.words.get(label, label)


@dataclass(frozen=True)
class SeriesLayout:
    """The layout that all rows of series share; an adapter's card holds it without the graph.

    channels  their names, in the order of `Example.values`
    seconds   between two steps
    history   steps in `Example.values`; horizon: steps in the target
    graph     (channels, channels) how near they are, 0 where they are not connected; None where nothing is known
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    channels: tuple[str, ...]
    seconds: float
    history: int
    horizon: int
    graph: Annotated[Any, Field(exclude=True)] = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a specialist says about one input.

    label          a label (classification, ordinal), labels (multilabel), a number (regression), None (generation)
    probabilities  label → calibrated probability; empty for regression and generation
    text           the generated answer; None for the other tasks
    truncated      tokens of the input that did not fit and were cut
    adapter        which adapter spoke
    interval       (low, high) around a number, which holds the truth as often as the card's calibration says; None elsewhere
    """

    label: Target
    probabilities: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    truncated: int = 0
    adapter: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Progress: TypeAlias = Callable[[str, float | None], None]
"""Called with what is being done and the share of it that is done (None where that is not known)."""


def silent(_what: str, _share: float | None = None) -> None:
    """The Progress that shows nothing."""
