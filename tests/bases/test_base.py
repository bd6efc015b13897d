from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from servers.local_server import serving

from vertical_sdk.bases.base import (
    base_names,
    describe_bases,
    estimate_memory,
    fingerprint,
    load_config,
    load_tokenizer,
    pull_base,
)
from vertical_sdk.errors import BaseModelError, OfflineError

COMMIT = "b" * 40
CONFIG = {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 5, "hidden_size": 4, "num_hidden_layers": 1}
CONFIG |= {"num_attention_heads": 1, "intermediate_size": 8, "max_position_embeddings": 16}
WORDS = {"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "fever": 4}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "cache"


def tensors() -> dict[str, Any]:
    return {
        "embeddings.position_ids": np.arange(16).reshape(1, 16),
        "embeddings.position_embeddings.weight": np.ones((16, 4), np.float32),
        "embeddings.word_embeddings.weight": np.arange(20, dtype=np.float32).reshape(5, 4),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model with two small tables."""
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder / "config.json", CONFIG)
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": {"type": "Lowercase"}}
    tokenizer |= {"pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None}
    write(folder / "tokenizer.json", {**tokenizer, "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"}})
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "model_max_length": 12,
    }
    write(folder / "tokenizer_config.json", {**settings, "chat_template": "{{ messages[0].content }}"})
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    save_file(tensors(), folder / "model.safetensors")
    return folder


def write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(json.dumps(table))


def change(path: Path, **keys: Any) -> None:
    write(path, {**json.loads(path.read_text()), **keys})


def test_a_folder_is_a_base(model: Path) -> None:
    base = pull_base(str(model))

    assert (base.path, base.family, base.hub_id) == (model, "encoder", None)
    assert base.parameters == 16 * 4 + 5 * 4
    assert base.max_length == 12
    assert (base.fingerprint.architecture, base.fingerprint.vocab_size, base.fingerprint.license) == (
        "BertModel",
        5,
        "apache-2.0",
    )
    assert load_tokenizer(base)("Fever unknown")["input_ids"] == [4, 0]
    assert load_config(base).hidden_size == 4


def test_a_copy_has_the_same_fingerprint(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "copy")

    assert fingerprint(tmp_path / "copy", "x") == fingerprint(model, "x")


def test_the_fingerprint_does_not_see_how_tensors_are_spread_over_files(model: Path) -> None:
    whole = fingerprint(model, "x")
    table = tensors()
    (model / "model.safetensors").unlink()
    weight_map = {}
    for i, name in enumerate(reversed(table), 1):
        save_file({name: table[name]}, model / f"model-{i}.safetensors", {"format": "pt"})
        weight_map[name] = f"model-{i}.safetensors"
    write(model / "model.safetensors.index.json", {"weight_map": weight_map})

    assert fingerprint(model, "x") == whole

    (model / "model-2.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"model-2\.safetensors: is missing"):
        fingerprint(model, "x")


def test_one_byte_of_a_weight_changes_the_fingerprint(model: Path) -> None:
    before = fingerprint(model, "x")
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "model.safetensors").write_bytes(content)

    after = fingerprint(model, "x")

    assert after.weights != before.weights
    assert after.model_copy(update={"weights": before.weights}) == before


def test_a_word_or_a_special_token_changes_the_tokenizer_alone(model: Path) -> None:
    before = fingerprint(model, "x")
    change(model / "tokenizer_config.json", pad_token="[SEP]")
    other_padding = fingerprint(model, "x")
    table = json.loads((model / "tokenizer.json").read_text())
    table["model"]["vocab"] = {**WORDS, "cough": 5}
    write(model / "tokenizer.json", table)
    other_words = fingerprint(model, "x")

    assert len({before.tokenizer, other_padding.tokenizer, other_words.tokenizer}) == 3
    assert (before.weights, before.chat_template) == (other_words.weights, other_words.chat_template)


def test_truncation_in_a_tokenizer_file_does_not_change_the_fingerprint(model: Path) -> None:
    before = fingerprint(model, "x")
    change(
        model / "tokenizer.json", truncation={"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    )

    assert fingerprint(model, "x").tokenizer == before.tokenizer


def test_another_template_changes_the_fingerprint_alone_there(model: Path) -> None:
    before = fingerprint(model, "x")
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    same_text = fingerprint(model, "x")
    (model / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    other_text = fingerprint(model, "x")

    assert same_text.chat_template == before.chat_template
    assert other_text.chat_template != before.chat_template
    assert (other_text.weights, other_text.tokenizer) == (before.weights, before.tokenizer)


def test_a_fingerprint_is_kept_and_needs_no_torch(model: Path, home: Path) -> None:
    code = (
        f"import sys; from vertical_sdk.bases.base import pull_base; pull_base({str(model)!r}); print('torch' in sys.modules)"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    (kept,) = (home / "fingerprints").iterdir()
    entry = json.loads(kept.read_text())
    entry["digests"]["weights"] = "from the cache"
    write(kept, entry)

    assert fingerprint(model, "x").weights == "from the cache"
    os.utime(model / "model.safetensors", ns=(1, 1))
    assert len(fingerprint(model, "x").weights) == 64


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_cut_safetensors_are_named(model: Path, size: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(BaseModelError, match=r"model\.safetensors: is cut, changed or not safetensors"):
        pull_base(str(model))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [1]},
        "nothing",
    ],
)
def test_a_header_that_does_not_fit_is_refused(model: Path, entry: Any) -> None:
    header = json.dumps({"a": entry}).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))

    with pytest.raises(BaseModelError, match="not safetensors"):
        pull_base(str(model))


def test_a_pickle_is_refused_with_what_to_do(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")

    with pytest.raises(BaseModelError, match=r"only pytorch_model\.bin.*can run hidden code.*save_pretrained"):
        pull_base(str(model))


def test_a_model_that_brings_code_is_refused(model: Path) -> None:
    change(model / "config.json", model_type="homemade", auto_map={"AutoModel": "modeling.Homemade"})

    with pytest.raises(BaseModelError, match="code of its own"):
        pull_base(str(model))

    change(model / "config.json", model_type="bert")
    assert pull_base(str(model)).family == "encoder"


def test_an_adapter_as_base_is_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    (model / "adapter_config.json").write_text("{}")

    with pytest.raises(BaseModelError, match="is an adapter"):
        pull_base(str(model))


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, "causal"),
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "causal"),
        ({"architectures": ["RobertaForMaskedLM"], "model_type": "roberta"}, "encoder"),
        ({"architectures": ["DistilBertForSequenceClassification"], "model_type": "distilbert"}, "encoder"),
        ({"architectures": None, "model_type": "modernbert"}, "encoder"),
    ],
)
def test_the_architecture_decides_the_family(model: Path, keys: dict[str, Any], family: str) -> None:
    change(model / "config.json", **keys)

    assert pull_base(str(model)).family == family


def test_an_unsure_family_is_an_error_that_lists_what_is_known(model: Path) -> None:
    change(model / "config.json", architectures=["T5ForConditionalGeneration"], model_type="t5", is_encoder_decoder=True)

    with pytest.raises(BaseModelError, match=r"T5ForConditionalGeneration.*ForCausalLM"):
        pull_base(str(model))


def test_positions_below_the_padding_token_do_not_count(model: Path) -> None:
    change(
        model / "config.json", architectures=["RobertaModel"], model_type="roberta", max_position_embeddings=514, pad_token_id=1
    )
    change(model / "tokenizer_config.json", model_max_length=10**30)

    assert pull_base(str(model)).max_length == 512


def test_an_unknown_base_is_refused_with_a_similar_name() -> None:
    with pytest.raises(BaseModelError, match=r"'minilm-l7'.*Did you mean 'minilm-l6'\?.*smollm2-135m"):
        pull_base("minilm-l7")
    with pytest.raises(BaseModelError, match="no base model"):
        pull_base("../nowhere/at all")
    for impossible in ("~nobody-of-that-name", "x" * 5000, "a\0b", ""):
        with pytest.raises(BaseModelError):
            pull_base(impossible)


def test_a_revision_is_for_the_hub_only(model: Path) -> None:
    with pytest.raises(BaseModelError, match="only a model of the hub"):
        pull_base(str(model), revision="main")


def test_embedded_bases_are_described_without_a_download(home: Path) -> None:
    found = {info.name: info for info in describe_bases()}

    assert (
        sorted(found)
        == base_names()
        == [
            "efficientnet-lite0",
            "me5-small",
            "minilm-l6",
            "mpnet-base",
            "qwen2.5-coder-0.5b",
            "smollm2-135m",
        ]
    )
    assert not any(info.cached for info in found.values())
    assert found["minilm-l6"].training_bytes > found["minilm-l6"].inference_bytes > 4 * found["minilm-l6"].parameters
    assert not home.exists()


def test_memory_follows_the_formula() -> None:
    layer = 2 * (3 * 5 * 7) * (34 + 5 * 1 * 5 / 7)  # float32: twice the half-precision bytes of Korthikanti et al.

    assert estimate_memory(0, layers=2, hidden=7, heads=1, batch=3, length=5) == pytest.approx(2 * layer)
    assert estimate_memory(100, layers=2, hidden=7, heads=1, batch=3, length=5, training=False) == pytest.approx(400 + layer)
    assert estimate_memory(100, layers=0, hidden=7, heads=1) == 400 + math.floor(100 / 50 * 16)


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub on this machine that has owner/model, and its cache."""
    (model / "pytorch_model.bin").write_bytes(b"never to be fetched")
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            names = sorted(p.name for p in model.iterdir())
            if path.startswith("/api/models/owner/model/revision/"):
                self.answer(
                    json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}).encode()
                )
            elif path.startswith("/api/models/owner/model/tree/"):
                rows = [
                    {"type": "file", "path": n, "size": (model / n).stat().st_size, "oid": f"{i:040x}"}
                    for i, n in enumerate(names)
                ]
                self.answer(json.dumps(rows).encode())
            elif path.startswith(f"/owner/model/resolve/{COMMIT}/") and path.rpartition("/")[2] in names:
                self.answer((model / path.rpartition("/")[2]).read_bytes())
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hash(self.path) & 0xFFFFFFFF:040x}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving(Handler) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield address
    assert not [path for path in asked if path.endswith(".bin")]


def test_a_hub_model_is_fetched_and_then_used_offline(hub: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = pull_base("owner/model")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = pull_base("owner/model")

    assert again == base
    assert (base.hub_id, base.fingerprint.revision, base.fingerprint.license) == ("owner/model", COMMIT, "apache-2.0")
    assert base.fingerprint.weights == fingerprint(model, "x").weights
    assert not (base.path / "pytorch_model.bin").exists()


def test_a_model_missing_on_the_hub_is_refused(hub: str) -> None:
    with pytest.raises(BaseModelError, match=r"no such model.*Did you mean 'minilm-l6'"):
        pull_base("owner/minilm-l5")


@pytest.mark.parametrize("off", ["", "1"])
def test_a_base_without_the_hub_is_refused_with_ways_out(off: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", off)

    with pytest.raises(OfflineError, match=r"cannot be reached.*minilm-l6.*folder.*HF_HOME.*HF_ENDPOINT"):
        pull_base("owner/model")
