from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import save_causal, save_encoder, topic_recipe, topic_rows, write_csv
from safetensors.torch import load_file, save_file

from vertical_sdk import VerticalModel, evaluate, train
from vertical_sdk.card import read_card, write_card
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, DataError, IdleAdapter
from vertical_sdk.inference.predictions import predict_proba
from vertical_sdk.registry import Registry

WEIGHTS = "adapter_model.safetensors"
TEXTS = ["red itch rash", "cough and wheeze of the lung", "slow pulse"]


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return train(topic_recipe(folder, encoder), out=folder / "run").path


@pytest.fixture
def adapter(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of its own, to be harmed."""
    shutil.copytree(trained_run / "adapter", tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_specialist_answers_with_calibrated_probabilities_in_the_order_asked(trained_run: Path) -> None:
    model = VerticalModel.from_pretrained(trained_run)

    forward, backward = model.predict(TEXTS), model.predict(TEXTS[::-1])

    assert [p.label for p in forward] == [p.label for p in backward][::-1]
    assert all(sum(p.probabilities.values()) == pytest.approx(1) for p in forward)
    assert all(p.label == max(p.probabilities, key=p.probabilities.__getitem__) for p in forward)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_an_unavailable_device_is_refused_with_the_available_ones(trained_run: Path, device: str) -> None:
    with pytest.raises(AdapterError, match=rf"^device = '{device}' is not available on this machine\. Available: cpu"):
        VerticalModel.from_pretrained(trained_run, device=device)


@pytest.mark.parametrize(("task", "method"), [("generation", "generate"), ("regression", "predict")])
def test_predict_proba_without_labels_names_the_method_to_call(task: str, method: str) -> None:
    engine: Any = SimpleNamespace(adapter=lambda name: SimpleNamespace(card=SimpleNamespace(task=task, labels=())))

    with pytest.raises(AdapterError, match=rf"^notes has no labels\. Call {method}\(\) instead of predict_proba\(\)\.$"):
        predict_proba(engine, ["x"], "notes")


def test_a_longer_batch_changes_no_answer(trained_run: Path) -> None:
    model = VerticalModel.from_pretrained(trained_run)
    texts = [text for text, _ in topic_rows(50)]

    together, alone = model.predict(texts), [model.predict([text])[0] for text in texts]

    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_a_prediction_counts_the_tokens_that_were_cut(trained_run: Path) -> None:
    prediction = VerticalModel.from_pretrained(trained_run).predict(["rash " * 100])[0]

    assert prediction.truncated == 102 - 48


def test_a_prediction_counts_unknown_tokens_and_control_tokens(trained_run: Path) -> None:
    texts = ["rash on skin", "rash 痛み [SEP] skin", "x" * 200_000]

    predictions = VerticalModel.from_pretrained(trained_run).predict(texts)

    assert [(p.unknown, p.control, p.truncated) for p in predictions] == [(0, 0, 0), (4, 1, 0), (1, 0, 0)]


def test_the_saved_adapter_is_what_was_loaded(trained_run: Path, tmp_path: Path) -> None:
    model = VerticalModel.from_pretrained(trained_run)

    model.save_pretrained(tmp_path / "copy")
    again = VerticalModel.from_pretrained(tmp_path / "copy")

    assert [p.probabilities for p in again.predict(TEXTS)] == [p.probabilities for p in model.predict(TEXTS)]
    with pytest.raises(AdapterError, match="not empty"):
        model.save_pretrained(tmp_path / "copy")


def test_peft_alone_loads_the_backbone_adapter(trained_run: Path, encoder: Path) -> None:
    import warnings

    from peft import PeftModel
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT's words for keys that do not fit
        warnings.simplefilter("ignore", FutureWarning)
        peft_model = PeftModel.from_pretrained(plain, str(trained_run / "adapter")).eval()
    model = VerticalModel.from_pretrained(trained_run)
    rows = [model.specialist().encode(_row(text), learn=False) for text in TEXTS]
    batch = model.specialist().collate(rows)
    with torch.inference_mode():
        theirs = peft_model(**batch).last_hidden_state
        ours = model.specialist().backbone(**batch).last_hidden_state

    torch.testing.assert_close(theirs, ours)


def test_specialists_share_a_base_and_a_batch_may_mix_them(encoder: Path, trained_run: Path, tmp_path: Path) -> None:
    rows = [(text, "even" if i % 2 else "odd") for i, (text, _) in enumerate(topic_rows(60))]
    data = {
        "source": str(write_csv(tmp_path / "parity.csv", rows)),
        "columns": {"text": "text", "label": "label"},
        "decontaminate": None,
    }
    other = train(
        topic_recipe(tmp_path, encoder, name="other", data=data, train__num_train_epochs=1), out=tmp_path / "other"
    ).path
    alone = {"topics": VerticalModel.from_pretrained(trained_run), "other": VerticalModel.from_pretrained(other)}

    model = VerticalModel.from_pretrained(trained_run, name="topics")
    model.add(other, name="other")
    mixed = model.predict(TEXTS, adapters=["topics", "other", "topics"])

    for text, prediction in zip(TEXTS, mixed, strict=True):
        expected = alone[prediction.adapter].predict([text])[0]
        assert prediction.label == expected.label
        assert prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert model.predict(TEXTS)[0].label in {"skin", "lung", "heart"}
    assert model.use("other").predict(TEXTS)[0].label in {"even", "odd"}
    with pytest.raises(AdapterError, match="Loaded: topics, other"):
        model.use("third")


def test_a_specialist_for_another_base_is_refused_and_the_model_stays_as_it_was(trained_run: Path, tmp_path: Path) -> None:
    foreign = save_encoder(tmp_path / "foreign", seed=7)
    other = train(topic_recipe(tmp_path, foreign, train__num_train_epochs=1), out=tmp_path / "other").path
    model = VerticalModel.from_pretrained(trained_run)
    before = [p.probabilities for p in model.predict(TEXTS)]

    with pytest.raises(BaseMismatch, match="another base or revision"):
        model.add(other, name="other")

    assert [p.probabilities for p in model.predict(TEXTS)] == before
    assert len(model.adapters) == 1


def test_a_single_string_is_not_read_letter_by_letter(trained_run: Path) -> None:
    model = VerticalModel.from_pretrained(trained_run)

    with pytest.raises(DataError, match=r"predict\(\[text\]\)"):
        model.predict("red rash")
    with pytest.raises(DataError, match="text 1 is ''"):
        model.predict(["a", ""])
    assert model.predict([]) == []


def test_an_encoder_cannot_write(trained_run: Path) -> None:
    with pytest.raises(AdapterError, match="cannot write"):
        VerticalModel.from_pretrained(trained_run).generate(["hello"])


def _resign(adapter: Path) -> None:
    """Make the card's digests right again: as one who meant the change would."""
    write_card(adapter, read_card(adapter))


def _flip(adapter: Path) -> None:
    raw = bytearray((adapter / WEIGHTS).read_bytes())
    raw[-5] ^= 1
    (adapter / WEIGHTS).write_bytes(raw)


def _cut(adapter: Path) -> None:
    (adapter / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:-100])


def _zero(adapter: Path) -> None:
    save_file({k: v * 0 for k, v in load_file(adapter / WEIGHTS).items()}, adapter / WEIGHTS)


def _pickle(adapter: Path) -> None:
    torch.save(load_file(adapter / WEIGHTS), adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()


def _drop_key(adapter: Path) -> None:
    weights = load_file(adapter / WEIGHTS)
    weights.pop(sorted(weights)[0])
    save_file(weights, adapter / WEIGHTS)


def _another_rank(adapter: Path) -> None:
    save_file(
        {k: torch.cat([v, v], 0 if "lora_A" in k else 1) for k, v in load_file(adapter / WEIGHTS).items()}, adapter / WEIGHTS
    )


def _other_numbers(adapter: Path) -> None:
    save_file({k: v.flip(0) for k, v in load_file(adapter / WEIGHTS).items()}, adapter / WEIGHTS)
    _resign(adapter)


def _other_head(adapter: Path) -> None:
    shutil.copyfile(adapter / "probe.safetensors", adapter / "head.safetensors")
    _resign(adapter)


def _no_self_tests(adapter: Path) -> None:
    write_card(adapter, read_card(adapter).model_copy(update={"self_tests": ()}))


def _no_card(adapter: Path) -> None:
    (adapter / "vertical.json").unlink()


def _half_a_card(adapter: Path) -> None:
    (adapter / "vertical.json").write_bytes((adapter / "vertical.json").read_bytes()[:500])


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (_flip, CorruptAdapter, "was changed or cut after the adapter was saved"),
        (_cut, CorruptAdapter, "is cut or not a safetensors file"),
        (_zero, IdleAdapter, "all weights are zero"),
        (_pickle, CorruptAdapter, "pickle"),
        (_drop_key, BaseMismatch, "1 missing"),
        (_another_rank, BaseMismatch, "has shape"),
        (_other_numbers, IdleAdapter, "gives other outputs than when the adapter was trained"),
        (_other_head, IdleAdapter, "gives other outputs than when the adapter was trained"),
        (_no_self_tests, IdleAdapter, "has no self-tests"),
        (_no_card, CorruptAdapter, "has no vertical.json"),
        (_half_a_card, CorruptAdapter, "cut or changed"),
    ],
)
def test_a_harmed_adapter_has_its_own_error(
    adapter: Path, harm: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    harm(adapter)

    with pytest.raises(error, match=words):
        VerticalModel.from_pretrained(adapter)


def _other_weights(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def _resized(base: Path) -> None:
    from transformers import BertModel

    model = BertModel.from_pretrained(base)
    model.resize_token_embeddings(model.config.vocab_size + 8, mean_resizing=False)
    model.save_pretrained(base)


def _other_tokenizer(base: Path) -> None:
    raw = json.loads((base / "tokenizer.json").read_text())
    vocab = raw["model"]["vocab"]
    vocab["rash"], vocab["cough"] = vocab["cough"], vocab["rash"]
    (base / "tokenizer.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_weights, "another base or revision"),
        (_resized, "vocabulary was resized"),
        (_other_tokenizer, "tokenizer has changed"),
    ],
)
def test_a_base_that_is_not_the_one_has_its_own_error(
    adapter: Path, encoder: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    shutil.copytree(encoder, tmp_path / "base")
    change(tmp_path / "base")

    with pytest.raises(BaseMismatch, match=words):
        VerticalModel.from_pretrained(adapter, base=str(tmp_path / "base"))


def test_a_base_that_was_moved_is_the_same_base(adapter: Path, encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "elsewhere")

    assert VerticalModel.from_pretrained(adapter, base=str(tmp_path / "elsewhere")).predict(TEXTS)


def test_a_published_specialist_is_used_by_its_alias(trained_run: Path) -> None:
    registry = Registry()
    version = registry.publish(trained_run, force=True, reason="a test")
    registry.set_alias("topics", "production", version.number, force=True, why="a test")

    model = VerticalModel.from_registry("topics@production")

    assert [p.label for p in model.predict(TEXTS)] == [
        p.label for p in VerticalModel.from_pretrained(trained_run).predict(TEXTS)
    ]


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_an_adapter_trained_in_bfloat16_proves_itself_in_float32(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = topic_recipe(tmp_path, request.getfixturevalue(family), train__bf16=True, train__num_train_epochs=1)

    run = train(recipe, out=tmp_path / "run")

    assert run.card.training["bf16"]
    assert VerticalModel.from_pretrained(run.path).predict(TEXTS)


def test_a_causal_specialist_learns_to_write(causal: Path, tmp_path: Path) -> None:
    rows = [(text, "y") for text, _ in topic_rows(80)]
    data = {
        "source": str(write_csv(tmp_path / "qa.csv", rows, ("prompt", "completion"))),
        "decontaminate": None,
        "clean": ["normalize"],
    }
    recipe = topic_recipe(
        tmp_path, causal, name="echo", task="generation", data=data, evaluate={"resamples": 100, "baselines": ["base"]},
        train__num_train_epochs=8, train__learning_rate=0.03, train__seed=2, adapter={"r": 16, "lora_alpha": 32},
    )  # fmt: skip

    run = train(recipe, out=tmp_path / "run")
    model = VerticalModel.from_pretrained(run.path)
    evaluation = evaluate(run.path)

    answers = model.generate(["cough 900", "rash 901"], max_new_tokens=8)
    assert [(answer.text, answer.finish_reason) for answer in answers] == [("y", "stop")] * 2
    one, other = model.generate(["cough  \t 900", "cough 900"], temperature=2.0, seed=1)  # the prompts are cleaned alike
    assert one == other != model.generate(["cough 900"], temperature=2.0, seed=2)[0]
    assert evaluation.systems["adapter"].metrics["exact_match"].value == 1.0
    assert evaluation.systems["base"].metrics["exact_match"].value == 0.0
    with pytest.raises(AdapterError, match=r"Call generate\(\) instead"):
        model.predict(["say lung"])


def test_a_changed_chat_template_is_refused(tmp_path: Path) -> None:
    base = save_causal(tmp_path / "base")
    run = train(topic_recipe(tmp_path, base, train__num_train_epochs=1), out=tmp_path / "run")
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|end|>", "<|end|>\n"))

    with pytest.raises(BaseMismatch, match="chat template has changed"):
        VerticalModel.from_pretrained(run.path)


def _row(text: str):  # type: ignore[no-untyped-def]
    from vertical_sdk.types import Example

    return Example(text, text)
