"""The card: the description of an adapter, in `vertical.json` in its folder beside the files that PEFT wrote."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pydantic
from pydantic import (
    BaseModel,
    ConfigDict,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from vertical_sdk.cells import MISSING_WORDS, read_missing_words
from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.json_text import LARGEST, parse_json
from vertical_sdk.paths import file_digest, hide_path, public_source, read_regular, write_whole
from vertical_sdk.types import Family, LabelSpace, SeriesLayout, TaskName, check_layout

__all__ = [
    "CARD",
    "Calibration",
    "Card",
    "Contract",
    "Field",
    "FieldKind",
    "Fingerprint",
    "Parent",
    "Promise",
    "SelfTest",
    "SourceRecord",
    "Verdict",
    "folder_digests",
    "hide_paths",
    "library_versions",
    "parse_card",
    "read_card",
    "write_card",
]

CARD = "vertical.json"
Share: TypeAlias = Annotated[FiniteFloat, pydantic.Field(ge=0, le=1)]
Temperature: TypeAlias = Annotated[FiniteFloat, pydantic.Field(ge=1e-3, le=1e3)]
Offset: TypeAlias = Annotated[FiniteFloat, pydantic.Field(ge=-500, le=500)]
"""Numbers of a calibration, in ranges far wider than fits give: answers stay finite."""
Output: TypeAlias = Annotated[FiniteFloat, pydantic.Field(ge=-1e30, le=1e30)]
"""A number of a self-test, which is compared in 32 bits."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fingerprint(_Frozen):
    """The identity of a base model. Digests are SHA-256 in hex.

    name           as the user wrote it: "minilm-l6", a hub id or a path; not compared
    architecture   the class in config.json
    revision       the hub's commit, if it came from the hub; not compared
    weights        digest of the names, shapes, types and bytes of all tensors
    tokenizer      digest of the tokenizer's files; for a vision base, of its image preprocessing
    vocab_size     rows of the input embedding; 0 for a vision base
    chat_template  digest of the template's text; None if there is none
    """

    name: str
    architecture: str
    weights: str
    tokenizer: str
    vocab_size: int
    chat_template: str | None = None
    revision: str | None = None
    license: str | None = None


class SourceRecord(_Frozen):
    """A source of data."""

    source: str
    sha256: str
    license: str | None = None


class Promise(_Frozen):
    """Abstention: of what is answered, at most `alpha` is wrong, with confidence 1 - `delta` (`calibration/abstention.py`).

    threshold  the lowest confidence that is answered; None if no threshold keeps the promise: then nothing is answered
    rows       validation rows that it was tested on
    groups     whether these are one row of each group; the promise is then about such rows
    answered   how many of them are answered, and how many of the answers are wrong
    low, high  95% interval of the share that is answered (Clopper and Pearson, 1934)
    """

    alpha: Share
    delta: Share
    threshold: Share | None = None
    rows: Annotated[int, pydantic.Field(ge=0)] = 0
    groups: bool = False
    answered: Annotated[int, pydantic.Field(ge=0)] = 0
    wrong: Annotated[int, pydantic.Field(ge=0)] = 0
    low: Share = 0.0
    high: Share = 1.0

    @property
    def coverage(self) -> float:
        """The share of the validation rows that is answered."""
        return self.answered / self.rows if self.rows else 0.0

    @model_validator(mode="after")
    def _check_counts(self) -> Promise:
        if not self.wrong <= self.answered <= self.rows:
            raise ValueError(f"{self.wrong} wrong of {self.answered} answered of {self.rows} rows cannot be")
        return self


class Calibration(_Frozen):
    """Calibration fitted on the validation rows: temperature scaling (Guo et al., 2017), and how labels are chosen.

    All numbers are finite and in range; `Card` checks that they fit its labels and its layout.

    ece_before, ece_after  expected calibration error on the validation rows, before and after
    offsets                added to the log-probabilities (log-odds for multilabel) before labels are chosen; empty means no offsets
    level                  probability that an interval contains the truth, from conformal prediction
    widths                 half the width of an interval (regression); the amount by which the outer quantiles move, for each step and
                           channel, all channels of a step together, or for each step in cards of earlier versions (forecasting);
                           the usual error of each channel (anomaly)
    threshold              anomaly: the lowest score that raises an alarm
    promise                which answers a specialist with `evaluate.abstention` gives; None without
    """

    level: Annotated[FiniteFloat, pydantic.Field(gt=0, lt=1)] | None = None
    widths: tuple[FiniteFloat, ...] = ()
    threshold: Annotated[FiniteFloat, pydantic.Field(gt=0)] | None = None
    temperature: Temperature = 1.0
    ece_before: Share | None = None
    ece_after: Share | None = None
    rows: Annotated[int, pydantic.Field(ge=0)] = 0
    offsets: tuple[Offset, ...] = ()
    promise: Promise | None = None

    @model_serializer(mode="wrap")
    def _leave_out_no_promise(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Earlier versions read a calibration without a promise."""
        plain: dict[str, Any] = serialize(self)
        return plain if self.promise is not None else {key: item for key, item in plain.items() if key != "promise"}

    def require_fit(self, labels: LabelSpace | None, layout: SeriesLayout | None) -> None:
        """Raise ValueError for offsets or widths of another length than labels or layout have, widths below their least, and a promise
        without labels."""
        known = len(labels) if labels is not None else 0
        if self.promise is not None and labels is None:
            raise ValueError("calibration.promise is about labels, and there are none")
        if self.offsets and len(self.offsets) != known:
            raise ValueError(f"calibration.offsets has {len(self.offsets)} numbers, and there are {known} labels")
        expected, least = [1 if labels is None else 0], "0 or more"
        if layout is not None and self.threshold is not None:
            expected, least = [len(layout.channels)], "more than 0"
        elif layout is not None:
            expected, least = [layout.horizon * len(layout.channels), layout.horizon], "any"
        if self.widths and len(self.widths) not in expected:
            raise ValueError(f"calibration.widths has {len(self.widths)} numbers, and {expected[0]} are needed")
        low = [width for width in self.widths if width < 0 or (width == 0 and least == "more than 0")]
        if low and least != "any":
            raise ValueError(f"calibration.widths must be {least}, and contains {low[0]:g}")


class SelfTest(_Frozen):
    """An input with the outputs of base and adapter, recorded when the adapter was created and replayed at each load.

    base     the outputs with the adapter disabled
    adapter  the outputs with the adapter: logits in the order of the labels, or log-likelihoods of the text's tokens
    whole    the answer of adapter, members and calibration together; empty in cards of earlier versions, and for generation
    members  the answer of the members without the adapter; empty if there are none, or they need the base. A card without an adapter
             has only these
    """

    text: Annotated[str, pydantic.Field(max_length=50_000)]
    base: tuple[Output, ...]
    adapter: tuple[Output, ...]
    whole: tuple[Output, ...] = ()
    members: tuple[Output, ...] = ()


FieldKind: TypeAlias = Literal["words", "truth", "whole", "numbers", "mixed"]


class Field(_Frozen):
    """One field of the records that a specialist reads.

    in_text  whether the row's text contains it; a member may read fields that the text leaves out
    kind     how its values are read and written: "words" as they are, "truth" as true or false, "whole" numbers with all digits,
             "numbers" to three digits, "mixed" as a number to three digits if it is one, else as words
    """

    name: str
    in_text: bool
    kind: FieldKind

    @model_validator(mode="before")
    @classmethod
    def _read_old(cls, value: Any) -> Any:
        """Cards of version 0.1 say only whether the values are words."""
        if isinstance(value, dict) and "words" in value and "kind" not in value:
            return {key: item for key, item in value.items() if key != "words"} | {
                "kind": "mixed" if value["words"] else "numbers"
            }
        return value

    @property
    def words(self) -> bool:
        """Whether a value may be a word."""
        return self.kind in {"words", "truth", "mixed"}


@dataclass(frozen=True)
class Contract:
    """What rows must be like for a specialist, on every way in: a file, a record, an array.

    labels         the known labels; () means that there are none, or that all are taken
    fields         the fields of a record, in order; () for a specialist that does not read records
    values         the columns of a row of numbers, in order; () for rows of any length
    layout         the series of forecasting and anomaly
    missing_words  words, in small letters, that mean a missing cell
    """

    labels: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    values: tuple[str, ...] = ()
    layout: SeriesLayout | None = None
    missing_words: frozenset[str] = MISSING_WORDS


class Parent(_Frozen):
    """The warm start: the adapter whose weights training started from.

    reference  its reference at that time: a version ("medical/triage@3"), or the name in the card of a folder
    weights    SHA-256 of its adapter_model.safetensors, which identifies it in every registry
    version    SHA-256 of its manifest, if it came from a registry
    """

    reference: str
    weights: str
    version: str | None = None


class Verdict(_Frozen):
    """The result of the promotion gate, with reasons."""

    passed: bool
    noninferior: bool = False
    """It passed because the gate's margin is below 0: the specialist is not shown to be better, only not to be worse by the margin."""
    reasons: tuple[str, ...] = ()
    """One sentence for each baseline: the metric, the difference and its confidence."""

    @property
    def result(self) -> str:
        """The result in a word: "passed", "non-inferior" or "failed"."""
        return "failed" if not self.passed else "non-inferior" if self.noninferior else "passed"


class Card(_Frozen):
    """The description of an adapter: everything in its folder besides weights and tokenizer."""

    schema_version: int = 1
    name: str
    task: TaskName
    family: Family
    verb: str = "predict"
    """The method of VerticalModel that answers."""
    pipeline_tag: str = "text-classification"
    """The task in the terms of the Hugging Face hub."""
    base: Fingerprint
    recipe: dict[str, Any]
    recipe_digest: str
    labels: LabelSpace | None = None
    fields: tuple[Field, ...] = ()
    """The fields of a record, for a specialist that reads records instead of texts."""
    values: tuple[str, ...] = ()
    """The columns of a row of numbers, in order, for a specialist whose reader takes `values`."""
    layout: SeriesLayout | None = None
    """The layout of the series, for forecasting and anomaly."""
    sources: tuple[SourceRecord, ...] = ()
    account: dict[str, Any] = {}
    calibration: Calibration = Calibration()
    self_tests: Annotated[tuple[SelfTest, ...], pydantic.Field(max_length=100)] = ()
    training: dict[str, Any] = {}
    """Steps, seconds, final losses, seed, world size; for an imported adapter, what is known about its origin."""
    parent: Parent | None = None
    """Its warm start; None if training started from the base alone."""
    members_only: bool = False
    """It has no adapter: the members of its ensemble answer alone, and no base is needed. Publishing sets it."""
    metrics: dict[str, Any] = {}
    """Part of the evaluation on the recipe's own test rows (`evaluation_record`). Publishing adds it; empty before, or without one."""
    gate: Verdict | None = None
    """The gate result of that evaluation. Publishing adds it."""
    forced: str | None = None
    """Why it was published against its gate; None if it was not. Publishing adds it, and every copy of the folder keeps it."""
    versions: dict[str, str] = {}
    created: str = ""
    files: dict[str, str] = {}
    """Path in the folder → SHA-256, for every file except the card itself and the README."""

    @model_validator(mode="after")
    def _check_numbers(self) -> Card:
        """Check that the layout can be held, and that the calibration fits labels and layout."""
        if self.labels is not None and len(set(self.labels.labels)) != len(self.labels):
            raise ValueError("labels.labels has a label twice")
        if self.layout is not None:
            check_layout(self.layout)
        self.calibration.require_fit(self.labels, self.layout)
        return self

    @property
    def contract(self) -> Contract:
        """What rows must be like for this specialist."""
        reader = self.recipe.get("data", {}).get("reader") or {}
        words = reader.get("missing_words") if isinstance(reader, dict) else None
        return Contract(
            labels=self.labels.labels if self.labels else (),
            fields=self.fields,
            values=self.values,
            layout=self.layout,
            missing_words=read_missing_words(words),
        )

    @field_serializer("layout")
    def _without_graph(self, layout: SeriesLayout | None) -> dict[str, Any] | None:
        """The graph of the channels is a tensor of the adapter, not part of the card."""
        if layout is None:
            return None
        return {name: getattr(layout, name) for name in ("channels", "seconds", "history", "horizon", "zone", "largest")}


def hide_paths(card: Card) -> Card:
    """Return the card as others may read it: of a file or folder of this machine, only its name.

    The card in a version keeps the paths, from which a promotion prepares the rows again; pages, lists and reports show this one.
    """
    recipe = _hide(card.recipe)
    if isinstance(recipe.get("data"), dict) and "source" in recipe["data"]:
        source = recipe["data"]["source"]
        named = {split: public_source(str(place)) for split, place in source.items()} if isinstance(source, dict) else None
        recipe["data"] = {**recipe["data"], "source": named or public_source(str(source))}
    changes: dict[str, Any] = {
        "base": card.base.model_copy(update={"name": _hide(card.base.name)}),
        "sources": tuple(source.model_copy(update={"source": public_source(source.source)}) for source in card.sources),
        "parent": card.parent and card.parent.model_copy(update={"reference": _hide(card.parent.reference)}),
        "recipe": recipe,
    }
    return card.model_copy(update={**changes, "metrics": _hide(card.metrics), "training": _hide(card.training)})


def _hide(value: Any) -> Any:
    """Replace absolute paths in a plain value by their last part."""
    if isinstance(value, dict):
        return {key: _hide(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(item) for item in value]
    return hide_path(value) if isinstance(value, str) else value


def read_card(folder: Path) -> Card:
    """Read the card of an adapter's folder.

    Raises CorruptAdapter if it is missing or malformed.
    """
    try:
        content = read_regular(folder / CARD, largest=LARGEST)
    except FileNotFoundError:
        raise CorruptAdapter(
            f"this folder has no {CARD}. It is not a vertical_sdk adapter, or it was copied incompletely.", where=folder
        ) from None
    except OSError as error:
        raise CorruptAdapter(f"{CARD} cannot be read ({error.strerror}). A link is not followed.", where=folder) from None
    return parse_card(content, folder)


def parse_card(content: bytes, folder: Path) -> Card:
    """Parse the bytes of a card.

    folder  where it is from, for the error

    Raises CorruptAdapter that names the key that is wrong.
    """
    try:
        card = parse_json(content)
        json.dumps(card, ensure_ascii=False).encode()
        return Card.model_validate(card)
    except ValidationError as error:
        first = error.errors()[0]
        at = ": ".join((CARD, ".".join(str(step) for step in first["loc"]))).removesuffix(": ")
        problem = f"{at}: {first['msg'].removeprefix('Value error, ')}"
    except UnicodeEncodeError:
        problem = f"{CARD}: a text has half of a character that needs two (a surrogate)"
    except ValueError as error:
        problem = f"{CARD}: Invalid JSON: {error}"
    raise CorruptAdapter(f"{problem}. The card was cut or changed. Download or train the adapter again.", where=folder)


def write_card(folder: Path, card: Card) -> None:
    """Write the card with the current digests of the files."""
    card = card.model_copy(update={"files": folder_digests(folder)})
    write_whole(folder / CARD, card.model_dump_json(indent=1) + "\n")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that create adapters, for a card."""
    import peft
    import torch
    import transformers

    from vertical_sdk import __version__

    return {
        "vertical_sdk": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def folder_digests(folder: Path) -> dict[str, str]:
    """Compute path → SHA-256 of every file in a folder, except the card and the README."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    named = {p.relative_to(folder).as_posix(): p for p in files}
    return {name: file_digest(p) for name, p in named.items() if name not in {CARD, "README.md"}}
