"""Fixtures for all tests: two base models small enough to train a whole task in a second, test data, and servers."""

from __future__ import annotations

import csv
import random
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from servers.mlflow_server import delete_models, mlflow_server
from servers.moto_server import make_bucket, s3_server, use_server

WORDS = re.findall(
    r"\w+",
    "the a of and patient has pain fever cough rash skin lung heart chest beat red itch breath slow fast acute severe mild "
    "left right with without since day week reports shows chronic sudden on in very spot scale wheeze pulse",
)
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
TOPICS = {
    "skin": ["rash", "skin", "itch", "red", "spot", "scale"],
    "lung": ["cough", "lung", "breath", "wheeze", "chest", "fever"],
    "heart": ["heart", "pulse", "beat", "fast", "slow", "pain"],
}


SLOW = (
    "training/test_train.py",
    "bad_inputs/test_bad_days.py",
    "test_store_mlflow.py",
    "[mlflow]",
    "test_store_objects.py",
    "contracts/",
    "server/",
    "cli/",
    "test_write_a_vertical.py",
    "test_forecasting_page.py",
    "training/",
    "registry/",
    "inference/",
    "promotion/",
    "bad_inputs/",
    "baselines/",
)
"""Files and folders of slow tests, the slowest first."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run each file in one process, and all tests with MLflow's server in the same process, so it starts once."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "mlflow" if "test_store_mlflow.py" in nodeid or "[mlflow]" in nodeid else super()._split_scope(nodeid)

    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # the order of SLOW, not of the number of tests in a file
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files, so that no process waits for another at the end."""
    items.sort(key=lambda item: next((n for n, name in enumerate(SLOW) if name in item.nodeid), len(SLOW)))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own cache, registry and working folder, without the settings of the developer's environment."""
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path / "home"))
    for name in (
        "COLUMNS",
        "VERTICAL_LICENSES",
        "VERTICAL_REGISTRY",
        "VERTICAL_TOKEN",
        "VERTICAL_TRUSTED_KEYS",
        "VERTICAL_USER",
    ):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "home"


def save_encoder(folder: Path, *, seed: int = 0, vocabulary: list[str] | None = None) -> Path:
    """A BERT of two layers with a word tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(vocabulary or dict.fromkeys(WORDS))])}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,  # the head has dropout, which is enough to have random numbers in training
        attention_probs_dropout_prob=0.0,
        architectures=["BertModel"],
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_causal(folder: Path, *, seed: int = 0, template: str | None = TEMPLATE) -> Path:
    """A Llama of two layers with a byte tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    vocab = {t: i for i, t in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>", model_max_length=256)
    if template:
        tokenizer.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
        architectures=["LlamaForCausalLM"],
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = 1
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def up_weights(backbone: Any) -> list[Any]:
    """The matrices B of an adapter, as PEFT or as light layers hold them."""
    light = getattr(backbone, "low_rank", None)
    if light is not None:
        return [part.up for part in light.parts.values()]
    return [weight for name, weight in backbone.named_parameters() if "lora_B" in name]


def topic_rows(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Make sentences about three topics, which differ in their words."""
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        label = list(TOPICS)[number % 3]
        words = rng.sample(TOPICS[label], 2) + rng.sample(WORDS, 4) + [str(number)]
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


def write_csv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    """Write a CSV file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_workbook(target: Any, sheets: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    """Write an Excel file with these sheets, to a path or a stream of bytes."""
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(target)


def topic_recipe(folder: Path, base: Path, **settings: object) -> Path:
    """Write a recipe for 120 rows of topics and a base in a folder. `settings` are keys with "__" between their parts."""
    import yaml

    data = write_csv(folder / "topics.csv", topic_rows(120))
    recipe: dict[str, object] = {
        "name": "topics",
        "task": "classification",
        "base": str(base),
        "data": {"source": str(data), "columns": {"text": "text", "label": "label"}, "max_length": 48, "decontaminate": None},
        "adapter": {"r": 4, "lora_alpha": 8},
        "train": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 8,
            "learning_rate": 0.01,
            "bf16": False,
            "token_budget": 128,
        },
        "evaluate": {
            "baselines": ["base", "probe", "tfidf"],
            "resamples": 100,
            "gate": {"metric": "macro_f1", "beats": ["base"]},
        },
    }
    for key, value in settings.items():
        here = recipe
        *path, last = key.split("__")
        for step in path:
            here = here.setdefault(step, {})  # type: ignore[assignment]
        here[last] = value
    path = folder / "topics.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder."""
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny causal model with a chat template."""
    return save_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """A function that mounts a file system until the test ends. It skips the test without the right to mount."""
    mounted: list[str] = []

    def mount_until_end(*arguments: str) -> None:
        try:
            subprocess.run(["mount", *arguments], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mount is not allowed here")
        mounted.append(arguments[-1])

    yield mount_until_end
    for target in dict.fromkeys(mounted):
        subprocess.run(["umount", "--lazy", target], check=True)


@pytest.fixture(scope="session")
def mlflow_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server. It takes some seconds to start, so all tests of a process share it."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def mlflow_address(mlflow_started: str) -> str:
    """The address of an MLflow server without registered models."""
    delete_models(mlflow_started)
    return mlflow_started


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of an S3 server."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket (s3://…). This process's AWS clients can use it."""
    use_server(monkeypatch, moto)
    return make_bucket(f"b-{uuid.uuid4().hex}")
