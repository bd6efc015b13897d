"""Parts attach, classify and on-demand of benchmarks/inference.py: many adapters on minilm-l6, which classify short texts."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BASE = "minilm-l6"
LABELS = ("cardiology", "dermatology", "neurology", "oncology", "paediatrics", "surgery", "urology", "none")
WORDS = (
    "patient",
    "fever",
    "with",
    "cough",
    "red",
    "skin",
    "itch",
    "heart",
    "pain",
    "in the chest",
    "after surgery",
    "of a child",
    "rash",
)
SHORT = "patient with fever and cough after surgery of a child in the chest pain red skin"
RANK = 8
CLOSE = 1e-5
BATCH = 64
SKEW = 1.0
"""Exponent of Zipf's law: the n-th most popular adapter gets 1 / n of the requests of the first."""


def write_adapters(folder: Path, count: int) -> list[Path]:
    """Write complete adapters with random weights: LoRA on all linear layers, a head, self-tests, a card."""
    import torch

    from vertical_sdk.adapters.self_test import Whole, record_self_tests
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.card import Calibration, Card, write_card
    from vertical_sdk.families.specialist import create_specialist
    from vertical_sdk.recipe import Recipe
    from vertical_sdk.types import LabelSpace

    base, labels = pull_base(BASE), LabelSpace(LABELS)
    adapter = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear"}
    recipe = Recipe.model_validate(
        {
            "name": "bench",
            "task": "classification",
            "base": BASE,
            "data": {"source": "x.csv"},
            "adapter": adapter,
            "ensemble": [],
        }
    )
    specialist: Any = create_specialist(base, recipe, labels).eval()  # type: ignore[attr-defined]
    trained = [parameter for parameter in specialist.parameters() if parameter.requires_grad]
    folders = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in trained:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / (20 if parameter.shape[-1] > RANK else 30))
            specialist.head.linear.weight.copy_(torch.randn(len(LABELS), 384, generator=generator) * 3)
        own = folder / f"adapter-{number}"
        own.mkdir(parents=True)
        specialist.backbone.save_pretrained(str(own), save_embedding_layers=False)
        specialist.save(own)
        card = Card(
            name=own.name,
            task="classification",
            family="encoder",
            base=base.fingerprint,
            recipe=recipe.to_dict(),
            recipe_digest=recipe.digest,
            labels=labels,
            self_tests=record_self_tests(specialist, Whole(None, Calibration())),
        )
        write_card(own, card)
        folders.append(own)
    return folders


def write_rows(count: int, seed: int) -> list[Any]:
    """Texts of 8 to 40 words."""
    from vertical_sdk.types import Example

    rng = random.Random(seed)
    texts = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(8, 40))) for _ in range(count)]
    return [Example(id=f"{seed}-{n}", text=text) for n, text in enumerate(texts)]


def time_in_turns(systems: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The shortest time of each system in milliseconds; they take turns, after one round that does not count."""
    best: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, run in systems.items():
            begun = time.perf_counter()
            run()
            if number:
                best[name] = min(best.get(name, float("inf")), 1e3 * (time.perf_counter() - begun))
    return best


def measure_attach(loaded: int, rounds: int) -> dict[str, Any]:
    """Milliseconds from the folder to an adapter that answers, with and without its self-tests, and of PEFT's load_adapter.

    At the start, and with `loaded` adapters in memory. Every load reads files that were not read before.
    """
    import peft

    from vertical_sdk import paths
    from vertical_sdk.adapters import load as loading
    from vertical_sdk.adapters.folder import read_adapter
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.engines.torch import TorchEngine
    from vertical_sdk.families.lora import hide_peft_notice
    from vertical_sdk.families.specialist import load_backbone
    from vertical_sdk.inference.model import VerticalModel

    replay, replayed = loading.replay_self_tests, []

    def time_self_tests(*arguments: Any, **options: Any) -> None:
        begun = time.perf_counter()
        replay(*arguments, **options)
        replayed.append(1e3 * (time.perf_counter() - begun))

    loading.replay_self_tests = time_self_tests
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as after:
        after.callback(setattr, loading, "replay_self_tests", replay)
        folders = write_adapters(Path(place), loaded + rounds + 2)
        base = pull_base(BASE)
        engine, backbone = TorchEngine(base), load_backbone(base)

        def attach(folder: Path) -> float:
            paths._known.clear()  # as in a new process: every file is read and compared
            begun = time.perf_counter()
            engine.load(read_adapter(folder), folder.name)
            return 1e3 * (time.perf_counter() - begun)

        attach(folders[0])
        with hide_peft_notice():
            model: Any = peft.PeftModel.from_pretrained(backbone, str(folders[0]), adapter_name=folders[0].name)

        def attach_by_peft(folder: Path) -> float:
            begun = time.perf_counter()
            model.load_adapter(str(folder), adapter_name=folder.name)
            return 1e3 * (time.perf_counter() - begun)

        times = []
        for position, folder in enumerate(folders[1:], 1):
            theirs = attach_by_peft(folder) if position <= rounds else None
            times.append((attach(folder), replayed[-1], theirs))
        first, last = times[:rounds], times[-rounds:]
        row, names = write_rows(1, 0), engine.adapters
        switches = iter(names * 1000)
        model = VerticalModel(engine, names[0])
        calls = time_in_turns(
            {
                "the same adapter": lambda: engine.outputs(row, [names[0]]),
                "another each time": lambda: engine.outputs(row, [next(switches)]),
                "predict one": lambda: model.predict([SHORT]),
            },
            10 * rounds,
        )
        hundred = time_in_turns({"predict": lambda: model.predict(write_rows(100, 0))}, rounds)["predict"]
    best = {
        "PEFT's load_adapter": min(theirs for _, _, theirs in first if theirs is not None),
        "attach, self-tests included": min(whole for whole, _, _ in first),
        "of which self-tests": min(tests for _, tests, _ in first),
        f"attach beside {loaded} others, self-tests included": min(whole for whole, _, _ in last),
        "one text": calls["the same adapter"],
        f"one text, with another of {len(names)} adapters each time": calls["another each time"],
        "VerticalModel.predict of one text of 16 words": calls["predict one"],
        "VerticalModel.predict of 100 texts": hundred,
    }
    medians = {
        "PEFT's load_adapter": statistics.median(theirs for _, _, theirs in first if theirs is not None),
        "attach, self-tests included": statistics.median(whole for whole, _, _ in first),
        f"attach beside {loaded} others, self-tests included": statistics.median(whole for whole, _, _ in last),
    }
    return {"least_ms": _round(best), "median_ms": _round(medians)}


def measure_classify(counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """One batch of 64 texts for several adapters: the engine, the engine without adapters, and PEFT's set_adapter in a loop."""
    import numpy as np
    import peft
    import torch

    from vertical_sdk.adapters.folder import read_adapter
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.engines.torch import TorchEngine
    from vertical_sdk.families.lora import hide_peft_notice
    from vertical_sdk.families.shared_base import use_base
    from vertical_sdk.families.specialist import load_backbone

    results = []
    with tempfile.TemporaryDirectory() as place:
        folders = write_adapters(Path(place), max(counts))
        base = pull_base(BASE)
        engine, model = TorchEngine(base), None
        rows = write_rows(BATCH, 1)
        for number, folder in enumerate(folders):
            engine.load(read_adapter(folder), folder.name)
            if number < min(16, max(counts)):
                with hide_peft_notice():
                    if model is None:
                        model = peft.PeftModel.from_pretrained(
                            load_backbone(base), str(folder), adapter_name=folder.name
                        ).eval()
                    else:
                        model.load_adapter(str(folder), adapter_name=folder.name)
        for count in counts:
            names = [folders[n % count].name for n in range(BATCH)]

            def run_base() -> Any:
                with use_base():
                    return engine.outputs(rows, [folders[0].name] * BATCH)

            def run_by_peft(names: Sequence[str] = names, model: Any = model) -> dict[int, Any]:
                found = {}
                for name in dict.fromkeys(names):
                    model.set_adapter(name)
                    specialist: Any = engine.specialist(name)
                    positions = [n for n, owner in enumerate(names) if owner == name]
                    batch = specialist.collate([specialist.encode(rows[n], learn=False) for n in positions])
                    with torch.inference_mode():
                        hidden = model(**batch).last_hidden_state
                        found |= zip(positions, specialist.read_hidden(hidden, batch).numpy(), strict=True)
                return found

            systems: dict[str, Callable[[], Any]] = {
                "base alone": run_base,
                "mixed": lambda names=names: engine.outputs(rows, names),  # type: ignore[misc]
            }
            if count <= 16:
                systems["PEFT's loop"] = run_by_peft
            mixed = [raw.values for raw in systems["mixed"]()]
            alone = [engine.outputs([row], [name])[0].values for row, name in zip(rows, names, strict=True)]
            difference = max(float(np.abs(one - other).max()) for one, other in zip(mixed, alone, strict=True))
            assert difference < CLOSE, difference
            assert [one.argmax() for one in mixed] == [one.argmax() for one in alone]
            if count <= 16:
                theirs = run_by_peft()
                assert max(float(np.abs(theirs[n] - mixed[n]).max()) for n in range(BATCH)) < 10 * CLOSE
            times = time_in_turns(systems, rounds)
            ratios = {
                f"{name} / base alone": value / times["base alone"] for name, value in times.items() if name != "base alone"
            }
            results.append({"adapters": count, "ms": _round(times), **_round(ratios), "largest_difference": difference})
    return results


def measure_on_demand(registered: int, resident: int, rounds: int) -> dict[str, Any]:
    """Batches of 64 texts by adapters of a Zipf distribution: room for a few of them, and room for all."""
    import numpy as np

    from vertical_sdk.adapters.folder import Adapter, read_adapter
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.engines import OnDemandEngine
    from vertical_sdk.engines.torch import TorchEngine

    with tempfile.TemporaryDirectory() as place:
        folders = {folder.name: folder for folder in write_adapters(Path(place), registered)}
        size = sum(path.stat().st_size for path in folders["adapter-0"].glob("*.safetensors"))
        base = pull_base(BASE)

        def find(name: str) -> Adapter:
            return read_adapter(folders[name])

        few = OnDemandEngine(TorchEngine(base), find, memory=resident * size)
        everything = OnDemandEngine(TorchEngine(base), find, memory=registered * size)
        for name in folders:  # once each, as a server that has run for some time
            few.outputs(write_rows(1, 0), [name])
            everything.outputs(write_rows(1, 0), [name])
        rng = random.Random(0)
        weights = [1 / n**SKEW for n in range(1, registered + 1)]
        batches = [(write_rows(BATCH, n), rng.choices(list(folders), weights, k=BATCH)) for n in range(rounds + 2)]
        missing, shares, times = 0, [], {"few": 0.0, "all": 0.0}
        for number, (rows, names) in enumerate(batches):
            absent = len(set(names) - set(few.adapters))
            spent = {}
            for system, engine in (("few", few), ("all", everything)):
                begun = time.perf_counter()
                raw = engine.outputs(rows, names)
                spent[system] = time.perf_counter() - begun
                if system == "few":
                    alone = everything.outputs(rows[:1], names[:1])[0].values
                    assert float(np.abs(raw[0].values - alone).max()) < CLOSE
            if number >= 2:
                missing += absent
                shares.append(spent["all"] / spent["few"])
                times = {system: times[system] + spent[system] for system in times}
        assert len(few.adapters) <= resident < len(everything.adapters) == registered
    return {
        "registered": registered,
        "resident": resident,
        "loads_per_batch": round(missing / rounds, 1),
        "texts_per_second": {system: round(BATCH * rounds / value, 1) for system, value in times.items()},
        "median_share_of_all_resident": round(statistics.median(shares), 3),
    }


def _round(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in numbers.items()}


def measure_parts(parts: Sequence[str], rounds: int, registered: int) -> dict[str, Any]:
    """Measure those of attach, classify and on-demand that are named."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found: dict[str, Any] = {}
    if "attach" in parts:
        found["attach"] = measure_attach(min(200, registered), rounds)
    if "classify" in parts:
        found["classify"] = measure_classify((4, 16, 64), rounds)
    if "on-demand" in parts:
        found["on-demand"] = measure_on_demand(registered, 64, rounds)
    return found
