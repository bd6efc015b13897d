"""Training and answers stay what they were recorded to be: one tiny recipe for each family and task, seed 0.

`recorded/behaviour.json` holds, for each recipe, the digests of the trained files and every answer. On the kind of processor
that recorded them the digests must be equal; on any other, where float32 rounds differently, the answers must agree within
TOLERANCE. After a change that is meant to alter results, record again and say why in the commit; with names, only these cases:

    python tests/contracts/test_recorded_behaviour.py [FAMILY/TASK]...
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

RECORDED = Path(__file__).parent / "recorded" / "behaviour.json"
TOLERANCE = 5e-3
TRAIN = {
    "max_steps": 6,
    "per_device_train_batch_size": 8,
    "learning_rate": 0.01,
    "bf16": False,
    "token_budget": 256,
    "seed": 0,
}
WORDS = ("rash", "skin", "itch", "cough", "lung", "breath", "heart", "pulse", "beat")
TOPICS = ("skin", "lung", "heart")


def sentences(count: int) -> list[tuple[str, int]]:
    """Texts of five words, two of them about one of three topics, with the topic's number."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        topic = number % 3
        words = [*rng.choice(WORDS[3 * topic : 3 * topic + 3], 2, replace=False), *rng.choice(WORDS, 2), str(number)]
        rows.append((" ".join(words), topic))
    return rows


def write_text_rows(folder: Path, task: str) -> Path:
    """A JSON-lines file of 90 rows for a task on texts."""
    targets: dict[str, Callable[[str, int], dict[str, Any]]] = {
        "classification": lambda text, topic: {"text": text, "label": TOPICS[topic]},
        "ordinal": lambda text, topic: {"text": text, "label": TOPICS[topic]},
        "multilabel": lambda text, topic: {"text": text, "label": [TOPICS[topic], *(["rash"] if "rash" in text else [])]},
        "regression": lambda text, topic: {"text": text, "label": topic * 1.5 + len(text) / 50},
        "generation": lambda text, topic: {
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": TOPICS[topic]}]
        },
    }
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(targets[task](*row)) + "\n" for row in sentences(90)), encoding="utf-8")
    return path


def text_recipe(folder: Path, base: Path, task: str) -> dict[str, Any]:
    keys = {"messages": "messages"} if task == "generation" else {"text": "text", "label": "label"}
    recipe: dict[str, Any] = {
        "name": "recorded",
        "task": task,
        "base": str(base),
        "data": {
            "source": str(write_text_rows(folder, task)),
            "columns": keys,
            "max_length": 96,
            "decontaminate": None,
        },
        "adapter": {"r": 4, "lora_alpha": 8},
        "train": TRAIN,
    }
    if task == "ordinal":
        recipe["labels"] = list(TOPICS)
    if task != "generation":
        recipe["ensemble"] = ["tfidf", "probe"] if task != "ordinal" else ["tfidf", "majority"]
    return recipe


def waves(count: int) -> np.ndarray:
    """(count, 2) hourly values of two waves of a day."""
    hours = np.arange(count)
    wave = 50 + 10 * np.sin(hours / 24 * 2 * np.pi)
    return np.stack([wave, wave + 5], axis=1) + np.random.default_rng(0).normal(0, 0.5, (count, 2))


def series_recipe(folder: Path, base: Path, task: str) -> dict[str, Any]:
    data: dict[str, Any] = {"modality": "series", "clean": [], "decontaminate": None}
    recipe: dict[str, Any] = {"name": "recorded", "task": task, "base": str(base), "data": data, "train": TRAIN}
    path = folder / "rows.csv"
    if task in {"forecasting", "anomaly"}:
        start = datetime(2024, 1, 1)
        lines = [f"{start + timedelta(hours=n)},{a:.2f},{b:.2f}" for n, (a, b) in enumerate(waves(240))]
        path.write_text("\n".join(["time,north,south", *lines]) + "\n")
        ahead = task == "forecasting"
        data["reader"] = {"use": "series", "history": 6, "horizon": 3 if ahead else 1, "block": 3600}
        data["split"] = {"use": "time", "test": 0.2, "validation": 0.2, "gap": 4}
        recipe["series"] = {"tokens": "channels", "quantiles": [0.05, 0.95] if ahead else [], "alarms": 0.1}
        recipe["loss"] = "quantile" if ahead else "masked_mae"
        if ahead:
            recipe["ensemble"] = ["persistence", "linear", "seasonal"]
    else:
        rng = np.random.default_rng(0)
        lines = [",".join([*(f"s{k}" for k in range(8)), "kind"])]
        for n in range(90):
            values = np.linspace(-1, 1, 8) * (1 if n % 2 else -1) + rng.normal(0, 0.1, 8)
            target = ("up" if n % 2 else "down") if task == "classification" else f"{values.sum():.4f}"
            lines.append(",".join([*(f"{v:.3f}" for v in values), target]))
        path.write_text("\n".join(lines) + "\n")
        data["reader"] = {"use": "table", "values": "all"}
        data["columns"] = {"label": "kind"}
        recipe["series"] = {"patch": 4}
    data["source"] = str(path)
    recipe["evaluate"] = {"baselines": ["persistence" if task == "forecasting" else "zscore" if task == "anomaly" else "probe"]}
    return recipe


def records_recipe(folder: Path, base: Path, task: str) -> dict[str, Any]:
    """Records of a number, a word and a number that is often missing."""
    rng = np.random.default_rng(0)
    targets: dict[str, Callable[[float, str], object]] = {
        "classification": lambda beat, skin: TOPICS[int(beat > 60) + (skin == "rash")],
        "ordinal": lambda beat, skin: TOPICS[int(beat > 60) + (skin == "rash")],
        "multilabel": lambda beat, skin: [*(["heart"] if beat > 60 else []), *(["skin"] if skin == "rash" else [])],
        "regression": lambda beat, skin: round(beat / 10 + 3 * (skin == "rash"), 3),
    }
    lines = []
    for number in range(90):
        beat, skin = round(float(rng.uniform(40, 100)), 2), ("rash", "itch", "cough")[number % 3]
        record = {"heart beat": beat, "skin": skin, "pulse": None if number % 4 else beat + 1}
        lines.append(json.dumps(record | {"kind": targets[task](beat, skin)}) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines))
    data = {"source": str(folder / "rows.jsonl"), "modality": "records", "columns": {"label": "kind"}, "decontaminate": None}
    recipe: dict[str, Any] = {
        "name": "recorded",
        "task": task,
        "base": str(base),
        "data": data | {"reader": {"use": "table", "record": "all"}},
        "records": {"bins": 8, "steps": 20},
        "adapter": {"r": 4, "lora_alpha": 8},
        "ensemble": ["boosted_trees", "probe"],
        "evaluate": {"baselines": ["probe"]},
        "train": TRAIN,
    }
    return recipe | ({"labels": list(TOPICS)} if task == "ordinal" else {})


def image_recipe(folder: Path, base: Path, task: str) -> dict[str, Any]:
    stripes = np.tile((np.arange(16) % 4 < 2) * 150, (16, 1))
    noise = np.random.default_rng(0).integers(0, 100, (90, 16, 16))
    images = np.stack([stripes if n % 2 else stripes.T for n in range(90)]) + noise
    labels = np.arange(90) % 2
    arrays = {"train_images": images[:60], "val_images": images[60:]}
    np.savez(
        folder / "rows.npz",
        train_labels=labels[:60],
        val_labels=labels[60:],
        **{name: part.astype(np.uint8) for name, part in arrays.items()},
    )
    return {
        "name": "recorded",
        "task": task,
        "base": str(base),
        "domain": "medical",
        "data": {
            "source": str(folder / "rows.npz"),
            "modality": "image",
            "reader": {"use": "medical.medmnist", "names": ["lying", "standing"]},
            "clean": [],
            "split": {"use": "given", "validation": 0.2},
            "decontaminate": None,
        },
        "image": {"size": 16},
        "adapter": {"r": 4, "lora_alpha": 8},
        "ensemble": ["pixels", "probe"],
        "evaluate": {"baselines": ["probe"]},
        "train": TRAIN,
    }


CASES = (
    *(("encoder", task) for task in ("classification", "multilabel", "ordinal", "regression")),
    *(("causal", task) for task in ("classification", "multilabel", "ordinal", "regression", "generation")),
    *(("series", task) for task in ("classification", "regression", "forecasting", "anomaly")),
    *(("records", task) for task in ("classification", "multilabel", "ordinal", "regression")),
    ("vision", "classification"),
)


def save_vision(folder: Path) -> Path:
    """A ResNet of two stages."""
    import torch
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    ResNetModel(ResNetConfig(**sizes, architectures=["ResNetModel"])).save_pretrained(folder)
    return folder


def recipe_for(folder: Path, family: str, task: str) -> dict[str, Any]:
    from conftest import save_causal, save_encoder

    if family == "vision":
        return image_recipe(folder, save_vision(folder / "base"), task)
    base = (save_causal if family == "causal" else save_encoder)(folder / "base")
    return {"series": series_recipe, "records": records_recipe}.get(family, text_recipe)(folder, base, task)


def digest(path: Path) -> str | None:
    """SHA-256 over the numbers of a safetensors file, whatever its tensors are called; None if the file does not exist."""
    if not path.is_file():
        return None
    arrays = [array for array in load_file(path).values() if array.dtype != np.uint8]
    parts = sorted(f"{array.dtype}{array.shape}".encode() + array.tobytes() for array in arrays)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def answers(run: Path, family: str, task: str) -> list[Any]:
    """What the specialist of a run says about eight inputs."""
    from vertical_sdk import VerticalModel

    model = VerticalModel.from_pretrained(run)
    if task == "generation":
        return [answer.text for answer in model.generate([text for text, _ in sentences(8)], max_new_tokens=8)]
    if task == "forecasting":
        hours = pd.date_range("2024-02-01", periods=30, freq="h")
        forecast = model.forecast(pd.DataFrame(waves(30), index=hours, columns=["north", "south"]))
        return [forecast.mean.to_numpy().tolist(), *(table.to_numpy().tolist() for table in forecast.quantiles.values())]
    if task == "anomaly":
        monitor = model.monitor()
        start = datetime(2024, 2, 1)
        alarms = [monitor.update(value, start + timedelta(hours=n)) for n, value in enumerate(waves(14))]
        return [
            [None if np.isnan(alarm.score) else alarm.score, bool(alarm.alarm), *map(float, alarm.expected)] for alarm in alarms
        ]
    inputs: list[Any] = [text for text, _ in sentences(8)]
    if family == "series":
        inputs = [np.linspace(-1, 1, 8) * sign for sign in (-1, -0.5, 0.5, 1)]
    if family == "records":
        beats = ({"heart beat": beat, "pulse": None} for beat in (45.0, 85.0))
        inputs = [beat | {"skin": skin} for beat in beats for skin in ("rash", "cough", "fever", None)]
    if family == "vision":
        inputs = [np.random.default_rng(n).integers(0, 255, (16, 16)).astype(np.uint8) for n in range(4)]
    return [[item.label, dict(item.probabilities), item.interval] for item in model.predict(inputs)]


def behaviour(folder: Path, family: str, task: str) -> dict[str, Any]:
    """Train one tiny recipe and ask it: digests of what was trained, and the answers."""
    import torch

    from vertical_sdk import train
    from vertical_sdk.recipe import Recipe

    torch.set_num_threads(1)
    run = train(Recipe.model_validate(recipe_for(folder, family, task)), out=folder / "run").path
    files = ("adapter_model", "head", "records", "series", "ensemble", "probe")
    digests = {name: digest(run / "adapter" / f"{name}.safetensors") for name in files}
    return json.loads(json.dumps({"digests": digests, "answers": answers(run, family, task)}))


def machine() -> dict[str, str]:
    """What decides how float32 rounds."""
    import sklearn
    import torch

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    kind = [facts.get(name, "") for name in ("model name", "cpu family", "model", "stepping")]
    flags = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:16]  # one name may be that of several kinds
    return {
        "processor": " ".join([*kind, flags]),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "sklearn": sklearn.__version__,
    }


def assert_close(actual: Any, expected: Any, where: str = "answers") -> None:
    """Compare nested lists and mappings: numbers within TOLERANCE, relative to their size; all else exactly."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            assert_close(actual[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_close(one, other, f"{where}[{number}]")
    elif isinstance(expected, float) and not isinstance(expected, bool):
        assert actual == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE, nan_ok=True), where
    else:
        assert actual == expected, where


@pytest.mark.parametrize(("family", "task"), CASES)
def test_a_tiny_recipe_trains_and_answers_as_recorded(family: str, task: str, tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text())
    expected = dict(recorded["cases"][f"{family}/{task}"])
    where = expected.pop("machine", recorded["machine"])

    actual = behaviour(tmp_path, family, task)

    if where == machine():
        assert actual == expected
    else:
        assert {name for name, value in actual["digests"].items() if value} == {
            name for name, value in expected["digests"].items() if value
        }
        assert_close(actual["answers"], expected["answers"])


def test_every_family_and_task_is_recorded() -> None:
    assert set(json.loads(RECORDED.read_text())["cases"]) == {"/".join(case) for case in CASES}


def record(names: Sequence[str]) -> None:
    """Write RECORDED for this machine; only the named cases if there are names."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    known = json.loads(RECORDED.read_text()) if names else {"machine": machine(), "cases": {}}
    own = {} if known["machine"] == machine() else {"machine": machine()}
    for case in CASES:
        if names and "/".join(case) not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            known["cases"]["/".join(case)] = own | behaviour(Path(folder), *case)
            print("recorded", *case, flush=True)
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    record(sys.argv[1:])
