from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from conftest import up_weights

from vertical_sdk import VerticalModel
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.families.plain_decoder import read_decoder
from vertical_sdk.families.shared_base import use_base

PROMPTS = ["cough", "red itch on skin", "pulse fast and slow", "fever", "the lung"]


@pytest.fixture
def model(writers: VerticalModel) -> VerticalModel:
    return writers


def write(model: VerticalModel, prompts: list[str], **settings: Any) -> list[str]:
    """The texts that `generate` writes."""
    return [answer.text for answer in model.generate(prompts, **settings)]


def write_plainly(model: VerticalModel, prompt: str, name: str, tokens: int) -> str:
    """The likeliest answer by transformers, read again from the start for each token."""
    specialist: Any = model.specialist(name)
    turns = [{"role": "user", "content": prompt}]
    ids = specialist.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    start = len(ids)
    with torch.inference_mode():
        while len(ids) < start + tokens and ids[-1] != specialist.tokenizer.eos_token_id:
            logits = specialist.backbone(input_ids=torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
    return str(specialist.tokenizer.decode(ids[start:], skip_special_tokens=True)).strip()


def test_a_batch_mixes_specialists(model: VerticalModel) -> None:
    names = ["wide", "short", "dora", "short", "wide"]

    texts = write(model, PROMPTS, adapters=names, max_new_tokens=12)

    assert texts == [write_plainly(model, prompt, name, 12) for prompt, name in zip(PROMPTS, names, strict=True)]
    assert texts == [
        write(model, [prompt], adapters=name, max_new_tokens=12)[0] for prompt, name in zip(PROMPTS, names, strict=True)
    ]
    assert len(set(write(model, ["cough"] * 3, adapters=["wide", "short", "dora"], max_new_tokens=12))) == 3


@pytest.mark.parametrize("name", ["short", "dora"])
def test_both_ways_of_writing_take_the_same_settings(model: VerticalModel, name: str) -> None:
    """Of the two specialists, one is computed by the SDK's decoder, the other by transformers."""
    plain = write(model, PROMPTS, adapters=name, max_new_tokens=20)
    pieces = [""] * len(PROMPTS)

    def collect(row: int, piece: str) -> None:
        pieces[row] += piece

    stop = plain[0][2:4]
    stopped = write(model, PROMPTS, adapters=name, max_new_tokens=20, stop=stop, stream=collect)
    assert stopped == pieces == [text.split(stop)[0].strip() for text in plain]
    drawn = [write(model, PROMPTS, adapters=name, temperature=1.0, top_p=0.9, seed=seed, batch_size=2) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][1:2] == write(model, PROMPTS[1:2], adapters=name, temperature=1.0, top_p=0.9, seed=1)
    assert drawn[0] != write(model, PROMPTS, adapters=name)
    choices = ["heart", "heat", "lung", "skin"]
    assert set(write(model, PROMPTS, adapters=name, choices=choices, max_new_tokens=1)) <= set(choices)
    many = write(model, ["cough"] * 30, adapters=name, choices=choices, temperature=3.0)
    assert set(many) == {many[0]} or set(many) <= set(choices)
    assert write(model, ["cough"], adapters=name, temperature=9.0, top_k=1) == write(model, ["cough"], adapters=name)


def test_the_base_without_an_adapter_writes_within_its_context(model: VerticalModel) -> None:
    with use_base():
        general = write(model, PROMPTS, adapters="short", max_new_tokens=8)
        assert general == [write_plainly(model, prompt, "short", 8) for prompt in PROMPTS]
    assert general != write(model, PROMPTS, adapters="short", max_new_tokens=8)


def test_an_adapter_that_is_changed_in_memory_is_read_again(model: VerticalModel) -> None:
    write(model, ["cough"], adapters="wide", max_new_tokens=8)
    backbone: Any = model.specialist("wide").backbone
    weights = up_weights(backbone)
    before = [weight.clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight in weights:
                weight.mul_(-3)
        changed = write(model, PROMPTS, adapters="wide", max_new_tokens=8)
        assert changed == [write_plainly(model, prompt, "wide", 8) for prompt in PROMPTS]
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)


@pytest.mark.parametrize("name", ["short", "dora"])
def test_an_output_that_is_not_a_number_is_an_error(model: VerticalModel, name: str) -> None:
    backbone: Any = model.specialist(name).backbone
    weight = up_weights(backbone)[-1]  # not of a query: PyTorch's attention with AVX-512 makes numbers of a query that is NaN
    before = weight.clone()
    try:
        with torch.no_grad():
            weight.fill_(torch.nan)
        with pytest.raises(AdapterError, match="not a number"):
            write(model, PROMPTS, adapters=[name, "wide", "wide", name, "wide"], max_new_tokens=4)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert write(model, PROMPTS, adapters=name, max_new_tokens=4) == [
        write_plainly(model, prompt, name, 4) for prompt in PROMPTS
    ]


def test_a_stream_that_fails_ends_the_call_and_no_other(model: VerticalModel) -> None:
    expected = write(model, PROMPTS, adapters="short", max_new_tokens=8)

    def fail(row: int, piece: str) -> None:
        raise KeyError(row)

    with pytest.raises(KeyError):
        write(model, PROMPTS, adapters="short", max_new_tokens=8, stream=fail)
    assert write(model, PROMPTS, adapters="short", max_new_tokens=8) == expected


def test_names_and_settings_are_checked(model: VerticalModel) -> None:
    with pytest.raises(DataError, match="5 prompts but 2 adapters"):
        write(model, PROMPTS, adapters=["short", "wide"])
    with pytest.raises(AdapterError, match="no adapter is called 'long'"):
        write(model, PROMPTS, adapters="long")
    with pytest.raises(DataError, match="temperature = -1"):
        write(model, PROMPTS, temperature=-1)
    with pytest.raises(DataError, match="prompt 4 is 7"):
        write(model, [*PROMPTS[:4], 7], adapters=["short", "wide"] * 2 + ["wide"])
    assert write(model, []) == []


@pytest.mark.network
def test_six_adapters_on_a_real_base_write_the_tokens_of_peft() -> None:
    from vertical_sdk.bases.base import load_tokenizer, pull_base
    from vertical_sdk.engines.scheduler import Request, Scheduler
    from vertical_sdk.families.continuation import Continuation, Decoding
    from vertical_sdk.families.lora import hide_peft_notice
    from vertical_sdk.families.plain_decoder import read_low_rank
    from vertical_sdk.families.specialist import load_backbone

    base = pull_base("smollm2-135m")
    tokenizer, backbone = load_tokenizer(base), load_backbone(base)
    with torch.inference_mode():
        decoder = read_decoder(backbone)
    assert decoder is not None
    torch.manual_seed(0)
    names = [f"a{number}" for number in range(6)]
    with hide_peft_notice():
        configs = [peft.LoraConfig(task_type="CAUSAL_LM", r=2 + 3 * n, target_modules="all-linear") for n in range(6)]
        adapted: Any = peft.get_peft_model(backbone, configs[0], adapter_name=names[0])
        for name, config in zip(names[1:], configs[1:], strict=True):
            adapted.add_adapter(name, config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    adapted.eval()
    prompts = [tuple(tokenizer(f"Case {n}: a patient of {20 + n} years has").input_ids) for n in range(6)]
    scheduler, requests = Scheduler(decoder), []
    for name, prompt in zip(names, prompts, strict=True):
        adapted.set_adapter(name)
        answer = Continuation(tokenizer, -1, Decoding(max_new_tokens=24))
        requests.append(scheduler.submit(Request(prompt, read_low_rank(adapted.get_base_model()), answer)))

    while not all(request.done for request in requests):
        scheduler.step()

    for name, prompt, request in zip(names, prompts, requests, strict=True):
        adapted.set_adapter(name)
        with torch.inference_mode():
            out = adapted.generate(
                input_ids=torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=2
            )
        assert request.answer.tokens == out[0, len(prompt) :].tolist()
