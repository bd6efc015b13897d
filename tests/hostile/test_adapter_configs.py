"""adapter_config.json as an enemy would write it: refused by name and value, and no loaded adapter answers otherwise after it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import topic_recipe
from safetensors.torch import load_file, save_file

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.importing import import_adapter
from vertical_sdk.card import read_card, write_card
from vertical_sdk.engines import torch as engine
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, IdleAdapter
from vertical_sdk.families.lora import attach, with_lora
from vertical_sdk.peft_config import parse_config
from vertical_sdk.registry import Registry

TEXTS = ["red itch rash", "cough and lung wheeze", "pulse"]
SLOW = "(([a-z]+)*|.)*[a-z.]*[0-9]*Z"
"""A pattern that takes for ever on the name of a module."""
HOSTILE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"layer_replication": [[0, 2], [0, 2]]}, "layer_replication = .*changes the layers of the base"),
    ({"megatron_config": {"a": 1}}, "megatron_config = .*imports classes by name"),
    ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "megatron_config"),
    ({"megatron_core": "evil"}, r"megatron_core = 'evil': it should be megatron\.core"),
    ({"auto_mapping": {"base_model_class": "X", "parent_library": "evil"}}, "auto_mapping names a module to import"),
    ({"auto_mapping": {"base_model_class": "X", "parent_library": "transformers.\nos"}}, "auto_mapping names a module"),
    ({"auto_mapping": ["transformers.x"]}, "auto_mapping names a module"),
    ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map names code"),
    ({"init_lora_weights": "olora"}, "init_lora_weights = 'olora': it changes the base's own weights"),
    ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = .*changes the base's own weights"),
    ({"init_lora_weights": ["x"]}, "init_lora_weights = .*it should be true, false"),
    ({"bias": "all"}, "bias = 'all': it changes the base's own biases"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices = .*embeddings"),
    ({"use_bdlora": {"a": 1}}, "use_bdlora = "),
    ({"corda_config": {"a": 1}}, "corda_config = .*not supported"),
    ({"future_setting": 3}, "future_setting = 3: this setting is not supported"),
    ({"runtime_config": {"ephemeral_gpu_offload": True}}, "runtime_config"),
    ({"target_modules": SLOW}, "target_modules = .*a regular expression is not read"),
    ({"target_modules": [SLOW]}, "target_modules = .*a list of names"),
    ({"target_modules": "all-linear"}, "target_modules = 'all-linear'"),
    ({"target_modules": ["a" * 10_000]}, "target_modules = "),
    ({"exclude_modules": SLOW}, "exclude_modules = .*a regular expression is not read"),
    ({"exclude_modules": ".*pooler.*" + SLOW}, "exclude_modules"),
    ({"rank_pattern": {SLOW: 4}}, "rank_pattern = "),
    ({"alpha_pattern": {SLOW: 4}}, "alpha_pattern = "),
    ({"alpha_pattern": {"query": -1}}, "alpha_pattern = "),
    ({"modules_to_save": [SLOW]}, "modules_to_save = "),
    ({"modules_to_save": [f"a{n}" for n in range(1000)]}, "modules_to_save = "),
    ({"layers_to_transform": [0], "layers_pattern": SLOW}, "layers_pattern = "),
    ({"layers_to_transform": [True]}, "layers_to_transform = "),
    ({"target_parameters": [SLOW]}, "target_parameters = "),
    ({"r": 10**9}, "r = 1000000000: it should be a whole number from 1 to"),
    ({"r": 0}, "r = 0: it should be"),
    ({"r": True}, "r = True: it should be"),
    ({"r": "4"}, "r = '4': it should be"),
    ({"r": {}}, "r = {}: it should be"),
    ({"lora_alpha": 0}, "lora_alpha = 0: it should be a number above 0"),
    ({"lora_alpha": -3}, "lora_alpha = -3"),
    ({"lora_alpha": 10**300}, "lora_alpha = 1000"),
    ({"lora_alpha": [8]}, r"lora_alpha = \[8\]"),
    ({"lora_dropout": 1}, "lora_dropout = 1: it should be at least 0 and less than 1"),
    ({"use_dora": "yes"}, "use_dora = 'yes': it should be true or false"),
    ({"task_type": {"a": 1}}, "task_type = "),
    ({"peft_type": ["LORA"]}, "peft_type is "),
    ({"peft_type": "PROMPT_TUNING"}, "only LORA adapters"),
)
BROKEN = {
    "deep": b'{"peft_type": "LORA", "loftq_config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"peft_type": "LORA", "lora_alpha": NaN}',
    "infinite": b'{"peft_type": "LORA", "lora_alpha": 1e999}',
    "digits": b'{"peft_type": "LORA", "r": ' + b"9" * 10_000 + b"}",
    "twice": b'{"peft_type": "LORA", "r": 4, "r": 1000000000}',
    "list": b"[]",
    "text": b"\xff\xfe",
    "large": b'{"peft_type": "LORA", "revision": "' + b"x" * (2 << 20) + b'"}',
    "nothing": b"",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("hostile-config")
    return train(topic_recipe(folder, encoder, train__max_steps=6, train__learning_rate=0.05), out=folder / "run").path


@pytest.fixture
def adapter(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run / "adapter", tmp_path / "enemy")
    return tmp_path / "enemy"


@pytest.fixture(scope="module")
def model(run: Path) -> VerticalModel:
    return VerticalModel.from_pretrained(run, name="good")


def edit(folder: Path, **changes: Any) -> None:
    """Change the configuration, and the card with it: the enemy writes both."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_card(folder, read_card(folder))


@pytest.mark.parametrize(("changes", "words"), HOSTILE, ids=lambda value: str(value)[:60])
def test_a_hostile_setting_is_refused_and_the_loaded_adapter_answers_as_before(
    model: VerticalModel, adapter: Path, changes: dict[str, Any], words: str
) -> None:
    edit(adapter, **changes)
    before = model.predict_proba(TEXTS)
    begun = time.perf_counter()

    with pytest.raises(CorruptAdapter, match=rf"(?s)adapter_config\.json: .*{words}"):
        model.add(adapter, name="enemy")

    assert time.perf_counter() - begun < 5
    np.testing.assert_array_equal(model.predict_proba(TEXTS), before)
    assert model.adapters == ("good",)


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_refused_where_it_is_read(adapter: Path, tmp_path: Path, content: bytes) -> None:
    (adapter / "adapter_config.json").write_bytes(content)
    write_card(adapter, read_card(adapter).model_copy(update={"recipe": {"evaluate": {"gate": False}}}))

    with pytest.raises(CorruptAdapter, match=r"adapter_config\.json: (cannot be read as JSON|is not)"):
        Registry(tmp_path / "registry").publish(adapter)
    with pytest.raises(CorruptAdapter, match=r"adapter_config\.json: (cannot be read as JSON|is not)"):
        attach(None, adapter)
    (adapter / "vertical.json").unlink()
    with pytest.raises(CorruptAdapter, match=r"adapter_config\.json: (cannot be read as JSON|is not)"):
        import_adapter(Registry(tmp_path / "registry"), adapter, "medical/enemy", base="minilm-l6")


@pytest.mark.parametrize(
    "changes", [{"layer_replication": [[0, 2]]}, {"target_modules": SLOW}, {"r": 10**9}, {"r": 5}], ids=str
)
def test_a_hostile_setting_is_neither_published_nor_imported(
    adapter: Path, tmp_path: Path, encoder: Path, changes: dict[str, Any]
) -> None:
    edit(adapter, **changes)
    registry = Registry(tmp_path / "registry")

    with pytest.raises(CorruptAdapter, match=next(iter(changes)) if changes != {"r": 5} else "gives it the rank 5"):
        registry.publish(adapter, force=True, reason="an attack")
    (adapter / "vertical.json").unlink()
    with pytest.raises(AdapterError, match=next(iter(changes)) if changes != {"r": 5} else "gives it the rank 5"):
        import_adapter(registry, adapter, "medical/enemy", base=str(encoder), task="classification")
    assert not registry.list_adapters()


def test_a_module_of_the_working_folder_is_not_imported(model: VerticalModel, adapter: Path, monkeypatch: Any) -> None:
    Path("evil.py").write_text("raise SystemExit('this ran')")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    edit(adapter, megatron_core="evil", megatron_config={"a": 1})

    with pytest.raises(CorruptAdapter, match="megatron_config"):
        model.add(adapter, name="enemy")


def test_ranks_in_the_configuration_are_those_of_the_tensors(model: VerticalModel, adapter: Path) -> None:
    edit(adapter, r=16_384)
    with pytest.raises(BaseMismatch, match="gives it the rank 16384"):
        model.add(adapter, name="enemy")

    edit(adapter, r=4, rank_pattern={"query": 8})
    with pytest.raises(BaseMismatch, match=r"query.lora_.* has shape .* gives it the rank 8"):
        model.add(adapter, name="enemy")


def test_tensors_that_are_no_numbers_are_refused(model: VerticalModel, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name: (tensor * 100).int() for name, tensor in load_file(path).items()}, path)
    write_card(adapter, read_card(adapter))

    with pytest.raises(CorruptAdapter, match=r"holds torch\.int32"):
        model.add(adapter, name="enemy")


@pytest.mark.parametrize(
    "header",
    [
        b"{" * 50_000,
        b'{"a": {"dtype": "F32", "shape": [1000000000000000, 1000000000000000], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b"[]",
        b'{"__metadata__": {"a": 1}}',
    ],
    ids=lambda header: header[:50].decode(),
)
def test_an_odd_header_of_tensors_is_refused(model: VerticalModel, adapter: Path, tmp_path: Path, header: bytes) -> None:
    content = len(header).to_bytes(8, "little") + header + b"\0" * 8
    (adapter / "adapter_model.safetensors").write_bytes(content)
    write_card(adapter, read_card(adapter))

    with pytest.raises(AdapterError):
        model.add(adapter, name="enemy")
    with pytest.raises(CorruptAdapter, match=r"adapter_model\.safetensors"):
        Registry(tmp_path / "registry").publish(adapter, force=True, reason="an attack")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("tokenizer_config.json", b"[" * 100_000, r"tokenizer_config\.json: cannot be read as JSON"),
        ("tokenizer_config.json", b'{"chat_template": "\\ud800"}', "its chat template is not that of"),
        ("tokenizer_config.json", b'{"chat_template": {"a": [1, {"b": 2}]}}', "its chat template is not that of"),
        ("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": "evil.X"}}', "auto_map names code"),
        ("config.json", b"[" * 100_000, r"config\.json: cannot be read as JSON"),
        ("chat_template.jinja", b"\xff{% for m in messages %}", "its chat template is not that of"),
    ],
    ids=str,
)
def test_odd_tokenizer_files_are_refused(
    tmp_path: Path, encoder: Path, adapter: Path, file: str, content: bytes, words: str
) -> None:
    (adapter / "vertical.json").unlink()
    (adapter / file).write_bytes(content)

    with pytest.raises(AdapterError, match=words):
        import_adapter(Registry(tmp_path / "registry"), adapter, "medical/enemy", base=str(encoder), task="classification")


def test_the_configurations_that_peft_writes_are_read(run: Path, adapter: Path, encoder: Path, tmp_path: Path) -> None:
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    names = sorted(config["target_modules"])
    honest = (
        {},
        {"a_key_of_a_later_peft": None, "another": False, "third": {}, "fourth": []},
        {"exclude_modules": ".*pooler.*"},
        {"exclude_modules": r".*(pooler|\.(?:7|8|9)\.).*"},
        {"auto_mapping": {"base_model_class": "BertModel", "parent_library": "transformers.models.bert.modeling_bert"}},
        {"loftq_config": {}, "layers_pattern": [], "eva_config": {"rho": 2.0}, "init_lora_weights": "eva"},
        {"target_modules": names, "rank_pattern": {names[0]: 4, f"^{names[1]}": 4}, "alpha_pattern": {"query": 8}},
    )
    for changes in honest:
        edit(adapter, **{**config, **changes})
        attach(transformers.AutoModel.from_pretrained(encoder), adapter)
    Registry(tmp_path / "registry").publish(adapter, force=True, reason="a test")


def test_a_pattern_of_a_recipe_is_saved_as_names(encoder: Path, tmp_path: Path) -> None:
    base = transformers.AutoModel.from_pretrained(encoder)
    settings = {"target_modules": r".*\.(query|value)", "exclude_modules": r".*layer\.1\..*"}

    with_lora(base, settings, "FEATURE_EXTRACTION", "own").save_pretrained(str(tmp_path), save_embedding_layers=False)

    config = parse_config((tmp_path / "adapter_config.json").read_bytes(), tmp_path)
    names = {name.partition(".lora_")[0] for name in load_file(tmp_path / "adapter_model.safetensors")}
    attention = "base_model.model.encoder.layer.0.attention.self"
    assert names == {f"{attention}.query", f"{attention}.value"}
    assert isinstance(config["target_modules"], list)
    assert isinstance(config["exclude_modules"], list)


def test_an_adapter_that_another_load_has_changed_is_unloaded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = VerticalModel.from_pretrained(run, name="good")
    before = model.predict_proba(TEXTS)

    def change_the_base(adapter: Any, base: Any, backbone: Any, **options: Any) -> Any:
        with torch.no_grad():
            next(backbone.parameters()).add_(0.001)
        raise BaseMismatch("the load failed")

    with monkeypatch.context() as changed:
        changed.setattr(engine, "load_specialist", change_the_base)
        with pytest.raises(IdleAdapter, match="loading another adapter changed what good computes, so it was unloaded"):
            model.add(run, name="enemy")

    with pytest.raises(AdapterError, match="no adapter is called 'good'"):
        model.predict(TEXTS)
    model.add(run, name="good")
    np.testing.assert_array_equal(model.predict_proba(TEXTS), before)
