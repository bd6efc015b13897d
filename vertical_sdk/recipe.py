"""Recipes: everything a specialist is made from, as data.

A recipe is a YAML file. Its schema is closed: an unknown key, name or argument is an error that names the place and the right
form, before any weights load. `load_recipe` takes a name ("medical/icd-chapter") or a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError, to_jsonable_python

from vertical_sdk.domain import recipe_folders
from vertical_sdk.errors import RecipeError, UnknownName, did_you_mean
from vertical_sdk.overrides import apply_settings, fill_defaults, merge_settings
from vertical_sdk.paths import expand_home
from vertical_sdk.ranges import SearchSpace
from vertical_sdk.schema_errors import describe_schema_errors
from vertical_sdk.tables import TASKS
from vertical_sdk.types import Modality, TaskName
from vertical_sdk.yaml_file import read_yaml, yaml_value

__all__ = [
    "QUANTIZE",
    "Abstention",
    "Gate",
    "Part",
    "Recipe",
    "Report",
    "load_recipe",
    "parse_setting",
    "read_yaml",
    "recipe_names",
    "recipe_schema",
]

QUANTIZE = "quantize"
"""The key of `adapter` that is not peft.LoraConfig's."""
NAME = re.compile(r"^([a-z0-9][a-z0-9_]*/)?[a-z0-9][a-z0-9_.-]*$")


class Closed(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """A named part and its arguments: `{use: focal, gamma: 2.0}`, or only the name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    use: str = Field(description="The part's name in its catalog.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @property
    def arguments(self) -> dict[str, Any]:
        """All keys but `use`."""
        return dict(self.model_extra or {})


class Limits(Closed):
    """How much may be lost before a run stops with an error."""

    lost: float = Field(
        default=0.2, ge=0, le=1, description="Share of the rows read that cleaning and decontamination may drop."
    )
    truncated: float = Field(
        default=0.05, ge=0, le=1, description="Share of the rows of a split that may be cut to max_length."
    )
    unknown: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of a text's tokens that the base's vocabulary may lack, as the mean over the rows of a split.",
    )


class Data(Closed):
    """Where rows come from, and what happens to them before training."""

    source: str | dict[Literal["train", "validation", "test"], str] = Field(
        description="A path, an fsspec address, pypi:NAME==VERSION or hf:OWNER/NAME; or one for each split."
    )
    file: str | None = Field(default=None, description="The file to read inside the source, if it has several.")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="Digest of the source's wheel or file.")
    license: str | None = Field(default=None, description="SPDX name of the data's licence, for the card.")
    modality: Modality = Field(
        default="text", description="What a row is: text, a record of fields, a series of numbers, or an image."
    )
    reader: Part | None = Field(default=None, description="Reads the source into rows; default: the general reader.")
    columns: dict[Literal["id", "text", "label", "messages", "group", "time", "split"], str] = Field(
        default_factory=dict, description="text, label, messages, group, time, id or split → the file's column."
    )
    clean: tuple[Part, ...] = (Part(use="normalize"), Part(use="drop_duplicates"))
    deidentify: Part | None = None
    split: Part = Part(use="stratified")
    decontaminate: float | None = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Estimated Jaccard similarity from which a training row repeats an evaluation row; null: off.",
    )
    per_group: int | None = Field(default=None, ge=1, description="At most so many training rows of one group.")
    augment: tuple[Part, ...] = ()
    copies: int = Field(default=1, ge=0, description="Augmented copies made of each training row.")
    max_length: int = Field(default=128, ge=8, description="Tokens; a longer text is cut and counted.")
    windows: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Encoders: read a text that is longer than max_length in so many windows of max_length tokens at most. They overlap "
        "by an eighth; the features are the mean over all tokens.",
    )
    limits: Limits = Limits()
    remember_ids: bool = Field(
        default=True,
        description="Store a salted index of the rows' own ids and groups with the adapter, so that the registry can find the "
        "adapters that learned from a record. Anyone who has the adapter can then test a guessed id.",
    )


class Head(Closed):
    """The head of an encoder."""

    init: Literal["probe", "random"] = Field(
        default="probe",
        description="Start from a linear probe of the frozen base (Kumar et al., 2022), or from random weights.",
    )
    pooling: Literal["mean", "cls"] = "mean"
    dropout: float = Field(default=0.1, ge=0, lt=1)


class Series(Closed):
    """How a backbone that was pretrained on text reads a series of numbers: patches take the place of words."""

    tokens: Literal["patches", "channels"] = Field(
        default="patches",
        description="A token: a patch of one channel's steps, each channel by itself (Zhou et al., 2023), or the whole "
        "history of a channel, so that attention goes over channels (Liu et al., 2024).",
    )
    patch: int = Field(default=4, ge=1, description="Steps of a patch.")
    layers: int | None = Field(default=None, ge=1, description="Use only the backbone's first layers; null: all.")
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        description="Forecasting: levels besides the median, in rising order; the interval is between the first and the last.",
    )
    alarms: float = Field(default=1.0, gt=0, description="Anomaly: allowed false alarms for each channel and day.")

    @field_validator("quantiles")
    @classmethod
    def _rising(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        if list(quantiles) != sorted(set(quantiles) - {0.5}):
            raise ValueError("should be in rising order, each once, and without the median's 0.5")
        return quantiles


class Records(Closed):
    """How a backbone that was pretrained on text reads a record: each field is a token of its name and its value."""

    bins: int = Field(
        default=32, ge=2, le=256, description="Bins of a number, of about as many training rows each (Gorishniy et al., 2022)."
    )
    layers: int | None = Field(default=None, ge=1, description="Use only the backbone's first layers; null: all.")
    steps: int = Field(
        default=400, ge=1, description="Steps in which the small network that reads all values is fitted, before training."
    )


class Image(Closed):
    """How images are prepared for a vision backbone."""

    size: int | None = Field(
        default=None, ge=16, description="Side in pixels to which images are resized; null: the base's own."
    )


class Prompt(Closed):
    """The prompt of a causal model."""

    system: str | None = None
    user: str = Field(default="{text}", description="The user's turn; {text} is replaced by the row's text.")


class Gate(Closed):
    """When a specialist may be published: `metric` beats each baseline by more than `margin`, at `confidence`.

    `tasks.get_gate` returns the gate of a recipe, which is its task's default if it names none.
    """

    metric: str
    beats: tuple[str, ...] | None = Field(
        default=None,
        description="What it must beat; null: the best of all baselines and members on the validation rows, the members without the "
        "adapter, and whatever has no value there (`alternatives.choose_alternatives`).",
    )
    margin: float = Field(
        default=0.0,
        description="The advantage must exceed this, in the metric's unit. Below 0 the specialist may lose so much: a test of "
        "non-inferiority, and the verdict says non-inferior.",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class Forgetting(Closed):
    """How much general ability the adapter may cost: measured on general text with the adapter off and on."""

    source: str | None = Field(
        default=None,
        description="A file of general prose, in any place that data.source may name; null: sentences that come with the SDK.",
    )
    file: str | None = Field(default=None, description="The file inside the source, if it has several.")
    budget: float = Field(
        gt=0,
        description="Encoder: how much recall@1 of retrieval may fall. Causal: how many bits a character may rise.",
    )


class Abstention(Closed):
    """A promise about the answers: a specialist that is not sure enough to keep it abstains (`calibration/abstention.py`)."""

    alpha: float = Field(ge=0.001, le=0.5, description="The share of the answers that may be wrong.")
    delta: float = Field(
        default=0.05,
        ge=0.001,
        le=0.5,
        description="How probable it may be that validation rows lead to a promise that is not kept.",
    )


FOLDS = 5
"""Folds of a cross-fitting whose recipe does not say how many."""


class Evaluate(Closed):
    """How a specialist is judged."""

    use: Literal["split", "crossfit"] = Field(
        default="split",
        description="split: on the test part of data.split. crossfit: every row is a test row once, by an adapter that was trained on "
        "the other folds; the adapter that ships is the mean of these.",
    )
    folds: int | None = Field(default=None, ge=2, le=20, description=f"The number of folds of crossfit; null: {FOLDS}.")
    metrics: tuple[Part, ...] = ()
    baselines: tuple[Part, ...] = (Part(use="base"), Part(use="tfidf"))
    gate: Gate | Literal[False] | None = Field(
        default=None,
        description="When it may be published; null: if it beats the best system without an adapter in the first metric; "
        "false: always, but the registry marks it as ungated.",
    )
    forgetting: Forgetting | None = Field(default=None, description="The gate fails if more is forgotten than its budget.")
    abstention: Abstention | None = Field(
        default=None,
        description="One label a row: of what is answered, at most a share alpha is wrong, with confidence 1 - delta.",
    )
    groups: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="Fields of the record to audit by: each value is a group, or the numbers between the given bounds.",
    )
    resamples: int = Field(default=1000, ge=100, description="Bootstrap resamples.")
    resample: Literal["rows", "groups"] = Field(
        default="rows",
        description="What the bootstrap draws: rows, for a claim about such rows; or whole groups, for a claim about new groups, "
        "which is stricter if rows of a group are alike.",
    )

    @model_validator(mode="after")
    def _folds_of_crossfit(self) -> Evaluate:
        if self.folds is not None and self.use != "crossfit":
            raise PydanticCustomError(
                "folds",
                "folds = {folds}: only crossfit has folds. Set use: crossfit, or leave folds out",
                {"folds": self.folds},
            )
        return self


class Report(Closed):
    """The report of an evaluation."""

    language: Literal["en", "zh"] = Field(default="en", description="The language of report.html: English or Chinese.")
    rows: bool = Field(
        default=False,
        description="Publish the report with its test rows. By default a published report has none; the one in the run has some.",
    )


class Recipe(Closed):
    """Everything a specialist is made from. Keys are those of TrainingArguments and LoraConfig if these have one."""

    name: str = Field(
        pattern=NAME.pattern, description="vertical/task, or only a task for your own recipe, in small letters, digits and -_."
    )
    task: Annotated[TaskName, Field(json_schema_extra={"enum": list(TASKS)})]
    summary: str = ""
    domain: str | None = Field(default=None, description="The vertical whose parts this recipe may name.")
    base: str = Field(default="minilm-l6", description="A name in the base catalogue, a hub id, or a folder.")
    start: str | None = Field(
        default=None,
        min_length=1,
        description="The adapter that training continues from: a registry reference, or a folder that begins with ./, ../, / or runs/. "
        "null: a fresh adapter.",
    )
    data: Data
    labels: dict[str, str] | tuple[str, ...] | None = Field(
        default=None, description="Labels in order (needed for ordinal), or label → description."
    )
    head: Head = Head()
    records: Records = Records()
    series: Series = Series()
    image: Image = Image()
    prompt: Prompt = Prompt()
    adapter: dict[str, Any] = Field(
        default_factory=dict, description="Keys of peft.LoraConfig, and quantize: nf4 for a base in 4 bits."
    )
    loss: Part | None = Field(default=None, description="Default: the task's usual loss.")
    ensemble: tuple[Part, ...] = Field(
        default=(), description="Members whose predictions a calibrated stacker combines with those of the adapter."
    )
    train: dict[str, Any] = Field(default_factory=dict, description="Keys of transformers.TrainingArguments, and ours.")
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    tune: SearchSpace = Field(
        default_factory=dict,
        description="What `vertical tune` searches: dotted key → {low, high, log}, or a list of values. Training does not read it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _earlier_names(cls, value: Any) -> Any:
        return _use_current_names(value) if isinstance(value, dict) else value

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        if task not in TASKS:
            known = ", ".join(map(repr, TASKS))
            raise PydanticCustomError(
                "task", "Input should be one of {known}{hint}", {"known": known, "hint": did_you_mean(task, TASKS)}
            )
        return task

    @field_validator("adapter")
    @classmethod
    def _known_quantization(cls, adapter: dict[str, Any]) -> dict[str, Any]:
        if adapter.get(QUANTIZE, "nf4") != "nf4":
            raise PydanticCustomError("quantize", "Input should have quantize: nf4, or no such key")
        return adapter

    @property
    def lora(self) -> dict[str, Any]:
        """The keys of `adapter` that are peft.LoraConfig's."""
        return {key: value for key, value in self.adapter.items() if key != QUANTIZE}

    @property
    def quantize(self) -> str | None:
        """How the frozen linear layers of the base are stored: "nf4", or None for unchanged."""
        return self.adapter.get(QUANTIZE)

    @property
    def folds(self) -> int:
        """How many adapters are trained, each on the other folds, to judge every row; 0 without cross-fitting."""
        return (self.evaluate.folds or FOLDS) if self.evaluate.use == "crossfit" else 0

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved recipe in canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe with all defaults as plain data; keys that are younger than some adapters only if they say something."""
        left_out: dict[str, Any] = {key: True for key in ("tune", "start") if not getattr(self, key)}
        if self.data.windows == 1:
            left_out["data"] = {"windows"}
        evaluate = set() if self.folds else {"use", "folds"}
        if self.evaluate.abstention is None:
            evaluate.add("abstention")
        left_out["evaluate"] = evaluate
        plain: dict[str, Any] = self.model_dump(mode="json", exclude=left_out)
        return plain

    def anchored(self, folder: Path) -> Recipe:
        """Return a copy whose relative paths (of data, of general text, of the base and of the start) start in a folder, and are absolute."""
        return Recipe.model_validate(_anchor(self.to_dict(), folder))

    def replace(self, settings: Mapping[str, Any]) -> Recipe:
        """Return a copy with some keys changed: `{"train.learning_rate": 1e-4}`.

        Raises RecipeError.
        """
        return _build(apply_settings(self.to_dict(), settings), self.name)


def recipe_names() -> list[str]:
    """List the installed recipes."""
    found = {
        path.relative_to(folder).with_suffix("").as_posix() for folder in recipe_folders() for path in folder.rglob("*.yaml")
    }
    return sorted(found)


def load_recipe(name: str | Path | Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Recipe:
    """Load the recipe of a name, path or dict, with some keys changed.

    name      "medical/icd-chapter", the path of a YAML file, or the content of such a file as a dict
    settings  dotted key → value, as `--set` has them

    Relative paths in a YAML file start in the folder of that file; those in settings and in a dict, in the working folder. Raises
    RecipeError; UnknownName if no recipe has this name.
    """
    if isinstance(name, Mapping):
        where = str(name.get("name", "recipe"))
        merged = _merge_parent(_plain(name, where), where, Path.cwd(), ())
    elif isinstance(name, str | Path):
        where = str(name)
        merged = _merged(where, "", ())
    else:
        raise RecipeError(f"a recipe is a name, the path of a YAML file, or a dict of its keys, not a {type(name).__name__}.")
    if settings:
        merged = apply_settings(fill_defaults(merged, _defaults(Recipe)), settings)
    return _build(merged, where)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe file, for editors."""
    schema = Recipe.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "Another recipe, some keys of which this one changes."}
    schema["required"] = []
    schema["$defs"]["Data"]["required"] = []
    part = schema["$defs"]["Part"]
    schema["$defs"]["Part"] = {"anyOf": [{"type": "string", "description": part["properties"]["use"]["description"]}, part]}
    return schema


def parse_setting(text: str) -> tuple[str, Any]:
    """`train.learning_rate=1e-4` → ("train.learning_rate", 0.0001); the value is YAML.

    Raises RecipeError.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text}: write key=value, for example train.learning_rate=1e-4.")
    return key.strip(), yaml_value(value, f"--set {text}")


def _find(name: str, where: str) -> Path:
    if _is_file_name(name):
        path = Path(name)
        if not path.is_file():
            raise RecipeError(f"{where}{name}: no such file.")
        return path
    if NAME.fullmatch(name):
        for folder in recipe_folders():
            path = folder / f"{name}.yaml"
            if path.is_file():
                return path
    raise UnknownName("recipe", name, recipe_names(), where.rstrip(": "))


def _use_current_names(plain: dict[str, Any]) -> dict[str, Any]:
    """Read the names of earlier versions, which cards have: `evaluate.against` is `evaluate.baselines`, the loss `pinball` `quantile`."""
    plain = dict(plain)
    evaluate, loss = plain.get("evaluate"), plain.get("loss")
    if isinstance(evaluate, dict) and "against" in evaluate and "baselines" not in evaluate:
        plain["evaluate"] = {"baselines" if key == "against" else key: value for key, value in evaluate.items()}
    if loss == "pinball":
        plain["loss"] = "quantile"
    elif isinstance(loss, dict) and loss.get("use") == "pinball":
        plain["loss"] = {**loss, "use": "quantile"}
    return plain


def _merged(name: str, where: str, seen: Sequence[Path]) -> dict[str, Any]:
    """Merge the keys of a recipe over those of the recipe that it extends.

    where  prefix of a message about a missing file
    """
    path = _find(name, where).resolve()
    if path in seen:
        raise RecipeError("extends goes in a circle: " + " → ".join(str(p) for p in (*seen, path)))
    own = _use_current_names(read_yaml(path))
    if _is_file_name(name):
        own = _anchor(own, path.parent)
    return _merge_parent(own, str(path), path.parent, (*seen, path))


def _merge_parent(own: dict[str, Any], where: str, folder: Path, seen: Sequence[Path]) -> dict[str, Any]:
    """Merge keys over those of the recipe that they extend, if any; a file name of it starts in a folder."""
    parent = own.pop("extends", None)
    if parent is None:
        return own
    if not isinstance(parent, str):
        raise RecipeError(f"{where}: extends must name one recipe, not {parent!r}.")
    target = str(folder / parent) if _is_file_name(parent) else parent
    return merge_settings(_merged(target, f"{where}: extends: ", seen), own)


def _plain(value: Any, where: str) -> Any:
    """The keys of a recipe as YAML would have them: dicts with texts as keys, lists, and paths as texts.

    Raises RecipeError for a value that no YAML file can hold.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}.{number}") for number, item in enumerate(value)]
    if value is not None and not isinstance(value, str | int | float | Path):
        raise RecipeError(f"{where} is a {type(value).__name__}. A recipe holds texts, numbers, lists and dicts.")
    return str(value) if isinstance(value, Path) else value


def _is_file_name(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _anchor(plain: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the relative paths in a recipe's keys absolute: data.source, evaluate.forgetting.source, a base and a start that are folders.

    Anything that the schema will refuse stays unchanged.
    """
    anchored = dict(plain)
    data, evaluate = plain.get("data"), plain.get("evaluate")
    if isinstance(data, dict) and isinstance(source := data.get("source"), str | dict):
        named = source if isinstance(source, dict) else {"": source}
        places = {split: _absolute(place, folder) for split, place in named.items()}
        anchored["data"] = data | {"source": places if isinstance(source, dict) else places[""]}
    if isinstance(evaluate, dict) and isinstance(forgetting := evaluate.get("forgetting"), dict) and forgetting.get("source"):
        source = _absolute(forgetting["source"], folder)
        anchored["evaluate"] = evaluate | {"forgetting": forgetting | {"source": source}}
    for key in ("base", "start"):
        if isinstance(place := plain.get(key), str) and place.startswith(("./", "../")):
            anchored[key] = _absolute(place, folder)
    return anchored


def _absolute(source: Any, folder: Path) -> Any:
    """A relative path as an absolute one; an address, a package or anything else with a colon unchanged, if it is not a file."""
    if not isinstance(source, str) or not source.strip() or "\0" in source:
        return source
    if ":" in source and not (folder / source).exists():
        return source
    path = expand_home(source)
    return os.path.normpath(folder.absolute() / path)


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Collect the default of each key; required keys are left out."""
    plain: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Closed):
            plain[name] = _defaults(field.annotation)
        elif not field.is_required():
            plain[name] = to_jsonable_python(field.get_default(call_default_factory=True))
    return plain


def _build(plain: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(plain)
    except ValidationError as error:
        raise RecipeError("\n".join(f"{where}: {line}" for line in describe_schema_errors(Recipe, plain, error))) from None
