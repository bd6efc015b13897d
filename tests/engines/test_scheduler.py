from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from engines.conftest import adapters_of, add_adapter, build_network, prompts_of, write_plainly

from vertical_sdk.engines.prefixes import Prefixes
from vertical_sdk.engines.scheduler import Request, Scheduler
from vertical_sdk.errors import AdapterError
from vertical_sdk.families.continuation import Continuation, Decoding
from vertical_sdk.families.plain_decoder import read_decoder, read_low_rank
from vertical_sdk.kernels.decoder import Segment
from vertical_sdk.kernels.low_rank import LowRank
from vertical_sdk.kernels.packing import common_length


class Letters:
    """A tokenizer with one letter for each token."""

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(chr(40 + token) for token in tokens)


def create_scheduler(model: Any, **settings: Any) -> Scheduler:
    with torch.inference_mode():
        decoder = read_decoder(model)
    assert decoder is not None
    return Scheduler(decoder, **settings)


def read_adapter(model: Any) -> LowRank:
    adapter = read_low_rank(model.get_base_model())
    assert adapter is not None
    return adapter


def ask(prompt: tuple[int, ...], adapter: LowRank | None, **decoding: Any) -> Request:
    return Request(prompt, adapter, Continuation(Letters(), -1, Decoding(**decoding), prompt=prompt))


def run(scheduler: Scheduler, requests: list[Request]) -> list[list[int]]:
    for request in requests:
        scheduler.submit(request)
    while not all(request.done for request in requests):
        scheduler.step()
    return [request.answer.tokens for request in requests]


def test_a_mixed_batch_writes_the_tokens_of_transformers(network: Any) -> None:
    models = [*adapters_of(network), network]
    adapters = [read_adapter(model) for model in models[:-1]] + [None]
    prompts = prompts_of(12)
    order = [n * 7 % 5 for n in range(12)]  # some adapters several times, none in order

    written = run(
        create_scheduler(network),
        [ask(prompt, adapters[n], max_new_tokens=20) for prompt, n in zip(prompts, order, strict=True)],
    )

    assert written == [write_plainly(models[n], prompt, 20) for prompt, n in zip(prompts, order, strict=True)]
    alone = [write_plainly(network, prompt, 20) for prompt in prompts]
    assert all(tokens != base for tokens, base, n in zip(written, alone, order, strict=True) if n < 4)


def test_requests_that_join_and_leave_change_no_answer(llama: Any) -> None:
    models = adapters_of(llama)
    adapters = [read_adapter(model) for model in models]
    prompts = prompts_of(15, seed=2)
    limits = [1 + n * 5 % 17 for n in range(15)]
    scheduler = create_scheduler(llama, slots=3)
    requests = [ask(prompts[n], adapters[n % 4], max_new_tokens=limits[n]) for n in range(15)]

    for request in requests:
        scheduler.submit(request)
        scheduler.step()
    while not all(request.done for request in requests):
        scheduler.step()

    assert [request.answer.tokens for request in requests] == [
        write_plainly(models[n % 4], prompts[n], limits[n]) for n in range(15)
    ]


def test_a_row_does_not_depend_on_its_neighbours(llama: Any) -> None:
    mine = read_adapter(add_adapter(llama, 1))
    other, changed = read_adapter(add_adapter(llama, 2)), read_adapter(add_adapter(llama, 2, r=16, lora_alpha=400))
    prompt, *rest = prompts_of(6, seed=3)
    scores = []
    for neighbour in (other, changed):
        with torch.inference_mode():
            decoder = read_decoder(llama)
            assert decoder is not None
            cache, stack = decoder.create_cache(), decoder.create_stack()
            owners = [neighbour, mine, neighbour, neighbour, mine, neighbour]
            stack.keep(owners)
            cache.reserve(6, 32)
            rows = [rest[0], prompt, *rest[1:]]
            decoder.read([Segment(cache.open(), row, owner) for row, owner in zip(rows, owners, strict=True)], cache, stack)
            scores.append(decoder.step([5, 6, 7, 8, 9, 10], owners, cache, stack))

    torch.testing.assert_close(scores[0][1], scores[1][1], rtol=1e-5, atol=1e-5)
    assert (scores[0][0] - scores[1][0]).abs().max() > 1e-2


def test_a_common_beginning_is_computed_once_and_changes_no_answer(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models = adapters_of(llama)[:2]
    adapters = [read_adapter(model) for model in models]
    prompts = prompts_of(8, seed=4, common=40)
    scheduler = create_scheduler(llama)
    decoder, read = scheduler._decoder, []
    plain = decoder.read
    monkeypatch.setattr(
        decoder, "read", lambda segments, *more: read.append([len(s.tokens) for s in segments]) or plain(segments, *more)
    )

    written = run(scheduler, [ask(prompt, adapters[n % 2], max_new_tokens=9) for n, prompt in enumerate(prompts)])
    again = run(scheduler, [ask(prompts[0], adapters[0], max_new_tokens=9)])

    assert written == [write_plainly(models[n % 2], prompt, 9) for n, prompt in enumerate(prompts)]
    assert again == written[:1]
    assert read[0] == [40, 40]
    assert max(read[1] + read[2]) < 12


def test_beginnings_are_kept_by_adapter_within_their_room() -> None:
    one, other = LowRank({}), LowRank({})
    prefixes = Prefixes(room=3 * 4 * 2 * 20)
    tokens = tuple(range(20))
    values = torch.zeros(1, 2, 1, 20, 1)

    assert prefixes.plan(one, [tokens]) == ()
    assert prefixes.plan(one, [(*tokens[:18], 99)]) == tokens[:18]
    prefixes.keep(one, tokens, values)
    assert prefixes.find(other, (*tokens, 1)) is None
    assert prefixes.find(one, (*tokens[:17], 5, 5)).shape[3] == 17  # type: ignore[union-attr]
    assert prefixes.find(one, (*tokens[:9], 5, 5)) is None
    assert prefixes.find(one, tokens).shape[3] == 19  # type: ignore[union-attr]
    for number in range(3):
        prefixes.keep(other, (number, *tokens[1:]), values)
    assert prefixes.find(one, tokens) is None
    assert prefixes.find(other, tokens) is not None


def test_an_answer_that_is_not_a_number_is_an_error_of_its_request_alone(llama: Any) -> None:
    good, bad = add_adapter(llama, 1), add_adapter(llama, 2)
    next(weight for name, weight in bad.named_parameters() if "lora_B" in name).fill_(torch.nan)
    prompts = prompts_of(3, seed=5)
    scheduler = create_scheduler(llama)
    requests = [
        ask(prompt, read_adapter(model), max_new_tokens=8) for prompt, model in zip(prompts, (good, bad, good), strict=True)
    ]

    written = run(scheduler, requests)

    assert isinstance(requests[1].error, AdapterError)
    assert [written[0], written[2]] == [write_plainly(good, prompts[n], 8) for n in (0, 2)]
    long = tuple(range(2, 60))
    assert (
        run(scheduler, [ask(long, read_adapter(good), max_new_tokens=30) for _ in range(3)])
        == [write_plainly(good, long, 30)] * 3
    )


def test_drawn_tokens_depend_on_the_seed_and_not_on_the_batch(llama: Any) -> None:
    adapters = [read_adapter(model) for model in adapters_of(llama)]
    prompts = prompts_of(6, seed=6)
    scheduler = create_scheduler(llama)

    def requests(seed: int) -> list[Request]:
        return [
            ask(p, adapters[n % 4], max_new_tokens=12, temperature=1.5, top_p=0.9, seed=seed) for n, p in enumerate(prompts)
        ]

    together = run(scheduler, requests(3))

    assert [run(scheduler, [request])[0] for request in requests(3)] == together
    assert run(scheduler, list(reversed(requests(3))))[::-1] == together
    assert run(scheduler, requests(4)) != together


def test_threads_share_batches_and_get_what_they_would_alone(llama: Any) -> None:
    models = adapters_of(llama)
    adapters = [read_adapter(model) for model in models]
    prompts = prompts_of(24, seed=7)
    scheduler = create_scheduler(llama, slots=8)
    start = threading.Barrier(6)

    def work(share: int) -> list[list[int]]:
        start.wait()
        return run(scheduler, [ask(prompts[n], adapters[n % 4], max_new_tokens=10) for n in range(share, 24, 6)])

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(work, range(6)))

    assert results == [[write_plainly(models[n % 4], prompts[n], 10) for n in range(share, 24, 6)] for share in range(6)]


def test_cancelled_requests_leave_and_others_go_on(llama: Any) -> None:
    adapter = read_adapter(model := add_adapter(llama, 1))
    prompts = prompts_of(3, seed=8)
    scheduler = create_scheduler(llama)
    requests = [scheduler.submit(ask(prompt, adapter, max_new_tokens=10)) for prompt in prompts]
    scheduler.step()

    scheduler.cancel(requests[:1])
    while not all(request.done for request in requests):
        scheduler.step()

    assert len(requests[0].answer.tokens) < 10
    assert [r.answer.tokens for r in requests[1:]] == [write_plainly(model, prompt, 10) for prompt in prompts[1:]]


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"bias": "lora_only"},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
)
def test_adapters_that_are_more_than_lora_are_left_to_transformers(llama: Any, settings: dict[str, Any]) -> None:
    assert read_low_rank(add_adapter(llama, 1, **settings).get_base_model()) is None


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Mistral", {"sliding_window": 8}),
        ("Llama", {"hidden_act": "gelu"}),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}),
    ],
)
def test_networks_of_another_kind_are_left_to_transformers(kind: str, settings: dict[str, Any]) -> None:
    with torch.inference_mode():
        assert read_decoder(build_network(kind, **settings)) is None


@pytest.mark.parametrize("penalty", [0.7, 1.4])
def test_a_repetition_penalty_writes_the_tokens_of_transformers(network: Any, penalty: float) -> None:
    models, prompts = adapters_of(network), prompts_of(8)
    penalized = [n % 2 == 0 for n in range(8)]  # the others of the batch have no penalty
    requests = [
        ask(prompt, read_adapter(models[n % 4]), max_new_tokens=16, **({"repetition_penalty": penalty} if penalized[n] else {}))
        for n, prompt in enumerate(prompts)
    ]

    written = run(create_scheduler(network), requests)

    for n, prompt in enumerate(prompts):
        with torch.inference_mode():
            out = models[n % 4].generate(
                input_ids=torch.tensor([prompt]), max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=0,
                repetition_penalty=penalty if penalized[n] else 1.0,
            )  # fmt: skip
        assert written[n] == out[0, len(prompt) :].tolist()
    assert written[0] != write_plainly(models[0], prompts[0], 16)


def test_a_base_that_forbids_repetition_is_left_to_transformers() -> None:
    model = build_network("Llama")
    model.generation_config.no_repeat_ngram_size = 3

    with torch.inference_mode():
        assert read_decoder(model) is None


def test_common_length_counts_equal_tokens() -> None:
    assert common_length((1, 2, 3), (1, 2, 4, 5)) == 2
    assert common_length((), (1,)) == 0
