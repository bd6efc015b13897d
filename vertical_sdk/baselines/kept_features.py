"""Features of a base that are kept in the cache folder, so that the next run on the same rows does not read them again.

Features tell what a text says. So only those of rows from packages and data sets are kept, which the cache folder has anyway; those
of a user's own files never are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from vertical_sdk.baselines.frozen_base import Features, content_of
from vertical_sdk.card import Fingerprint
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.errors import CorruptAdapter, RunError
from vertical_sdk.families.specialist import Specialist
from vertical_sdk.kernels.rates import processor_name
from vertical_sdk.paths import cache_home, write_whole
from vertical_sdk.sources import SCHEMES
from vertical_sdk.tensors import load_tensors

__all__ = ["describe_reading", "load_features", "save_features"]

FOLDER = "features"
MOST = 4
"""Files that are kept, the newest ones."""
LARGEST = 64 << 20
"""Bytes of a file; features that take more are not kept."""


def load_features(specialist: Specialist, fingerprint: Fingerprint, prepared: Prepared) -> Features:
    """Return the features of these rows that an earlier run kept; {} if there are none.

    fingerprint  of the specialist's base
    """
    return _read_file(*_find_file(specialist, fingerprint, prepared))


def _read_file(path: Path | None, contents: Sequence[tuple[object, ...]]) -> Features:
    if path is None:
        return {}
    try:
        kept = load_tensors(path.read_bytes(), path)
        return dict(zip([contents[place] for place in kept["places"].tolist()], kept["features"], strict=True))
    except (OSError, CorruptAdapter, KeyError, IndexError, ValueError):
        return {}


def save_features(specialist: Specialist, fingerprint: Fingerprint, prepared: Prepared, known: Features) -> None:
    """Keep the features of these rows, unless they are kept already or their source is the user's own.

    known  features of the base in float32, of these and other rows
    """
    from safetensors.torch import save

    path, contents = _find_file(specialist, fingerprint, prepared)
    places = [place for place, content in enumerate(contents) if content in known]
    if path is None or not places or len(_read_file(path, contents)) >= len(places):
        return
    features = torch.stack([known[contents[place]] for place in places])
    if features.nbytes > LARGEST:
        return
    with contextlib.suppress(OSError, RunError):  # a cache that cannot be written: the rows are read again next time
        write_whole(path, save({"features": features, "places": torch.tensor(places)}), mode=0o600)
        for old in sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)[:-MOST]:
            old.unlink(missing_ok=True)


def describe_reading(specialist: Specialist, fingerprint: Fingerprint) -> tuple[Any, ...]:
    """Describe everything but the texts that decides what a base computes, as plain data.

    fingerprint  of the specialist's base
    """
    tensors = list(specialist.backbone.parameters())
    reads = (
        type(specialist).__name__,
        getattr(specialist, "pooling", ""),
        specialist.max_length,
        repr(getattr(specialist, "windows", None)),
        sorted({str(tensor.dtype) for tensor in tensors}),
        tensors[0].device.type,
    )
    base = (fingerprint.architecture, fingerprint.weights, fingerprint.tokenizer, fingerprint.chat_template)
    return reads, base, (processor_name(), torch.__version__, transformers.__version__)


def _find_file(
    specialist: Specialist, fingerprint: Fingerprint, prepared: Prepared
) -> tuple[Path | None, list[tuple[object, ...]]]:
    """Name the file of these rows, and list what each of them contains, once; None for rows whose features may not be kept."""
    fetched = all(source.source.partition(":")[0] in SCHEMES for source in prepared.sources)
    if not fetched or specialist.reads != "text":
        return None, []
    contents = list(dict.fromkeys(map(content_of, (*prepared.originals, *prepared.validation, *prepared.test))))
    prompt = repr(getattr(specialist, "prompt", None))  # causal bases read a text in it
    digest = hashlib.sha256(json.dumps([describe_reading(specialist, fingerprint), prompt]).encode())
    for content in contents:
        digest.update(repr(content).encode("utf-8", "surrogatepass"))
    return cache_home() / FOLDER / f"{digest.hexdigest()}.safetensors", contents
