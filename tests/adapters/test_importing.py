"""PEFT folders that were made without vertical_sdk, on the tiny bases of tests/conftest.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from conftest import save_causal, topic_recipe
from safetensors.torch import load_file

from vertical_sdk import Registry, VerticalModel, train
from vertical_sdk.adapters.importing import import_adapter
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, IdleAdapter, RegistryError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning"),  # of adapters that save the output layer
]


def save_peft(
    folder: Path,
    base: Path,
    kind: str | None,
    *,
    idle: bool = False,
    trained: bool = True,
    embeddings: bool = False,
    **config: Any,
) -> Path:
    """What `save_pretrained` leaves of an adapter with random weights."""
    loaders: dict[str | None, Any] = {
        "CAUSAL_LM": transformers.AutoModelForCausalLM,
        "SEQ_CLS": transformers.AutoModelForSequenceClassification,
        "TOKEN_CLS": transformers.AutoModelForTokenClassification,
    }
    transformers.logging.set_verbosity_error()
    model = loaders.get(kind, transformers.AutoModel).from_pretrained(base, **({"num_labels": 3} if kind == "SEQ_CLS" else {}))
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **config}
    made = peft.get_peft_model(model, peft.LoraConfig(task_type=kind, **settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if ("lora_B" in name or "lora_embedding_A" in name) and not idle:
                parameter.normal_(std=0.3)
    made.save_pretrained(str(folder), save_embedding_layers=embeddings)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def writer(tmp_path: Path, causal: Path) -> Path:
    return save_peft(tmp_path / "made-elsewhere", causal, "CAUSAL_LM")


def test_a_writer_is_imported_loaded_and_writes_what_peft_alone_writes(registry: Registry, writer: Path, causal: Path) -> None:
    found = import_adapter(registry, writer, "medical/notes", base=str(causal))

    assert (str(found.version), found.version.gate, found.unread) == ("medical/notes@1", "ungated", None)
    model = VerticalModel.from_registry("medical/notes", registry)
    (answer,) = model.generate(["pain in the chest"], max_new_tokens=8)
    tokenizer = transformers.AutoTokenizer.from_pretrained(causal)
    alone = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(causal), found.version.path)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "pain in the chest"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = alone.generate(**ids, max_new_tokens=8, do_sample=False)
    assert answer.text == tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_an_import_lists_what_its_card_lacks(registry: Registry, writer: Path, causal: Path) -> None:
    bare = import_adapter(registry, writer, "medical/notes", base=str(causal))
    told = import_adapter(registry, writer, "medical/other", base=str(causal), license="CC-BY-4.0", prompt="Sum up: {text}")

    begins = [line.partition(":")[0].partition(" ")[0] for line in bare.missing]
    assert begins[:6] == ["data", "licence", "recipe", "metrics", "gate", "licence"]
    assert any(line.startswith("system and user prompt") for line in bare.missing)
    assert not any("--license" in line or "--prompt" in line for line in told.missing)
    card = told.version.card
    assert (card.metrics, card.gate, card.labels, card.training["imported"]) == ({}, None, None, True)
    assert card.recipe["prompt"] == {"system": None, "user": "Sum up: {text}"}
    assert told.version.facts["license"] == ("CC-BY-4.0",)
    assert len(card.self_tests) >= 2


def test_the_weights_are_published_byte_for_byte_and_nothing_else_of_the_folder(
    registry: Registry, writer: Path, causal: Path
) -> None:
    (writer / "training_args.bin").write_bytes(b"pickle")
    (writer / "checkpoint-3").mkdir()
    before = {name: (writer / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors", "README.md")}

    found = import_adapter(registry, writer, "notes", base=str(causal))

    assert found.left_out == ("checkpoint-3/", "training_args.bin")
    assert {name: (found.version.path / name).read_bytes() for name in before} == before
    assert sorted(p.name for p in found.version.path.iterdir()) == [*sorted(before), "vertical.json"]
    assert registry.verify() == []


def test_an_adapter_that_changes_nothing_is_refused(registry: Registry, tmp_path: Path, causal: Path) -> None:
    idle = save_peft(tmp_path / "idle", causal, "CAUSAL_LM", idle=True)

    with pytest.raises(IdleAdapter, match="all weights are zero"):
        import_adapter(registry, idle, "notes", base=str(causal))
    assert registry.list_adapters() == []


def test_a_folder_without_a_readme_gets_one_that_claims_no_recipe(registry: Registry, writer: Path, causal: Path) -> None:
    (writer / "README.md").unlink()

    text = (import_adapter(registry, writer, "notes", base=str(causal)).version.path / "README.md").read_text()

    assert "trained elsewhere and imported" in text
    assert "from the recipe" not in text


def test_another_base_is_refused(registry: Registry, tmp_path: Path, writer: Path, encoder: Path) -> None:
    with pytest.raises(BaseMismatch, match="needs a base that writes"):
        import_adapter(registry, writer, "notes", base=str(encoder))
    small = save_causal(tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**{**config, "hidden_size": 16}))
    model.save_pretrained(small)
    with pytest.raises(BaseMismatch, match="has shape"):
        import_adapter(registry, writer, "notes", base=str(small))


def test_another_chat_template_is_refused(registry: Registry, writer: Path, causal: Path) -> None:
    (writer / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")

    with pytest.raises(BaseMismatch, match="chat template is not that of"):
        import_adapter(registry, writer, "notes", base=str(causal))


def test_a_pickle_is_refused_with_what_to_do(registry: Registry, writer: Path, causal: Path) -> None:
    (writer / "adapter_model.safetensors").rename(writer / "adapter_model.bin")

    with pytest.raises(CorruptAdapter, match=r"pickle \(adapter_model\.bin\).*safe_serialization=True"):
        import_adapter(registry, writer, "notes", base=str(causal))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map names code"),
        (
            {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}},
            "a module to import that is neither of transformers nor of vertical_sdk",
        ),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"layer_replication": [[0, 2]]}, "it changes the layers of the base"),
        ({"megatron_config": {"a": 1}}, "it imports classes by name"),
        ({"init_lora_weights": "pissa_niter_4"}, "it changes the base's own weights"),
        ({"task_type": "SEQ_2_SEQ_LM"}, "no such task here"),
    ],
)
def test_an_adapter_that_is_not_plain_lora_or_would_run_code_is_refused(
    registry: Registry, writer: Path, causal: Path, change: dict[str, Any], told: str
) -> None:
    edit(writer, **change)

    with pytest.raises((CorruptAdapter, AdapterError), match=told):
        import_adapter(registry, writer, "notes", base=str(causal))
    assert not Path(registry.location).exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\x00\xff", b"{"])
def test_a_configuration_that_is_none_is_refused(registry: Registry, writer: Path, causal: Path, content: bytes) -> None:
    (writer / "adapter_config.json").write_bytes(content)

    with pytest.raises(CorruptAdapter, match=r"adapter_config\.json: (cannot be read|is not a JSON object)"):
        import_adapter(registry, writer, "notes", base=str(causal))


def test_a_cut_file_and_a_link_are_refused(registry: Registry, writer: Path, causal: Path) -> None:
    weights = writer / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(CorruptAdapter, match="is cut or not a safetensors file"):
        import_adapter(registry, writer, "notes", base=str(causal))

    weights.unlink()
    (writer.parent / "elsewhere").write_bytes(whole)
    weights.symlink_to(writer.parent / "elsewhere")
    with pytest.raises(RegistryError, match="symbolic link"):
        import_adapter(registry, writer, "notes", base=str(causal))


def test_a_folder_of_ours_is_published_and_not_imported(registry: Registry, writer: Path, causal: Path) -> None:
    found = import_adapter(registry, writer, "notes", base=str(causal))

    with pytest.raises(RegistryError, match="vertical registry publish"):
        import_adapter(registry, found.version.path, "again", base=str(causal))


def test_a_classifier_of_transformers_is_kept_and_says_that_its_head_is_not_read(
    registry: Registry, tmp_path: Path, encoder: Path
) -> None:
    folder = save_peft(tmp_path / "made", encoder, "SEQ_CLS")

    found = import_adapter(registry, folder, "medical/triage", base=str(encoder))

    assert found.version.facts["task"] == ("classification",)
    assert "labels: their names and order" in found.missing
    with pytest.raises(AdapterError, match="has no head that vertical_sdk reads"):
        VerticalModel.from_registry("medical/triage", registry)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=3)
    alone = peft.PeftModel.from_pretrained(model, found.version.path)
    assert alone(input_ids=torch.tensor([[2, 5, 3]])).logits.shape == (1, 3)


def test_a_classifier_without_its_head_is_refused(registry: Registry, tmp_path: Path, encoder: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_peft(tmp_path / "made", encoder, "SEQ_CLS")
    path = folder / "adapter_model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "classifier" not in k}, path)

    with pytest.raises(CorruptAdapter, match="holds no classifier"):
        import_adapter(registry, folder, "medical/triage", base=str(encoder))


def test_features_are_kept_and_can_be_gone_on_from(registry: Registry, tmp_path: Path, encoder: Path) -> None:
    folder = save_peft(tmp_path / "made", encoder, "FEATURE_EXTRACTION", exclude_modules=r".*pooler.*")
    with pytest.raises(AdapterError, match=r"does not say what it is for\. Say it: --task"):
        import_adapter(registry, folder, "topics", base=str(encoder))

    found = import_adapter(registry, folder, "topics", base=str(encoder), task="classification")
    with pytest.raises(AdapterError, match=r"it has no head.*vertical train RECIPE --from"):
        VerticalModel.from_registry("topics", registry)
    shutil.copytree(found.version.path, tmp_path / "start")
    run = train(topic_recipe(tmp_path, encoder, train__num_train_epochs=1), out=tmp_path / "run", start=tmp_path / "start")

    assert run.card.parent is not None
    assert run.card.parent.weights == found.version.facts["weights"][0]


def test_an_adapter_that_names_its_class_of_transformers_is_taken(registry: Registry, tmp_path: Path, encoder: Path) -> None:
    folder = save_peft(tmp_path / "made", encoder, None)
    assert json.loads((folder / "adapter_config.json").read_text())["auto_mapping"]["parent_library"].startswith(
        "transformers."
    )

    found = import_adapter(registry, folder, "topics", base=str(encoder), task="classification")

    assert (found.version.path / "adapter_config.json").read_bytes() == (folder / "adapter_config.json").read_bytes()
    peft.PeftModel.from_pretrained(transformers.AutoModel.from_pretrained(encoder), found.version.path)


@pytest.mark.parametrize("config", [{"use_dora": True}, {"use_rslora": True}, {"modules_to_save": ["lm_head"]}])
def test_other_kinds_of_lora_write_after_their_probes_were_replayed(
    registry: Registry, tmp_path: Path, causal: Path, config: dict[str, Any]
) -> None:
    folder = save_peft(tmp_path / "made", causal, "CAUSAL_LM", target_modules=["q_proj", "v_proj"], **config)

    import_adapter(registry, folder, "notes", base=str(causal))

    assert len(VerticalModel.from_registry("notes", registry).generate(["pain"], max_new_tokens=4)) == 1


def test_the_base_is_the_one_that_the_configuration_names(registry: Registry, writer: Path, causal: Path) -> None:
    found = import_adapter(registry, writer, "notes")  # PEFT wrote the folder of the base into it
    assert found.version.card.base.name == str(causal)

    edit(writer, base_model_name_or_path=None)
    with pytest.raises(AdapterError, match="names no base model"):
        import_adapter(registry, writer, "notes")


@pytest.mark.parametrize("modules", [["lm_head"], ["q_proj", "embed_tokens"]], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_on_embeddings_is_imported_and_writes(
    registry: Registry, tmp_path: Path, causal: Path, modules: list[str]
) -> None:
    folder = save_peft(tmp_path / "made", causal, "CAUSAL_LM", embeddings=True, target_modules=modules)
    assert any("base_layer" in key for key in load_file(folder / "adapter_model.safetensors"))

    import_adapter(registry, folder, "notes", base=str(causal))

    assert len(VerticalModel.from_registry("notes", registry).generate(["pain"], max_new_tokens=4)) == 1


def test_an_error_names_the_folder_that_is_imported_and_no_temporary_one(
    registry: Registry, tmp_path: Path, causal: Path
) -> None:
    idle = save_peft(tmp_path / "idle", causal, "CAUSAL_LM", idle=True)
    other = save_peft(tmp_path / "other", causal, "CAUSAL_LM", target_modules=["q_proj"])
    edit(other, r=5)

    for folder in (idle, other):
        with pytest.raises(AdapterError) as caught:
            import_adapter(registry, folder, "notes", base=str(causal))
        assert str(folder) in str(caught.value)
        assert "vertical-import-" not in str(caught.value)


@pytest.mark.parametrize("config", [{"bias": "all"}, {"init_lora_weights": "olora"}, {"trainable_token_indices": [1, 2]}])
def test_an_adapter_that_changes_the_base_is_refused_with_the_reason(
    registry: Registry, writer: Path, causal: Path, config: dict[str, Any]
) -> None:
    edit(writer, **config)

    with pytest.raises(AdapterError, match="changes the base's own"):
        import_adapter(registry, writer, "notes", base=str(causal))
