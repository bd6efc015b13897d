"""Import a PEFT adapter that was trained elsewhere into a registry, with a card that claims no more than is known.

A generation adapter (task type CAUSAL_LM on a causal base) is complete: `VerticalModel` loads and checks it like any other. Adapters
of other task types are stored and verified and load with PEFT, and their card says why `VerticalModel` does not load them: the head
of SEQ_CLS is transformers' own and reads other features than the heads here, and FEATURE_EXTRACTION has no head. Training can
continue from the latter (`vertical train RECIPE --from NAME`), which gives it a head.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.card import Card, SelfTest, SourceRecord, library_versions, read_card, write_card
from vertical_sdk.errors import (
    AdapterError,
    BaseMismatch,
    BaseModelError,
    CorruptAdapter,
    IdleAdapter,
    RegistryError,
    VerticalError,
)
from vertical_sdk.json_text import parse_json
from vertical_sdk.model_card import render_readme
from vertical_sdk.paths import read_regular, report_full_disk, write_whole
from vertical_sdk.peft_config import ADAPTER_CONFIG, parse_config
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.registry.references import check_new_name
from vertical_sdk.registry.registry import Registry
from vertical_sdk.registry.tree import LARGEST, LARGEST_WEIGHTS
from vertical_sdk.registry.version import Version
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Progress, TaskName, silent

if TYPE_CHECKING:
    from vertical_sdk.bases.base import Base

__all__ = ["Imported", "import_adapter"]

CONFIG, WEIGHTS, README = ADAPTER_CONFIG, "adapter_model.safetensors", "README.md"
LARGEST_JSON = 4 << 20
"""Bytes of the largest tokenizer_config.json that is read: with some thousand added tokens it has 1 MB."""
TAKEN = (
    CONFIG,
    WEIGHTS,
    README,
    "LICENSE",
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""The files of a folder that belong to an adapter. Checkpoints, optimizers and pickled arguments are not imported."""
LONGEST = 4096
"""Tokens of a prompt where the base sets no bound."""
SOURCE = "unknown"
"""The source in the card, so that a licence policy sees that data was used."""
PROMPTED = "{text}"


@dataclass(frozen=True)
class Imported:
    """A version that was imported.

    missing   what its card lacks, a sentence each
    left_out  files of the folder that do not belong to an adapter
    unread    why VerticalModel does not load it; None if it does
    """

    version: Version
    missing: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    unread: str | None = None


def import_adapter(  # noqa: PLR0913  (each option is one fact that the folder does not state)
    registry: Registry,
    folder: str | Path,
    name: str,
    *,
    base: str | None = None,
    task: TaskName | None = None,
    license: str | None = None,  # noqa: A002  (what a card calls it)
    system: str | None = None,
    prompt: str = PROMPTED,
    tags: Mapping[str, str] | None = None,
    reason: str = "",
    progress: Progress = silent,
) -> Imported:
    """Publish a folder that PEFT wrote as the next version of a name.

    folder          adapter_config.json and adapter_model.safetensors, and what else PEFT puts beside them
    base            a name in the base catalogue, a hub id or a folder; None: what adapter_config.json names
    task            its task, if the task type does not determine it
    license         SPDX name of the licence of the data, if it is known
    system, prompt  the system's turn and the user's turn of its prompt; {text} is replaced by the text

    Raises CorruptAdapter for damaged files or files that would run code, AdapterError for a kind of adapter that cannot be
    imported, BaseMismatch if its tensors or its chat template do not fit the base, IdleAdapter if it changes nothing;
    BaseModelError, OfflineError for the base; RegistryError for a bad name or link.
    """
    from vertical_sdk.bases.base import pull_base

    source = Path(folder)
    check_new_name(name)
    if PROMPTED not in prompt:
        raise AdapterError(f"the prompt {prompt!r} has no {PROMPTED}, so the text would not be in it.")
    config = _read_config(source)
    named = base or config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise AdapterError(f"{source / CONFIG}: names no base model. Say which one it needs: --base minilm-l6.")
    with tempfile.TemporaryDirectory(prefix="vertical-import-") as staging, _naming_source(Path(staging) / "adapter", source):
        staged = Path(staging) / "adapter"
        left_out = _stage(source, staged)
        config = parse_config((staged / CONFIG).read_bytes(), staged / CONFIG)  # the copy is what is published
        progress(f"loading {named}", None)
        pulled = pull_base(named, progress=progress)
        kind = str(config.get("task_type") or "")
        task = _task(kind, task, pulled, source)
        _same_template(staged, pulled, source)
        recipe = _recipe(name, task, pulled, license, system, prompt)
        unread = _unread(kind, task, pulled)
        facts = {
            "imported": True,
            "peft": {
                key: config.get(key) for key in ("task_type", "peft_version", "r", "lora_alpha", "base_model_name_or_path")
            },
        }
        card = Card(
            name=name,
            task=task,
            family=pulled.family,
            verb=get_task(task).verb,
            pipeline_tag=get_task(task).pipeline_tag(recipe.data.modality),
            base=pulled.fingerprint,
            recipe=recipe.to_dict(),
            recipe_digest=recipe.digest,
            sources=(SourceRecord(source=SOURCE, sha256="", license=license),),
            training={**facts, "unread": unread} if unread else facts,
            versions=library_versions(),  # of what made the probes; what trained it is not known
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        progress("running base and adapter", None)
        self_tests = _verify(staged, pulled, kind, card) if unread else _record_self_tests(staged, pulled, recipe, card, task)
        card = card.model_copy(update={"self_tests": self_tests})
        if not (staged / README).is_file():
            write_whole(staged / README, render_readme(card, pulled.hub_id))
        write_card(staged, card)
        told = reason or f"imported from {source.name or source}"
        version = registry.publish(staged, name, reason=told, tags=tags)
        missing = _missing(read_card(staged), config, named, base)
    return Imported(version, missing, left_out, unread)


@contextlib.contextmanager
def _naming_source(staged: Path, source: Path) -> Iterator[None]:
    """Name the folder that is imported in errors about the copy of it."""
    try:
        yield
    except VerticalError as error:
        own = str(staged)
        if own not in str(error):
            raise
        raise type(error)(error.message.replace(own, str(source)), where=str(error.where).replace(own, str(source))) from None


def _read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json of a folder that has what an adapter needs, and nothing in it that would run code or need more than LoRA."""
    if (folder / "vertical.json").is_file():
        raise RegistryError(f"{folder}: was made by vertical_sdk; publish it: vertical registry publish {folder}.")
    if not (folder / CONFIG).is_file():
        raise CorruptAdapter(f"{folder}: has no {CONFIG}. Import the folder that PEFT's save_pretrained wrote.")
    if not (folder / WEIGHTS).is_file():
        pickled = sorted(p.name for p in folder.glob("adapter_model.*") if p.suffix in {".bin", ".pt", ".pth"})
        what = (
            f"its weights are a pickle ({', '.join(pickled)}), which runs code when it is read"
            if pickled
            else f"has no {WEIGHTS}"
        )
        raise CorruptAdapter(
            f"{folder}: {what}. If you trust it, load it with PEFT and save it again: save_pretrained(..., safe_serialization=True)."
        )
    config = parse_config(CheckedFiles(folder).read(CONFIG), folder / CONFIG)
    for file in ("config.json", "tokenizer_config.json"):
        if (folder / file).is_file() and _json(folder / file).get("auto_map"):
            raise CorruptAdapter(
                f"{folder / file}: auto_map names code that comes with it, and such code is never run. Take it out."
            )
    return config


def _json(path: Path) -> dict[str, Any]:
    try:
        plain = parse_json(read_regular(path, largest=LARGEST_JSON))
    except (OSError, ValueError) as error:
        raise CorruptAdapter(f"{path}: cannot be read as JSON: {str(error)[:300]}.") from None
    if not isinstance(plain, dict):
        raise CorruptAdapter(f"{path}: is not a JSON object.")
    return plain


def _stage(folder: Path, staged: Path) -> tuple[str, ...]:
    """Copy what is an adapter; the names of what is not."""
    staged.mkdir()
    for file in TAKEN:
        if (folder / file).is_symlink():
            raise RegistryError(f"{folder}: {file} is a symbolic link. Copy the folder with what it points at: cp -rL.")
        if (folder / file).is_file():
            size, largest = (folder / file).stat().st_size, LARGEST_WEIGHTS if file == WEIGHTS else LARGEST
            if size > largest:
                raise RegistryError(f"{folder}: {file} has {size} bytes, and at most {largest} are imported.")
            with report_full_disk(staged):
                shutil.copyfile(folder / file, staged / file)
    return tuple(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if p.name not in TAKEN))


def _task(kind: str, asked: TaskName | None, base: Base, folder: Path) -> TaskName:
    """What the adapter is for, by PEFT's task type, the base and what the user says."""
    known: dict[str, tuple[TaskName, ...]] = {
        "CAUSAL_LM": ("generation",),
        "SEQ_CLS": ("classification", "multilabel", "ordinal", "regression"),
        "FEATURE_EXTRACTION": ("classification", "multilabel", "ordinal", "regression"),
        "": ("generation",) if base.family == "causal" else ("classification", "multilabel", "ordinal", "regression"),
    }
    where = f"{folder / CONFIG}: task_type {kind or 'None'}"
    if kind not in known:
        raise AdapterError(
            f"{where}: there is no such task here; adapters of {', '.join(filter(None, known))} can be taken in."
        )
    if kind == "CAUSAL_LM" and base.family != "causal":
        raise BaseMismatch(f"{where}: needs a base that writes, and {base.name} is of the family {base.family}.")
    if asked is not None and asked not in known[kind]:
        raise AdapterError(f"{where}: is for {' or '.join(known[kind])}, not for {asked}.")
    if asked is None and kind in {"", "FEATURE_EXTRACTION"} and len(known[kind]) > 1:
        raise AdapterError(f"{where}: does not say what it is for. Say it: --task {', '.join(known[kind])}.")
    return asked or known[kind][0]


def _same_template(staged: Path, base: Base, folder: Path) -> None:
    """Check that the chat template in the adapter's folder is the base's."""
    from vertical_sdk.bases.fingerprint import template_digest

    settings = _json(staged / "tokenizer_config.json") if (staged / "tokenizer_config.json").is_file() else {}
    own = template_digest(staged, settings)
    if own is not None and own != base.fingerprint.chat_template:
        raise BaseMismatch(
            f"{folder}: its chat template is not that of {base.name}, so its prompts would be written differently than in training. Put its "
            "template (and tokenizer) into a copy of the base's folder and import it with --base FOLDER."
        )


def _recipe(name: str, task: TaskName, base: Base, license_name: str | None, system: str | None, prompt: str) -> Recipe:
    """A recipe with what is known: the prompt, and that texts are not cleaned."""
    return Recipe.model_validate(
        {
            "name": name,
            "task": task,
            "summary": "An adapter that was made elsewhere, and imported.",
            "base": base.name,
            "data": {
                "source": SOURCE,
                "license": license_name,
                "clean": [],
                "decontaminate": None,
                "max_length": base.max_length or LONGEST,
                "modality": "image" if base.family == "vision" else "text",
            },
            "prompt": {"system": system, "user": prompt},
            "evaluate": {"baselines": ["base"], "gate": False},
        }
    )


def _unread(kind: str, task: TaskName, base: Base) -> str | None:
    """Why VerticalModel does not load it."""
    if get_task(task).written:
        return None
    library = "AutoModelForSequenceClassification" if kind == "SEQ_CLS" else "AutoModel"
    what = (
        "its head is transformers' own, on other features than those of the heads here"
        if kind == "SEQ_CLS"
        else "it has no head"
    )
    way = f"PeftModel.from_pretrained({library}.from_pretrained({base.name!r}), PATH)"
    more = "" if kind == "SEQ_CLS" or base.family == "causal" else "; or give it a head: vertical train RECIPE --from REFERENCE"
    return f"it was imported, and has no head that vertical_sdk reads: {what}. Load it with PEFT: {way}{more}."


def _record_self_tests(staged: Path, base: Base, recipe: Recipe, card: Card, task: TaskName) -> tuple[SelfTest, ...]:
    """Record the self-tests of a generation adapter, of which some tell adapter and base apart."""
    from vertical_sdk.adapters.self_test import record_self_tests
    from vertical_sdk.bases.base import load_tokenizer
    from vertical_sdk.families.chat import require_template
    from vertical_sdk.families.lora import attach
    from vertical_sdk.families.specialist import load_backbone, specialist_class

    if get_task(task).written:
        require_template(load_tokenizer(base), base.name)
    backbone = attach(load_backbone(base), staged)
    specialist: Any = specialist_class(card.family).load_trained(backbone, base, recipe, card, CheckedFiles(staged))
    specialist.to(next(backbone.parameters()).device).eval()
    self_tests = record_self_tests(specialist)
    if any(probe.base == probe.adapter for probe in self_tests):
        raise IdleAdapter(f"{staged}: changes nothing: {base.name} gives the same answers with it and without it.")
    return self_tests


def _verify(staged: Path, base: Base, kind: str, card: Card) -> tuple[SelfTest, ...]:
    """Check that an adapter without a readable head fits its base and changes the base's features; it gets no self-tests."""
    import torch

    from vertical_sdk.bases.base import load_tokenizer
    from vertical_sdk.families.lora import attach, read_weights
    from vertical_sdk.families.shared_base import use_base
    from vertical_sdk.families.specialist import load_backbone

    weights = read_weights(staged, base.parameters)
    model = _with_classifier(base, weights) if kind == "SEQ_CLS" else load_backbone(base)
    if kind != "SEQ_CLS" and base.family == "causal":
        model = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    model = attach(model, staged)
    if card.family == "vision":
        return ()
    rows = load_tokenizer(base)(["The first of two parts is complete."], return_tensors="pt")
    inputs = {key: rows[key].to(next(model.parameters()).device) for key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        changed = model(**inputs, output_hidden_states=True).hidden_states[-1]
        with use_base():
            plain = model(**inputs, output_hidden_states=True).hidden_states[-1]
    if torch.equal(changed, plain):
        raise IdleAdapter(f"{staged}: changes nothing: {base.name} makes the same of a text with it and without it.")
    return ()


def _with_classifier(base: Base, weights: Mapping[str, Any]) -> Any:
    """The base under transformers' classification head, with as many outputs as the adapter's own head has."""
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging as transformers_logging

    ends = ("classifier.weight", "score.weight", "out_proj.weight", "classifier.out_proj.weight")
    outputs = [v.shape[0] for k, v in weights.items() if k.endswith(ends) and "lora_" not in k and v.ndim == 2]
    if not outputs:
        raise CorruptAdapter(
            f"{WEIGHTS}: is for classification and holds no classifier, so its answers would be random. Save it whole."
        )
    loader: Any = AutoModelForSequenceClassification
    logging: Any = transformers_logging
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # about the new head, whose weights come from the adapter
    try:
        return loader.from_pretrained(
            base.path, num_labels=outputs[-1], local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(f"{base.name}: cannot carry a classification head: {error}") from None
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def _missing(card: Card, config: Mapping[str, Any], named: str, given: str | None) -> tuple[str, ...]:
    """What is not known of it, a sentence each."""
    source = card.sources[0]
    stated = config.get("base_model_name_or_path")
    lacks = [
        "data: which rows it was trained on, and their digests",
        None if source.license else "licence of its data (--license)",
        "recipe: settings, seed and code that it was trained with",
        "metrics: it was never measured on rows of ours (vertical evaluate --data)",
        "gate: nothing says that it is better than its base",
        None if get_task(card.task).written else "labels: their names and order",
        None if card.base.license else f"licence of its base {named}",
        None if config.get("revision") else "revision of its base: names and shapes of tensors fit, which revisions share",
        f"base: its configuration names {stated!r}, and you say {given!r}" if given and stated and stated != given else None,
        "system and user prompt of its training, if there were any (--prompt, --system)"
        if get_task(card.task).written and card.recipe["prompt"] == {"system": None, "user": PROMPTED}
        else None,
    ]
    return tuple(line for line in lacks if line)
