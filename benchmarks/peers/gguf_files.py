"""Write a base in Q8_0 and LoRA adapters as GGUF, for llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""A layer's name in transformers → in GGUF."""


def write_q8(source: Path, target: Path) -> None:
    """Copy a GGUF file with every matrix in Q8_0."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, _text(reader, "general.architecture"))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in {"general.architecture", "general.file_type"}:
            continue
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind, sub_type=field.types[-1] if len(field.types) > 1 else None)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    q8 = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim > 1:
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, q8), raw_dtype=q8)
        else:
            writer.add_tensor(tensor.name, values.astype(np.float32))
    _write(writer)


def write_adapter(source: Path, target: Path, heads: int, key_heads: int) -> None:
    """Write a LoRA adapter that PEFT saved as GGUF. The rows of queries and keys are in another order there."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
    for name, values in sorted(load_file(source / "adapter_model.safetensors").items()):
        layer, _, rest = name.removeprefix("base_model.model.model.layers.").partition(".")
        module, side = rest.removesuffix(".weight").rsplit(".lora_", 1)
        heads_of = {"self_attn.q_proj": heads, "self_attn.k_proj": key_heads}
        rows = _reorder(values, heads_of[module]) if side == "B" and module in heads_of else values
        key = f"blk.{layer}.{NAMES[module]}.weight.lora_{side.lower()}"
        writer.add_tensor(key, np.ascontiguousarray(rows, dtype=np.float32))
    _write(writer)


def _reorder(rows: Any, heads: int) -> Any:
    """Put the rows of each head in pairs: llama.cpp rotates neighbours, transformers rotates the halves of a head."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _text(reader: Any, key: str) -> str:
    return str(reader.fields[key].contents())


def _write(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
