"""The card: what an adapter says of itself, kept as `vertical.json` in its folder, beside the files that PEFT wrote."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.paths import file_digest, write_whole
from vertical_sdk.types import Family, LabelSpace, SeriesLayout, Task

__all__ = [
    "CARD",
    "Calibration",
    "Card",
    "Field",
    "Fingerprint",
    "Parent",
    "SelfTest",
    "SourceRecord",
    "Verdict",
    "folder_digests",
    "library_versions",
    "read_card",
    "write_card",
]

CARD = "vertical.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fingerprint(_Frozen):
    """What makes two base models the same one. Digests are SHA-256 in hex.

    name           as the user gave it: "minilm-l6", a hub id or a path; not part of the comparison
    architecture   the class in config.json
    revision       the hub's commit, where it came from there; not part of the comparison
    weights        over the names, shapes, types and bytes of all tensors
    tokenizer      over the tokenizer's files; of a vision base, over how pictures are prepared
    vocab_size     rows of the input embedding; 0 of a vision base
    chat_template  over the template's text; None where there is none
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
    """One place that data came from."""

    source: str
    sha256: str
    license: str | None = None


class Calibration(_Frozen):
    """Fitted on the validation rows: temperature scaling (Guo et al., 2017), and how labels are chosen.

    ece_before, ece_after  expected calibration errors there
    offsets                added to the log-probabilities (log-odds for multilabel) before labels are chosen; none where empty
    level, widths          an interval holds the truth with this probability; half its width (regression), or what is added to the
                           outer quantiles at each step (forecasting), from conformal prediction
    threshold              anomaly: the score from which an alarm is raised
    """

    level: float | None = None
    widths: tuple[float, ...] = ()
    threshold: float | None = None
    temperature: float = 1.0
    ece_before: float | None = None
    ece_after: float | None = None
    rows: int = 0
    offsets: tuple[float, ...] = ()


class SelfTest(_Frozen):
    """An input with what base and adapter answered when the adapter was made.

    base     the outputs with the adapter switched off
    adapter  the outputs with it: logits in the order of the labels, or log-likelihoods of the probe's tokens
    """

    text: str
    base: tuple[float, ...]
    adapter: tuple[float, ...]


class Field(_Frozen):
    """One field of the records that a specialist reads.

    in_text  whether the text contains it; a member may read fields that the text leaves out
    words  whether it holds words; numbers otherwise
    """

    name: str
    in_text: bool
    words: bool


class Parent(_Frozen):
    """The adapter whose weights training began from.

    reference  as it was then: a version ("medical/triage@3"), or the name in the card of a folder
    weights    SHA-256 of its adapter_model.safetensors, which names it in every registry that has it
    version    SHA-256 of its manifest, where it came from a registry
    """

    reference: str
    weights: str
    version: str | None = None


class Verdict(_Frozen):
    """What the promotion gate said, and why."""

    passed: bool
    reasons: tuple[str, ...] = ()
    """One sentence a baseline: what was compared, by how much, at which confidence."""


class Card(_Frozen):
    """Everything an adapter carries with it besides its weights."""

    schema_version: int = 1
    name: str
    task: Task
    family: Family
    base: Fingerprint
    recipe: dict[str, Any]
    recipe_digest: str
    labels: LabelSpace | None = None
    fields: tuple[Field, ...] = ()
    """What a record has, for a specialist that reads records instead of texts."""
    layout: SeriesLayout | None = None
    """What the series are, for forecasting and anomaly."""
    sources: tuple[SourceRecord, ...] = ()
    account: dict[str, Any] = {}
    calibration: Calibration = Calibration()
    self_tests: tuple[SelfTest, ...] = ()
    training: dict[str, Any] = {}
    """Steps, seconds, final losses, seed, world size; of an adapter that was imported, what is known of where it came from."""
    parent: Parent | None = None
    """What it goes on from; None where it began from the base alone."""
    metrics: dict[str, Any] = {}
    """The evaluation on the recipe's own test rows (`Evaluation.to_dict()`), empty until there is one."""
    gate: Verdict | None = None
    forced: str | None = None
    """Why it was published against its gate; None where it was not. A registry writes it, and it stays wherever the folder goes."""
    versions: dict[str, str] = {}
    created: str = ""
    files: dict[str, str] = {}
    """Path in the folder → SHA-256, for every file but the card itself and the README."""


def read_card(folder: Path) -> Card:
    """The card of an adapter's folder.

    Raises CorruptAdapter where it is missing or not what it should be.
    """
    path = folder / CARD
    try:
        return Card.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CorruptAdapter(
            f"{folder}: has no {CARD}; this is not a vertical_sdk adapter, or it was copied in part."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(step) for step in first["loc"]) or "the file"
        raise CorruptAdapter(f"{path}: {at}: {first['msg']}; the card was cut or changed. Take the adapter anew.") from None


def write_card(folder: Path, card: Card) -> None:
    """Write the card, with the digests of the files as they now are."""
    card = card.model_copy(update={"files": folder_digests(folder)})
    write_whole(folder / CARD, card.model_dump_json(indent=1) + "\n")


def library_versions() -> dict[str, str]:
    """The versions of what makes adapters here, for a card."""
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
    """Path → SHA-256 of every file below, but the card and the README, which may say more later."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    named = {p.relative_to(folder).as_posix(): p for p in files}
    return {name: file_digest(p) for name, p in named.items() if name not in {CARD, "README.md"}}
