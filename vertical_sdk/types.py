"""Small frozen types that every layer shares."""

from __future__ import annotations

import heapq
import logging
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DAY",
    "LARGEST",
    "NO_ANSWER",
    "NO_ZONE",
    "REPORTED",
    "WEEK",
    "Cell",
    "Example",
    "Family",
    "GeneratedText",
    "Interval",
    "LabelSpace",
    "Message",
    "Modality",
    "Numbers",
    "PairedTest",
    "Prediction",
    "Progress",
    "SeriesLayout",
    "Split",
    "Target",
    "TaskName",
    "check_layout",
    "log_progress",
    "silent",
]

REPORTED = "reported by the publisher"
"""What is said of results in a card: no one else has measured them."""
TaskName: TypeAlias = str
"""The name of a task: a key of `vertical_sdk.tables.TASKS`."""
Family: TypeAlias = str
"""The name of a base family: a key of `vertical_sdk.tables.FAMILIES`."""
Modality: TypeAlias = Literal["text", "records", "series", "image"]
"""The kind of a row: text, a record of fields, numbers in the order of time, or an image."""
Split: TypeAlias = Literal["train", "validation", "test"]
Numbers: TypeAlias = "NDArray[Any]"
Target: TypeAlias = "str | tuple[str, ...] | int | float | Numbers | None"
"""The target of a row: a label (classification, ordinal), labels (multilabel), a number (regression), a key (contrastive), the steps
that followed, (steps, channels) with NaN for unknown values (forecasting, anomaly), or None."""


DAY, WEEK = 86_400.0, 604_800.0
"""Seconds."""
NO_ANSWER = -1
"""The prediction for an answer that cannot be read as a label. It never counts as right."""
NO_ZONE = "none"
"""The zone of series whose times have no zone."""
LARGEST = 1e16
"""The largest reading of a series: sums of squares of larger numbers do not fit into float32."""
REACH = 2.0**20
"""A reading that many times larger than all of the training rows is not used: beside it, float32 has no digits for the others."""
Cell: TypeAlias = str | float | None
"""A field of a record: a word, a number, or None if it is unknown."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data, on its way from a reader to an encoder.

    id         unique in the source; a row that is only known by its place in a file has its number
    text       the input; generation tasks have `messages` instead
    target     what is to be learned
    messages   the conversation of a generation task. Its last turn is the assistant's answer; without it there is nothing to learn
    group      such as a patient or a contract; all rows of a group are in the same split
    time       sorts in the order of time as a string
    only       "train": never evaluated on; "evaluate": never trained on
    split      set by the source if it has one, and later by the splitter
    record     the fields that `text` was written from (`data.records`), or facts about the row that metrics read
    copy_of    the id of the row that this augmented copy was made from
    values     numbers, never changed in place: a series (steps,) or (steps, channels), oldest first, NaN for missing values; an
               image (height, width) or (height, width, 3) of bytes; or facts (n,) that a member reads besides the text
    problem    why a row to predict cannot be answered, such as "a wrong value"; None if it can
    record_id  the id that the source gives the row, as a key (`cells.normalize_key`); None if it gives none
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
    problem: str | None = None


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a task, in the order of the model's outputs (from worst to best, or low to high, for ordinal)."""

    labels: tuple[str, ...]
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """label → a sentence about it, for zero-shot comparison; default: the label itself."""
    words: Mapping[str, str] = field(default_factory=dict)
    """label → the words a causal model answers with; default: the label itself."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """label → number of training rows."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """label → its parent label, for hierarchical losses and metrics; default: the label itself."""

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: str) -> int:
        """Return the position of a label in the model's outputs.

        Raises KeyError for a label that is not in the training rows.
        """
        try:
            return self.labels.index(label)
        except ValueError:
            raise KeyError(label) from None

    def describe(self, label: str) -> str:
        """Return a sentence about the label."""
        return self.descriptions.get(label, label)

    def parent(self, label: str) -> str:
        """Return the parent of the label; the label itself if it has none."""
        return self.parents.get(label, label)

    def word(self, label: str) -> str:
        """Return the words with which a causal model answers for the label."""
        return self.words.get(label, label)


@dataclass(frozen=True)
class SeriesLayout:
    """The layout that all rows of series share; an adapter's card holds it without the graph.

    channels  their names, in the order of `Example.values`
    seconds   between two steps
    history   steps in `Example.values`; horizon: steps in the target
    graph     (channels, channels) how close they are, 0 if they are not connected; None if unknown
    zone      the zone in whose clock the times of the rows are (UTC, +08:00, Europe/Berlin); NO_ZONE if the times had none; None in
              cards of older versions, which did not keep it
    largest   the largest absolute value of each channel in the training rows; empty if unknown
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    channels: tuple[str, ...]
    seconds: float
    history: int
    horizon: int
    graph: Any = field(default=None, compare=False, repr=False)
    zone: str | None = field(default=None, compare=False)
    largest: tuple[float, ...] = field(default=(), compare=False)

    def limits(self) -> tuple[float, ...]:
        """The largest absolute value of each channel that may be part of a history; a larger one counts as not measured."""
        known = self.largest or (0.0,) * len(self.channels)
        return tuple(min(LARGEST, REACH * value) if value else LARGEST for value in known)


MOST_CELLS = 1 << 28
"""Numbers of a row of series, and of its week, at most."""


def check_layout(layout: SeriesLayout) -> None:
    """Check the layout that a card or a file states.

    Raises ValueError for what no series has, or what would need too much memory.
    """
    channels = len(layout.channels)
    counts = {"history": layout.history, "horizon": layout.horizon}
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"layout.{name} must be a number of steps, at least 1, and is {count!r}")
    if not channels or not all(isinstance(channel, str) for channel in layout.channels):
        raise ValueError("layout.channels must be names")
    if not isinstance(layout.seconds, int | float) or not 0 < layout.seconds < math.inf:
        raise ValueError(f"layout.seconds must be more than 0, and is {layout.seconds!r}")
    if max(layout.history + layout.horizon, WEEK / layout.seconds) * channels > MOST_CELLS:
        raise ValueError(
            f"layout has {channels} channels of {layout.history} + {layout.horizon} steps of {layout.seconds:g} seconds, which is more "
            "than can be held"
        )
    if layout.largest and (len(layout.largest) != channels or not all(0 <= value < math.inf for value in layout.largest)):
        raise ValueError(f"layout.largest must be {channels} numbers of at least 0")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer of a specialist for one input.

    label          a label (classification, ordinal), labels (multilabel), a number (regression), None (generation)
    probabilities  label → calibrated probability; empty for regression and generation
    text           the generated answer; None for the other tasks
    truncated      tokens of the input that did not fit and were cut
    unknown        tokens of the input that the base's vocabulary does not have: it cannot read what is written there. For
                   data.modality: records, words that no training row has in their field
    control        control tokens, such as [SEP], that are written in the input; they were read as characters
    adapter        the name of the specialist that answered
    interval       (low, high) around a number, which contains the truth with the probability in the card's calibration; else None
    abstained      whether the specialist is not sure enough of the label to answer under the promise in its card: of the answers with
                   False, at most a share is wrong. None if it promises nothing (`evaluate.abstention` in the recipe)
    """

    label: Target
    probabilities: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    truncated: int = 0
    adapter: str = ""
    interval: tuple[float, float] | None = None
    unknown: int = 0
    control: int = 0
    abstained: bool | None = None

    @property
    def confidence(self) -> float | None:
        """The calibrated probability of the chosen label; None for a task that does not choose exactly one label."""
        return self.probabilities.get(self.label) if isinstance(self.label, str) else None

    def top_k(self, n: int = 5) -> list[tuple[str, float]]:
        """List the n likeliest labels with their probabilities, the likeliest first; [] for a task without labels."""
        return heapq.nlargest(n, self.probabilities.items(), key=operator.itemgetter(1))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: every field, and the confidence."""
        plain: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
        return plain | {"probabilities": dict(self.probabilities), "confidence": self.confidence}


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """The answer that a specialist of generation has written to one prompt.

    text           without spaces around it
    finish_reason  "stop": complete, as it ended its turn, reached a text of `stop`, is one of `choices` or is a complete JSON document;
                   "length": cut at `max_new_tokens`
    prompt_tokens  of the prompt, with what the chat template writes
    new_tokens     computed for the answer, with the one that ends the turn
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class PairedTest:
    """Two systems on the same rows: the difference first minus second, and its two-sided p-value; NaN if it is undefined."""

    difference: Interval
    p_value: float
    confidence: float = 0.95


LOGGER = logging.getLogger("vertical_sdk")
"""What the library logs goes here. It has no handler of its own, so it shows only what a program asks for."""
Progress: TypeAlias = Callable[[str, float | None], None]
"""Called with the current step and the share of it that is done (None if unknown)."""


def silent(_what: str, _share: float | None = None) -> None:
    """Show no progress."""


def log_progress(what: str, share: float | None = None) -> None:
    """Log progress with the standard `logging`, as "vertical_sdk": warnings as WARNING, steps as INFO, shares of a step as DEBUG."""
    level = logging.WARNING if what.startswith("warning: ") else logging.INFO if share is None else logging.DEBUG
    LOGGER.log(level, "%s", what.removeprefix("warning: ") if share is None else f"{what} ({share:.0%})")
