"""Fingerprints of base models: digests of weights, tokenizer and chat template, without loading any of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.bases.config import family_of
from vertical_sdk.bases.images import FILES as PICTURES
from vertical_sdk.bases.images import read_picture_settings
from vertical_sdk.bases.weights import Tensor, read_json, read_tensors, weight_files, weights_digest
from vertical_sdk.card import Fingerprint
from vertical_sdk.errors import BaseModelError, DigestMismatch, RunError
from vertical_sdk.json_text import parse_json
from vertical_sdk.paths import cache_home, file_digest, stamp_file, write_whole

__all__ = ["fingerprint", "template_digest"]

VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "bpe.codes",
)
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SETTINGS = ("add_bos_token", "add_eos_token", "do_lower_case")
EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight", "tok_embeddings.weight", "embed_in.weight")
OTHERS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    *VOCABULARIES,
    *PICTURES,
)


def fingerprint(folder: Path, name: str, *, revision: str | None = None, license_name: str | None = None) -> Fingerprint:
    """Compute the fingerprint of a model folder. A copy of the folder has the same fingerprint.

    The digests are cached, and used as long as size, times and inode of every file are unchanged.

    Raises BaseModelError for a file that is missing, cut or not safetensors; DigestMismatch if the folder is a commit of the hub and
    its bytes have changed, as those of a commit never do.
    """
    folder = folder.resolve()
    stamps = _list_stamps(folder)
    cache = cache_home() / "fingerprints" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}.json"
    kept = _read_known_digests(cache)
    known = kept["digests"] if kept is not None and kept["stamps"] == stamps else None
    if known is None:
        known = _compute_digests(folder)
        if kept is not None and revision == folder.name and kept["digests"] != known and kept["stamps"].keys() == stamps.keys():
            changed = [part for part in known if known[part] != kept["digests"].get(part)]
            raise DigestMismatch(
                f"its {' and '.join(changed)} changed since it was first read, and a commit of the hub never changes. Delete the "
                f"folder: it is downloaded again when it is needed.",
                where=folder,
            )
        if _list_stamps(folder) == stamps:
            with contextlib.suppress(RunError, OSError):  # a cache that cannot be written costs time only
                write_whole(cache, json.dumps({"folder": str(folder), "stamps": stamps, "digests": known}) + "\n")
    return Fingerprint(name=name, revision=revision, license=license_name, **known)


def _list_stamps(folder: Path) -> dict[str, list[int]]:
    files = [*weight_files(folder), *(folder / name for name in OTHERS)]
    return {file.name: list(stamp_file(file.resolve())) for file in files if file.is_file()}


def _read_known_digests(cache: Path) -> dict[str, Any] | None:
    """Read the stamps and digests that were found before."""
    try:
        entry: dict[str, Any] = parse_json(cache.read_bytes())
        Fingerprint(name="", **entry["digests"])
        return {"stamps": dict(entry["stamps"]), "digests": entry["digests"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _compute_digests(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    tensors = read_tensors(folder)
    architecture = str((config.get("architectures") or [config.get("architecture") or "unknown"])[0])
    if family_of(config, folder) == "vision":
        return {
            "architecture": architecture,
            "weights": weights_digest(tensors),
            "tokenizer": hashlib.sha256(read_picture_settings(folder).text().encode()).hexdigest(),
            "vocab_size": 0,
            "chat_template": None,
        }
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    return {
        "architecture": architecture,
        "weights": weights_digest(tensors),
        "tokenizer": _tokenizer_digest(folder, settings),
        "vocab_size": _read_vocab_size(folder, tensors, config),
        "chat_template": template_digest(folder, settings),
    }


def _tokenizer_digest(folder: Path, settings: Mapping[str, Any]) -> str:
    """Hash what decides how text becomes tokens, but not the notation of a version of the library."""
    if (folder / "tokenizer.json").is_file():
        table = read_json(folder / "tokenizer.json")
        plain = {k: v for k, v in table.items() if k not in {"version", "truncation", "padding"}}
        model = plain.get("model")
        if isinstance(model, dict) and isinstance(model.get("merges"), list):
            pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
            plain["model"] = {**model, "merges": pairs}
        files: dict[str, Any] = {"tokenizer.json": _drop_nulls(plain)}
    else:
        files = {name: file_digest(folder / name) for name in VOCABULARIES if (folder / name).is_file()}
        if not files:
            raise BaseModelError(
                "has no tokenizer.json and no vocabulary. Save the tokenizer of the model in it.", where=folder
            )
    extra = folder / "special_tokens_map.json"
    stated = {**(read_json(extra) if extra.is_file() else {}), **settings}
    tokens = {
        key: stated[key].get("content") if isinstance(stated[key], dict) else stated[key] for key in SPECIAL if stated.get(key)
    }
    whole = {
        "files": files,
        "special": tokens,
        "settings": {key: settings[key] for key in SETTINGS if settings.get(key) is not None},
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _drop_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _drop_nulls(v) for k, v in value.items() if v is not None}
    return value


def template_digest(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Hash the text of the template. A template in its own file wins over tokenizer_config.json, as in transformers."""
    own = folder / "chat_template.jinja"
    template = own.read_text(encoding="utf-8", errors="replace") if own.is_file() else settings.get("chat_template")
    if not template:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _read_vocab_size(folder: Path, tensors: list[Tensor], config: Mapping[str, Any]) -> int:
    for end in EMBEDDINGS:
        for tensor in tensors:
            if tensor.name.endswith(end) and len(tensor.shape) == 2:
                return tensor.shape[0]
    stated = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    if not isinstance(stated, int):
        raise BaseModelError("has no vocab_size, and no tensor is the input embedding.", where=folder / "config.json")
    return stated
