"""A service of specialists without HTTP: every answer equals that of the specialist alone, whatever else happens."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import topic_rows
from serving.conftest import LETTERS, NOTES, RISK, TAGS, TOPICS, Published, start

from vertical_sdk.errors import DataError, IdleAdapter
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.registry import Registry
from vertical_sdk.serving import Serving, ServingSettings
from vertical_sdk.serving.batching import Batcher, Job
from vertical_sdk.serving.engines import name_base
from vertical_sdk.serving.problems import Busy, Closed, RevokedModel, TooSlow, UnknownModel, WrongModel
from vertical_sdk.types import Message, Prediction

TEXTS = [text for text, _ in topic_rows(9, seed=5)]
RECORDS = [{"debt": 3, "ward": "heart"}, {"debt": 6, "ward": "lung"}, {"debt": None, "ward": "heart"}]


def assert_same(answers: list[Prediction], alone: list[Prediction]) -> None:
    assert [answer.label for answer in answers] == [answer.label for answer in alone]
    for answer, expected in zip(answers, alone, strict=True):
        assert dict(answer.probabilities) == pytest.approx(dict(expected.probabilities), abs=1e-5)
        assert (answer.truncated, answer.unknown, answer.control) == (expected.truncated, expected.unknown, expected.control)


def ask(serving: Serving, model: str, inputs: list[Any]) -> list[Prediction]:
    with serving.using(model) as answerer:
        return serving.predict(answerer.served, inputs).result(30)


@pytest.mark.parametrize(
    ("reference", "inputs"), [(f"{TOPICS}@1", TEXTS), (f"{TOPICS}@2", TEXTS), (RISK, RECORDS), (TAGS, TEXTS)]
)
def test_a_service_predicts_what_the_specialist_alone_predicts(
    serving: Serving, published: Published, reference: str, inputs: list[Any]
) -> None:
    assert_same(ask(serving, reference, inputs), published.model(reference).predict(inputs))


def test_requests_that_arrive_together_are_answered_in_one_batch_and_never_swapped(published: Published) -> None:
    sizes: list[int] = []
    serving = Serving(published.registry, ServingSettings(poll=600), bases=published.bases, observe_batch=sizes.append)
    serving.start([f"{TOPICS}@1", f"{TOPICS}@2", RISK])
    alone = {name: published.model(name).predict(TEXTS) for name in (f"{TOPICS}@1", f"{TOPICS}@2")}
    hold, held = threading.Event(), threading.Event()
    with serving.using(RISK) as answerer:
        served = answerer.served

    def block(jobs: Any) -> list[None]:
        held.set()
        hold.wait(30)
        return [None] * len(jobs)

    serving._find_batcher(served.engine).submit(Job(served, block, None, 0, time.monotonic() + 60))
    held.wait(30)
    futures = []
    for number in range(30):
        name, text = f"{TOPICS}@{number % 2 + 1}", number % len(TEXTS)
        with serving.using(name) as answerer:
            futures.append((name, text, serving.predict(answerer.served, [TEXTS[text]])))
    hold.set()

    for name, text, future in futures:
        assert_same(future.result(30), [alone[name][text]])
    serving.close()
    assert sizes == [0, 30]


def test_one_wrong_row_spoils_no_other_request_of_its_batch() -> None:
    def compute(jobs: Any) -> list[Any]:
        if any(job.inputs == "wrong" for job in jobs):
            raise DataError("wrong")
        return [job.inputs for job in jobs]

    batcher = Batcher(waiting=10, rows=10)
    jobs = [Job(_no_one(), compute, inputs, 1, time.monotonic() + 60) for inputs in ("a", "wrong", "b")]
    for job in jobs:
        batcher.submit(job)

    assert (jobs[0].future.result(10), jobs[2].future.result(10)) == ("a", "b")
    with pytest.raises(DataError, match="wrong"):
        jobs[1].future.result(10)
    batcher.close(10)


def test_a_full_queue_refuses_and_a_late_or_cancelled_job_is_not_computed() -> None:
    computed: list[Any] = []
    hold, held = threading.Event(), threading.Event()

    def compute(jobs: Any) -> list[Any]:
        computed.extend(job.inputs for job in jobs)
        held.set()
        hold.wait(10)
        return [None] * len(jobs)

    def job(inputs: str, seconds: float = 60) -> Job:
        return Job(_no_one(), compute, inputs, 1, time.monotonic() + seconds)

    batcher = Batcher(waiting=3, rows=1)
    first, late, cancelled, last = job("first"), job("late", 0), job("cancelled"), job("last")
    batcher.submit(first)
    held.wait(10)
    for each in (late, cancelled, last):
        batcher.submit(each)
    with pytest.raises(Busy, match="3 requests are waiting already"):
        batcher.submit(job("too many"))
    cancelled.future.cancel()
    hold.set()
    batcher.close(10)

    assert computed == ["first", "last"]
    with pytest.raises(TooSlow):
        late.future.result(0)
    assert [each.served.in_use for each in (first, late, cancelled, last)] == [False] * 4
    with pytest.raises(Closed):
        batcher.submit(job("after the end"))


def test_an_alias_that_moves_gives_new_requests_the_new_version_and_loses_none(own: Published) -> None:
    serving = start(own, f"{TOPICS}@production")
    alone = {n: own.model(f"{TOPICS}@{n}").predict(TEXTS) for n in (1, 2)}
    answers: list[tuple[int, int, Future[Any]]] = []
    end = threading.Event()

    def keep_asking() -> None:
        number = 0
        while not end.is_set():
            with serving.using(f"{TOPICS}@production") as answerer:
                future = serving.predict(answerer.served, [TEXTS[number % 9]])
                answers.append((answerer.served.version.number, number % 9, future))
            future.result(30)
            number += 1

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in (2, 1, 2):
        own.registry.set_alias(TOPICS, "production", version, force=True, why="test")
        serving.specialists.refresh()
        time.sleep(0.1)
    end.set()
    for thread in threads:
        thread.join(30)

    assert {version for version, _, _ in answers} == {1, 2}
    assert answers[-1][0] == 2
    for version, text, future in answers:
        assert_same(future.result(0), [alone[version][text]])
    serving.specialists.refresh()
    assert len(serving._engines._adapters) == 1  # the version before was unloaded
    serving.close()


def test_a_revoked_version_stops_and_its_alias_may_move_on(own: Published) -> None:
    serving = start(own, f"{TOPICS}@production", f"{TOPICS}@1")
    with serving.using(f"{TOPICS}@1") as answerer:
        own.registry.revoke(f"{TOPICS}@1", "leaks names")
        serving.specialists.refresh()
        waiting = serving.predict(answerer.served, TEXTS)  # began before it was known
        with pytest.raises(RevokedModel, match="leaks names"):
            waiting.result(30)

    for model in (f"{TOPICS}@1", f"{TOPICS}@production"):
        with pytest.raises(RevokedModel, match="leaks names"), serving.using(model):
            pass
    own.registry.set_alias(TOPICS, "production", 2, force=True, why="test")
    serving.specialists.refresh()
    assert_same(ask(serving, f"{TOPICS}@production", TEXTS), own.model(f"{TOPICS}@2").predict(TEXTS))
    serving.close()


def test_a_new_version_that_fails_its_self_tests_never_answers(own: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = start(own, f"{TOPICS}@production")
    own.registry.set_alias(TOPICS, "production", 2, force=True, why="test")

    def fail(*_: Any, **__: Any) -> None:
        raise IdleAdapter("its outputs are others")

    monkeypatch.setattr("vertical_sdk.adapters.load.replay_adapter", fail)
    serving.specialists.refresh()
    (entry,) = serving.specialists.entries
    assert "its outputs are others" in entry.problem
    assert_same(ask(serving, f"{TOPICS}@production", TEXTS), _of_one(own))
    with pytest.raises(IdleAdapter):
        start(own, f"{TOPICS}@2")
    monkeypatch.undo()
    serving.specialists.refresh()
    assert (entry.problem, entry.served.version.number) == ("", 2)
    serving.close()


def _of_one(own: Published) -> list[Prediction]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vertical_sdk.adapters.load.replay_adapter", lambda *_, **__: None)
        return own.model(f"{TOPICS}@1").predict(TEXTS)


def test_a_registry_that_cannot_be_read_leaves_everything_as_it_is(own: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = start(own, f"{TOPICS}@production")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Registry, "resolve", fail)
    serving.specialists.refresh()
    assert "the disk is gone" in serving.specialists.entries[0].problem
    assert len(ask(serving, f"{TOPICS}@production", TEXTS)) == len(TEXTS)
    serving.close()


def test_adapters_that_do_not_fit_together_make_room_for_each_other(published: Published) -> None:
    sizes = [
        sum(
            file.size for path, file in published.registry.resolve(f"{TOPICS}@{n}").manifest.items() if path.endswith("tensors")
        )
        for n in (1, 2)
    ]
    serving = start(published, f"{TOPICS}@1", f"{TOPICS}@2", memory=max(sizes))
    alone = {n: published.model(f"{TOPICS}@{n}").predict(TEXTS[:2]) for n in (1, 2)}
    for version in (1, 2, 1, 2):
        assert_same(ask(serving, f"{TOPICS}@{version}", TEXTS[:2]), alone[version])
        assert len(serving.specialists.find(f"{TOPICS}@1").engine.adapters) == 1
    serving.close()


def test_a_model_is_known_by_its_reference_number_or_digest_only(serving: Serving, published: Published) -> None:
    digest = published.registry.resolve(f"{TOPICS}@2").digest
    for name in (f"{TOPICS}@2", f"{TOPICS}@sha256:{digest}", f"{TOPICS}@sha256:{digest[:8]}"):
        assert serving.specialists.find(name).version.number == 2
    for name in (TOPICS, f"{TOPICS}@3", f"{TOPICS}@production", "care/none", "../x", "./run", "/etc", "http://x/y", ""):
        with pytest.raises(UnknownModel, match="no model is called"):
            serving.specialists.find(name)


def test_a_version_is_shared_by_its_references_and_unloaded_after_the_last(own: Published) -> None:
    serving = start(own, f"{TOPICS}@production", f"{TOPICS}@1")
    first, second = (entry.served for entry in serving.specialists.entries)
    assert first is second
    serving.specialists.remove(f"{TOPICS}@production")
    serving.specialists.refresh()
    assert len(ask(serving, f"{TOPICS}@1", TEXTS)) == len(TEXTS)
    serving.specialists.remove(f"{TOPICS}@1")
    first.acquire()
    serving.specialists.refresh()
    assert list(serving._engines._adapters) == [first.key]
    first.release()
    serving.specialists.refresh()
    assert list(serving._engines._adapters) == []
    with pytest.raises(UnknownModel):
        serving.specialists.remove(f"{TOPICS}@1")
    serving.close()


def test_a_base_has_the_name_that_users_know_and_never_a_path() -> None:
    def name(own: str, hub_id: str | None) -> str:
        return name_base(SimpleNamespace(name=own, hub_id=hub_id))  # type: ignore[arg-type]

    assert name("minilm-l6", "sentence-transformers/all-MiniLM-L6-v2") == "minilm-l6"
    assert name("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert name("/srv/models/mine", None) == name("./models/mine", None) == "mine"


def test_wrong_tasks_and_counts_are_refused(serving: Serving) -> None:
    with serving.using(NOTES) as notes, serving.using(f"{TOPICS}@1") as topics, serving.using(RISK) as risk:
        with pytest.raises(WrongModel, match="answers generate, not predict"):
            serving.predict(notes.served, TEXTS)
        with pytest.raises(WrongModel, match="answers predict, not generate"):
            serving.write(topics, "hello", Decoding())
        with pytest.raises(WrongModel, match="not forecast"):
            serving.forecast(topics.served, None, None)
        with pytest.raises(WrongModel, match="no embeddings"):
            serving.embed(risk, TEXTS)
        for count in (0, 1025):
            with pytest.raises(DataError, match="1 to 1024 inputs"):
                serving.predict(topics.served, ["a"] * count)
        with pytest.raises(DataError, match="at most 2048"):
            serving.write(notes, "hello", Decoding(max_new_tokens=2049))


@pytest.mark.parametrize("reference", [NOTES, LETTERS])
@pytest.mark.parametrize("decoding", [Decoding(max_new_tokens=12), Decoding(max_new_tokens=12, temperature=1.5, seed=3)])
def test_a_service_writes_what_the_specialist_alone_writes(
    serving: Serving, published: Published, reference: str, decoding: Decoding
) -> None:
    prompts = [*TEXTS[:3], (Message("user", "cough"), Message("assistant", "yes"), Message("user", "rash"))]
    alone = published.model(reference).generate(
        prompts,
        max_new_tokens=12,
        temperature=decoding.temperature,
        seed=decoding.seed,  # type: ignore[arg-type]
    )
    pieces: dict[int, list[str]] = {n: [] for n in range(4)}
    with serving.using(reference) as answerer:
        writings = [serving.write(answerer, prompt, decoding, pieces[n].append) for n, prompt in enumerate(prompts)]
    results = [writing.future.result(30) for writing in writings]

    assert results == alone
    assert ["".join(pieces[n]) for n in range(4)] == [result.text for result in results]


def test_two_writers_asked_at_once_write_each_its_own(serving: Serving, published: Published) -> None:
    decoding = Decoding(max_new_tokens=12)
    alone = {name: published.model(name).generate(TEXTS, max_new_tokens=12) for name in (NOTES, LETTERS)}
    assert [one.text for one in alone[NOTES]] != [one.text for one in alone[LETTERS]]
    writings = []
    for number, text in enumerate(TEXTS * 2):
        name = (NOTES, LETTERS)[number % 2]
        with serving.using(name) as answerer:
            writings.append((name, number % 9, serving.write(answerer, text, decoding)))

    for name, number, writing in writings:
        assert writing.future.result(60) == alone[name][number]


def test_a_base_writes_and_embeds_without_any_adapter(serving: Serving, published: Published) -> None:
    from vertical_sdk.families.shared_base import use_base

    model = published.model(NOTES)
    with use_base():
        alone = model.engine.generate([[Message("user", "cough")]], [NOTES], decoding=Decoding(max_new_tokens=8))
    with serving.using("causal0", "causal") as answerer:
        assert answerer.by_base
        assert serving.write(answerer, "cough", Decoding(max_new_tokens=8)).future.result(30) == alone[0]
    with serving.using("encoder0", "encoder") as answerer:
        by_base = serving.embed(answerer, TEXTS).result(30)
    frozen = published.model(f"{TOPICS}@1").engine.general(f"{TOPICS}@1")
    from vertical_sdk.types import Example

    expected = frozen.features([Example(id=text, text=text) for text in TEXTS]).numpy()
    np.testing.assert_allclose(by_base.values, expected, atol=1e-5)
    with serving.using(f"{TOPICS}@1") as answerer:
        own = serving.embed(answerer, TEXTS).result(30)
    assert np.abs(own.values - by_base.values).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(own.values, axis=1), 1, atol=1e-5)
    with pytest.raises(WrongModel, match="without an adapter"), serving.using("causal0"):
        pass


def test_an_answer_that_no_one_waits_for_is_not_written_to_its_end(serving: Serving) -> None:
    seen = threading.Event()
    with serving.using(NOTES) as answerer:
        writing = serving.write(answerer, "cough", Decoding(max_new_tokens=100, temperature=3.0, seed=1), lambda _: seen.set())
        seen.wait(30)
        writing.cancel()
    wait([writing.future], 30)

    assert writing.future.cancelled() or writing.future.exception() is not None
    assert len(serving._writers) == 0


def _no_one() -> Any:
    from vertical_sdk.serving.served import Served

    version: Any = type("V", (), {"name": "a", "digest": "0", "__str__": lambda _: "a@1"})()
    return Served(version, None, None)  # type: ignore[arg-type]
