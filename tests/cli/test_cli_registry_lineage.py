from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import transformers
from registry.conftest import resolve_recipe
from torch import nn

from vertical_sdk.card import Card, Fingerprint, Parent, SourceRecord, read_card, write_card
from vertical_sdk.cli import main
from vertical_sdk.record_index import write_record_index
from vertical_sdk.registry import Registry
from vertical_sdk.types import Example

RAW = "ab" * 32


@pytest.fixture
def published(tmp_path: Path) -> Registry:
    """Two versions of medical/triage, the second continues from the first, in the user's own registry."""
    import numpy as np
    from safetensors.numpy import save_file

    registry = Registry()
    parent: Parent | None = None
    for seed in (1, 2):
        folder = tmp_path / f"adapter-{seed}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
        save_file({"base_model.model.q.lora_A.weight": np.full((2, 2), seed, np.float32)}, folder / "adapter_model.safetensors")
        if seed == 1:
            write_record_index(folder, {"train": [Example("1", record_id="visit-1", group="ada")]})
        base = Fingerprint(name="tiny", architecture="BertModel", weights="0" * 64, tokenizer="1" * 64, vocab_size=10)
        measured = {"macro_f1": {"value": 0.8 + seed / 100, "low": 0.7, "high": 0.9}}
        card = Card(
            name="medical/triage", task="classification", family="encoder", base=base, parent=parent,
            **resolve_recipe("medical/triage", domain="medical", train={"seed": seed}, evaluate={"gate": False}),
            sources=(SourceRecord(source="notes.csv", sha256=RAW if seed == 1 else "cd" * 32, license="CC0-1.0"),),
            metrics={"systems": {"adapter": {"metrics": measured}}, "rows": 9},
        )  # fmt: skip
        write_card(folder, card)
        version = registry.publish(folder)
        parent = Parent(reference=str(version), weights=read_card(folder).files["adapter_model.safetensors"])
    return registry


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["registry", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_lineage_is_shown(published: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "lineage", "medical/triage"]) == 0

    out = capsys.readouterr().out
    assert "medical/triage@2" in out
    assert "parent" in out
    assert "medical/triage@1 (weights" in out
    assert "notes.csv (sha256:cdcd" in out
    assert "0.820 [0.700, 0.900]" in out
    assert run_json(capsys, "lineage", "medical/triage@1")["remembers"] == {"train": {"id": 1, "group": 1}}


def test_a_difference_is_shown(published: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "diff", "medical/triage@1", "medical/triage@2"]) == 0

    out = capsys.readouterr().out
    assert "train.seed" in out
    assert "+0.010" in out
    assert "only in medical/triage@1" in out  # its index of records
    assert "these values are not comparable" in out
    assert run_json(capsys, "diff", "medical/triage@1", "medical/triage@2")["recipe"]["train.seed"]["second"] == 2


def test_a_search_is_paged(published: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert [v["reference"] for v in run_json(capsys, "search", "domain=medical", "macro_f1>0.815")] == ["medical/triage@2"]
    assert main(["registry", "search", "task=classification", "--limit", "1"]) == 0
    captured = capsys.readouterr()
    assert "medical/triage@1" in captured.out
    assert "--after medical/triage@1" in captured.err
    assert [v["number"] for v in run_json(capsys, "search", "task=classification", "--after", "medical/triage@1")] == [2]
    assert main(["registry", "search", "colour=red"]) == 7
    assert main(["registry", "search", "task=regression"]) == 0
    assert "No version meets all conditions" in capsys.readouterr().out


def test_versions_that_used_a_source_or_a_record_are_listed(published: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    by_source = run_json(capsys, "used-data", RAW[:10])
    by_patient = run_json(capsys, "used-data", "--record", "ada", "--field", "group")

    assert [(use["reference"], use["through"]) for use in by_source] == [
        ("medical/triage@1", None),
        ("medical/triage@2", "medical/triage@1"),
    ]
    assert [(use["reference"], use["how"]) for use in by_patient] == [
        ("medical/triage@1", ["train"]),
        ("medical/triage@2", ["train"]),
    ]
    assert run_json(capsys, "used-data", "--record", "ada", "--field", "id") == []
    assert main(["registry", "used-data", "--record", "eve"]) == 0
    assert "No version with a record index contains this record" in capsys.readouterr().out


def test_invalid_arguments_are_refused(published: Registry) -> None:
    assert main(["registry", "used-data"]) == 2
    assert main(["registry", "used-data", RAW, "--record", "ada"]) == 2
    assert main(["registry", "used-data", "--record", "ada", "--field", "name"]) == 2
    assert main(["registry", "used-data", "nonsense"]) == 7
    assert main(["registry", "lineage", "medical/triage@9"]) == 7


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_a_peft_adapter_is_imported_and_its_gaps_are_listed(
    causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(causal)
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    adapted.save_pretrained(str(tmp_path / "made"))
    capsys.readouterr()

    assert main(["registry", "import", str(tmp_path / "made"), "--name", "medical/notes", "--base", str(causal)]) == 0

    captured = capsys.readouterr()
    assert "medical/notes@1" in captured.out
    assert "licence of its data (--license)" in captured.out
    assert "VerticalModel.from_registry('medical/notes@1')" in captured.err
    again = run_json(capsys, "import", str(tmp_path / "made"), "--name", "other", "--base", str(causal), "--license", "MIT")
    assert (again["reference"], again["unread"]) == ("other@1", None)
    assert run_json(capsys, "lineage", "other")["imported"]
    assert main(["registry", "import", str(tmp_path), "--name", "x", "--base", str(causal)]) == 6
    assert main(["registry", "import", str(tmp_path / "made"), "--name", "x", "--task", "poetry"]) == 2
