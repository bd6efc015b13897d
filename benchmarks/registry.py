"""Measure the registry: how fast look-ups are, and which failures it survives.

    python benchmarks/registry.py [lookups] [search] [publishers] [kills] [damage] [attach] [--versions N...] [--json]

lookups     one reference among 10, 1,000 and 100,000 versions, beside MLflow's registry on SQLite and the hub client's cache, in turns;
            and the first look of a fresh process
search      a page of the list and of searches among the most versions
publishers  8 processes publish 200 versions each to one name, in a folder and on an S3 server of this machine (moto)
kills       publishers killed at 200 random moments
damage      500 bytes changed at random places of a store, and 100 hostile names, manifests and bundles
attach      a 5 MB adapter from the registry onto its base, beside PEFT alone from a folder, in turns

Without names, all of them run. Most versions in the first two are entered into the index alone, as publish enters them, without
files; the versions that are looked up are published completely.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vertical_sdk.card import Card, Fingerprint, write_card
from vertical_sdk.errors import VerticalError
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry import Registry
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.store import Event

PER_NAME = 10
LOOKED_UP = 20
ROUNDS = 300
PROCESSES, EACH = 8, 200
KILLS, FLIPS, INDEX = 200, 500, 0.2


def write_adapter(folder: Path, number: int, name: str = "bench/task") -> Path:
    """A folder that may be published, of a few hundred weights, other ones for each number."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    weights = {
        "base_model.model.query.lora_A.weight": np.ones((8, 16), np.float32),
        "base_model.model.query.lora_B.weight": np.full((16, 8), number, np.float32),
    }
    save_file(weights, folder / "adapter_model.safetensors")
    base = Fingerprint(name="none", architecture="none", weights="0" * 64, tokenizer="0" * 64, vocab_size=1)
    keys = {"name": name, "task": "classification", "data": {"source": "rows.csv"}, "evaluate": {"gate": False}}
    recipe = Recipe.model_validate(keys)
    facts = {"recipe": recipe.to_dict(), "recipe_digest": recipe.digest}
    write_card(folder, Card(name=name, task="classification", family="encoder", base=base, **facts))
    return folder


def median(of: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Milliseconds of a call, the median of so many."""
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        of()
        found.append(time.perf_counter() - begun)
    return statistics.median(found) * 1e3


# ── look-ups ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def filled(root: Path, versions: int) -> Registry:
    """A registry with so many versions, of which LOOKED_UP (or as many as there is room for) are whole and have an alias."""
    registry = Registry(root / "registry", Policy())
    rng = random.Random(0)
    whole = min(LOOKED_UP, versions)
    for n in range(whole):
        name = f"whole/task-{n}"
        version = registry.publish(write_adapter(root / "adapter", n, name))
        registry.set_alias(name, "production", version.number, force=True, why="a benchmark")
    index = registry.store.index  # type: ignore[attr-defined]
    with index.writing():
        for n in range(versions - whole):
            name = f"domain{n // PER_NAME % 50}/task-{n // PER_NAME}"
            facts = {
                "domain": [name.partition("/")[0]],
                "task": ["classification"],
                "base": ["minilm-l6"],
                "license": [rng.choice(["mit", "cc-by-4.0"])],
            }
            metrics = {"macro_f1": rng.random(), "accuracy": rng.random(), "ece": rng.random()}
            record = {"task": "classification", "base": "minilm-l6", "metric": "macro_f1", "value": metrics["macro_f1"]}
            record |= {"gate": "passed", "forced": False, "reason": "", "facts": facts, "metrics": metrics}
            event = Event(at="2026-01-01T00:00:00+00:00", who="bench", name=name, action="publish")
            index.add(
                name, hashlib.sha256(str(n).encode()).hexdigest(), record, {"stage": "pilot"} if n % 4 == 0 else {}, event
            )
    return registry


def mlflow_filled(root: Path, versions: int) -> str:
    """MLflow's registry on SQLite with as many versions; the address."""
    import sqlite3

    address = f"sqlite:///{root}/mlflow.sqlite"
    client = mlflow_client(address)
    for n in range(min(LOOKED_UP, versions)):
        client.create_registered_model(f"whole-{n}")
        client.create_model_version(f"whole-{n}", source="file:///nowhere")
        client.set_registered_model_alias(f"whole-{n}", "production", "1")
    with contextlib.closing(sqlite3.connect(f"{root}/mlflow.sqlite")) as connection, connection:
        like = "SELECT * FROM {} LIMIT 1"
        for table, count in (("registered_models", -(-versions // PER_NAME)), ("model_versions", versions)):
            cursor = connection.execute(like.format(table))
            columns = [column[0] for column in cursor.description]
            row = dict(zip(columns, cursor.fetchone(), strict=True))
            rows = []
            for n in range(count):
                name = f"task-{n if table == 'registered_models' else n // PER_NAME}"
                rows.append(tuple({**row, "name": name, "version": n % PER_NAME + 1}[column] for column in columns))
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
    return address


def mlflow_client(address: str) -> Any:
    """MLflow's client, without its telemetry and its log."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

    logging.disable(logging.WARNING)
    return MlflowClient(tracking_uri=address, registry_uri=address)


def hub_cache(root: Path) -> Path:
    """A cache as the hub's client keeps it, with one model."""
    model = root / "hub" / "models--org--task"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    (model / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (model / "snapshots" / ("0" * 40) / "adapter_model.safetensors").write_bytes(b"")
    return root / "hub"


OURS = "from vertical_sdk.registry import Registry; Registry({!r}).resolve('whole/task-3@production')"
MLFLOW = "from mlflow import MlflowClient; MlflowClient({0!r}, {0!r}).get_model_version_by_alias('whole-3', 'production')"
HUB = "from huggingface_hub import try_to_load_from_cache; try_to_load_from_cache('org/task', 'adapter_model.safetensors', cache_dir={!r})"


def lookups(counts: list[int]) -> dict[str, Any]:
    """Milliseconds by number of versions."""

    found: dict[str, Any] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            found[str(count)] = looked_up(Path(folder), count)
    return found


def looked_up(root: Path, count: int) -> dict[str, Any]:
    """Milliseconds among so many versions: ours, MLflow's and the hub client's, in turns."""
    from huggingface_hub import try_to_load_from_cache

    registry, address, cache = filled(root, count), mlflow_filled(root, count), hub_cache(root)
    client = mlflow_client(address)
    known = min(LOOKED_UP, count)
    turn = iter(range(10**9))
    calls: dict[str, Callable[[], Any]] = {
        "by alias": lambda: registry.resolve(f"whole/task-{next(turn) % known}@production", check=False),
        "by number": lambda: registry.resolve(f"whole/task-{next(turn) % known}@1", check=False),
        "by alias, files compared": lambda: registry.resolve(f"whole/task-{next(turn) % known}@production"),
        "MLflow by alias": lambda: client.get_model_version_by_alias(f"whole-{next(turn) % known}", "production"),
        "hub cache": lambda: try_to_load_from_cache("org/task", "adapter_model.safetensors", cache_dir=cache),
    }
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(6):
        for name, call in calls.items():
            rounds[name].append(median(call, ROUNDS // 5))
    found: dict[str, Any] = {name: statistics.median(values[1:]) for name, values in rounds.items()}
    registry.close()
    fresh = {
        "by alias": OURS.format(registry.location),
        "MLflow by alias": MLFLOW.format(address),
        "hub cache": HUB.format(str(cache)),
    }
    found["first look of a process"] = {name: started(code) for name, code in fresh.items()}
    return found


def started(code: str) -> float:
    """Milliseconds of a process that does this, beyond one that does nothing; the least of three."""

    def run(what: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", what], check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - begun

    return (min(run(code) for _ in range(3)) - min(run("pass") for _ in range(3))) * 1e3


def search(counts: list[int]) -> dict[str, float]:
    """Milliseconds of a page of 50, among the most versions."""
    with tempfile.TemporaryDirectory() as folder:
        registry = filled(Path(folder), max(counts))
        names = registry.store.names()
        calls: dict[str, Callable[[], Any]] = {
            "list": lambda: registry.list_adapters(limit=50),
            "list, from the middle": lambda: registry.list_adapters(after=names[len(names) // 2], limit=50),
            "list of a prefix": lambda: registry.list_adapters("domain7/", limit=50),
        }
        for asked in (
            "domain=domain7",
            "macro_f1>0.999",
            "macro_f1>2",
            "domain=domain7 license=mit macro_f1>0.9",
            "license=mit macro_f1>0.99999",
            "tag.stage=pilot macro_f1>0.5",
            "macro_f1>0.5 accuracy>0.9999",
        ):
            calls[asked] = lambda asked=asked: registry.search(*asked.split(), limit=50)
        return {name: median(call, 15) for name, call in calls.items()}


# ── publishers ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

PUBLISHER = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, {benchmarks!r})
from registry import write_adapter
from vertical_sdk.registry import Registry

location, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
registry = Registry(location)
with tempfile.TemporaryDirectory() as folder:
    for number in range(first, first + count):
        print(registry.publish(write_adapter(Path(folder) / "adapter", number)).number, flush=True)
"""


def publisher(location: str, first: int, count: int) -> subprocess.Popen[str]:
    """A process that publishes versions of one name, and prints their numbers."""
    code = PUBLISHER.format(benchmarks=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, location, str(first), str(count)], stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def s3_registry() -> Iterator[str]:
    """An S3 server on this machine with an empty bucket; the location of a registry in it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import botocore.session
    from servers.moto_server import CREDENTIALS, s3_server

    with s3_server() as address:
        os.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": address}
        botocore.session.get_session().create_client("s3").create_bucket(Bucket="bench")
        yield "s3://bench/registry"


def publishers() -> dict[str, Any]:
    """What 8 publishers of one name come to, in a folder and on S3."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, s3_registry() as bucket:
        os.environ["VERTICAL_HOME"] = f"{folder}/home"
        for kind, location in (("file", f"{folder}/registry"), ("s3", bucket)):
            begun = time.monotonic()
            children = [publisher(location, n * EACH, EACH) for n in range(PROCESSES)]
            numbers = [int(line) for child in children for line in child.communicate()[0].split()]
            seconds = time.monotonic() - begun
            registry = Registry(location)
            kept = [version.number for version in registry.versions("bench/task")]
            found[kind] = {
                "published": len(numbers),
                "distinct": len(set(numbers)),
                "kept": len(kept),
                "in order": kept == list(range(1, len(kept) + 1)),
                "problems": len(registry.verify()),
                "publishes per second": len(numbers) / seconds,
            }
    return found


def kills() -> dict[str, Any]:
    """Publishers killed at random moments, a reader after each: what it can see must be whole."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        location = f"{folder}/registry"
        Registry(location).publish(write_adapter(Path(folder) / "adapter", -1))
        torn, number, cut = 0, 0, 0
        for _ in range(KILLS):
            child = publisher(location, number, 10**6)
            assert child.stdout is not None
            child.stdout.readline()  # it publishes now
            time.sleep(rng.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
            number += 10**4
            child.communicate()
            cut += len(list(Path(location, "staging").glob("*"))) > 0
            torn += len(Registry(location).verify()) > 0
        registry = Registry(location)
        freed = registry.gc()
        left = [path for path in Path(location, "staging").iterdir() if path.suffix != ".lock"]
        versions = len(registry.versions("bench/task"))
        return {
            "kills": KILLS,
            "left something half-written": cut,
            "torn": torn,
            "versions": versions,
            "freed": freed,
            "left": len(left),
        }


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def damage() -> dict[str, Any]:
    """Changed bytes: refused, or (in the index) without any effect; never another answer. And what hostile people write."""
    rng = random.Random(0)
    names = [f"bench/task-{n}" for n in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        location = Path(folder) / "registry"
        registry = Registry(location)
        for n, name in enumerate(names):
            for k in range(3):
                registry.publish(write_adapter(Path(folder) / "adapter", 10 * n + k, name), tags={"stage": "pilot"})
            registry.set_alias(name, "production", 2, force=True, why="a benchmark")
        registry.store.gc()
        registry.close()
        right = answers(location, names)
        files = [path for path in sorted(location.rglob("*")) if path.is_file() and path.suffix not in {".lock"}]
        counts: dict[str, int] = {"refused": 0, "no effect": 0, "another answer": 0}
        for _ in range(FLIPS):
            path = location / "index.sqlite" if rng.random() < INDEX else rng.choice(files)
            with tempfile.TemporaryDirectory() as copy:
                there = Path(copy) / "registry"
                shutil.copytree(location, there)
                victim = there / path.relative_to(location)
                content = bytearray(victim.read_bytes())
                if not content:
                    continue
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
                victim.chmod(0o644)
                victim.write_bytes(bytes(content))
                try:
                    problems = Registry(there).verify()
                    same = answers(there, names) == right
                except VerticalError:
                    counts["refused"] += 1
                else:
                    counts["refused" if problems else "no effect" if same else "another answer"] += 1
        return {"bytes": counts, "hostile": hostile(Path(folder))}


def answers(location: Path, names: list[str]) -> list[Any]:
    """Collect everything that a reader gets for these names."""
    registry = Registry(location)
    try:
        found: list[Any] = []
        for name in names:
            for reference in (name, f"{name}@1", f"{name}@production"):
                version = registry.resolve(reference)
                found.append((str(version), version.digest, version.gate, version.aliases, dict(version.tags), version.who))
            found.append([(event.at, event.action, event.after) for event in registry.history(name)])
        return found
    finally:
        registry.close()


LOOK_ALIKES = [
    "medical/icd\u2010chapter",
    "m\u0435dical/task",
    "medical\u2044task",
    "medical/t\u0131ask",
    "\uff4dedical/task",
    "medical/task\u200b",
]
NAMES = [
    *LOOK_ALIKES,
    *(
        "..",
        "../etc",
        "a/../b",
        "a/..",
        "./a",
        "/etc/passwd",
        "a//b",
        "a/b/c",
        "a/",
        "/a",
        "~root/a",
        "a\\b",
        "C:/a",
        "a:b",
        "a b",
    ),
    *(
        "",
        " ",
        "a/b ",
        "-a/b",
        "a/-b",
        ".a/b",
        "a/b.",
        "A/b",
        "a/B",
        "a%2fb",
        "a/b\n",
        "a/b\0",
        "con|a",
        "a?b",
        "a*b",
        "a/b;rm",
        "$(a)/b",
    ),
    *(
        "a" * 65,
        "a/" + "b" * 65,
        "a/b@",
        "a/b@@1",
        "a/b@0",
        "a/b@01",
        "a/b@-1",
        "a/b@latest",
        "a/b@v3",
        "a/b@sha256:",
        "a/b@sha256:xyz",
    ),
]
PATHS = [
    *(
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "C:\\evil",
        "a\\b",
        "./a",
        "a//b",
        "a/",
        "",
        ".",
        "..",
        "a/./b",
        "x\0.json",
        "x\n.json",
    ),
    *(
        "weights.bin",
        "weights.pt",
        "weights.pkl",
        "a/model.pickle",
        "model.ckpt",
        "x.joblib",
        "m.pth",
        "con?",
        "a*b",
        "a|b",
        "<a>",
        'a"b',
    ),
]
"""Files that a manifest may not name: they lead elsewhere, or run code when they are loaded."""


def hostile(folder: Path) -> dict[str, Any]:
    """Hostile references, manifests and bundles: how many were refused, and whether anything outside the registry was touched."""
    from vertical_sdk.registry.blob_store import parse_manifest
    from vertical_sdk.registry.bundle import bundle, unbundle

    ground = folder / "ground"
    registry = Registry(ground / "registry")
    registry.publish(write_adapter(folder / "good", 1))
    good = folder / "good.zip"
    bundle(registry, ["bench/task@1"], good)
    registry.close()
    target = Registry(ground / "target")
    target.publish(write_adapter(folder / "other", 2, "bench/other"))
    before = sorted(str(path) for path in folder.rglob("*") if "target" not in path.parts)

    def refused(call: Callable[[], Any]) -> bool:
        try:
            call()
        except VerticalError:
            return True
        return False

    def manifest(path: str) -> Any:
        content = json.dumps({path: {"sha256": "0" * 64, "size": 1}}, sort_keys=True, separators=(",", ":")).encode()
        return parse_manifest(content, hashlib.sha256(content).hexdigest(), "here")

    counts = {
        "references": [refused(lambda name=name: target.resolve(name)) for name in NAMES],  # type: ignore[misc]
        "manifests": [refused(lambda path=path: manifest(path)) for path in PATHS],  # type: ignore[misc]
        "bundles": [refused(lambda file=file: unbundle(file, target)) for file in hostile_bundles(good, folder / "hostile")],  # type: ignore[misc]
    }
    after = sorted(str(path) for path in folder.rglob("*") if not {"target", "hostile"} & set(path.parts))
    found: dict[str, Any] = {kind: f"{sum(each)} of {len(each)} refused" for kind, each in counts.items()}
    return found | {
        "touched outside": before != after,
        "the registry afterwards": len(target.verify()) == 0 and target.store.names() == ["bench/other"],
    }


def hostile_bundles(good: Path, folder: Path) -> Iterator[Path]:
    """Bundles as an enemy would write them, beginning from one that is right."""
    import zipfile

    folder.mkdir()
    with zipfile.ZipFile(good) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]

    def written(
        *more: tuple[Any, bytes], without: str = "", change: Callable[[str, bytes], bytes] = lambda _, content: content
    ) -> Path:
        file = folder / f"{len(list(folder.iterdir()))}.zip"
        with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
            warnings.simplefilter("ignore")
            for info, content in members:
                if not without or without not in info.filename:
                    archive.writestr(info.filename, change(info.filename, content))
            for name, content in more:
                compress = zipfile.ZIP_DEFLATED if len(content) > 1 << 20 else zipfile.ZIP_STORED
                archive.writestr(name, content, compress_type=compress)
        return file

    for name in (
        "../evil",
        "/etc/evil",
        "objects/../../evil",
        "..\\evil",
        "C:/evil",
        "objects/" + "0" * 64,
        "objects/a",
        "evil",
        "a/" * 500 + "b",
    ):
        yield written((name, b"evil"))
    link = zipfile.ZipInfo("objects/" + "1" * 64)
    link.external_attr = 0o120777 << 16
    yield written((link, b"/etc/passwd"))
    yield written((members[-1][0].filename, members[-1][1]))  # twice
    yield written(("objects/" + "2" * 64, b"0" * (64 << 20)))  # 64 MB of zeros in some KB
    for without in ("bundle.json", "objects/"):
        yield written(without=without)
    yield written(change=lambda name, content: content[:-1] + b"x" if name.startswith("objects/") else content)
    for old, new in (
        (b'"format"', b'"formal"'),
        (b"bench/task", b"../../evil"),
        (b'"number"', b'"n"'),
        (b"{", b"["),
        (b"false", b"0"),
    ):
        yield written(
            change=lambda name, content, old=old, new=new: content.replace(old, new) if name == "bundle.json" else content
        )  # type: ignore[misc]
    yield written(change=lambda name, content: b"[" * 100_000 if name == "bundle.json" else content)
    whole = good.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (folder / f"cut{share}.zip").write_bytes(whole[: int(len(whole) * share)])
        yield folder / f"cut{share}.zip"
    for name, content in (("empty", b""), ("text", b"not a zip"), ("zeros", bytes(1 << 16))):
        (folder / f"{name}.zip").write_bytes(content)
        yield folder / f"{name}.zip"
    (folder / "link.zip").symlink_to("/dev/zero")
    yield folder / "link.zip"


# ── attaching ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def attach() -> dict[str, Any]:
    """Milliseconds from a reference to an adapter on its base, and of PEFT alone from a folder; the base is in memory in both."""
    import peft
    import torch

    from vertical_sdk import paths
    from vertical_sdk.adapters import load as loading
    from vertical_sdk.adapters.folder import read_adapter
    from vertical_sdk.bases.base import pull_base
    from vertical_sdk.families.specialist import load_backbone
    from vertical_sdk.training import train

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VERTICAL_HOME"] = os.environ.get("VERTICAL_HOME") or f"{folder}/home"
        settings = {"train.max_steps": 4, "adapter.r": 32, "evaluate.gate": False, "ensemble": [], "data.max_length": 32}
        train("medical/icd-chapter", settings=settings, out=f"{folder}/run")
        registry = Registry(f"{folder}/registry", Policy())
        version = registry.publish(f"{folder}/run", "bench/attach")
        base = pull_base("minilm-l6")
        replay, replayed = loading.replay_self_tests, []

        def timed(*arguments: Any, **options: Any) -> None:
            begun = time.perf_counter()
            replay(*arguments, **options)
            replayed.append(time.perf_counter() - begun)

        loading.replay_self_tests = timed
        ours, theirs = [], []
        for _ in range(11):
            backbones = [load_backbone(base), load_backbone(base)]
            paths._known.clear()  # as in a fresh process: every file is read and compared
            begun = time.perf_counter()
            loading.load_specialist(read_adapter(registry.resolve("bench/attach@1").path), base, backbones[0])
            ours.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            peft.PeftModel.from_pretrained(backbones[1], str(version.path))
            theirs.append(time.perf_counter() - begun)
        size = sum(path.stat().st_size for path in version.path.iterdir() if path.suffix == ".safetensors")
    whole, alone, self_tests = (statistics.median(some[1:]) * 1e3 for some in (ours, theirs, replayed))
    return {
        "bytes": size,
        "PEFT alone": alone,
        "resolve, verify, attach": whole - self_tests,
        "and replay the self_tests": whole,
    }


PARTS = {"lookups": lookups, "search": search, "publishers": publishers, "kills": kills, "damage": damage, "attach": attach}


def main() -> None:
    """Measure, and print tables or one JSON document."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all of them")
    given.add_argument("--versions", type=int, nargs="+", default=[10, 1000, 100_000])
    given.add_argument("--json", action="store_true")
    options = given.parse_args()
    found: dict[str, Any] = {}
    for part in options.parts or PARTS:
        counts = [options.versions] if part in {"lookups", "search"} else []
        found[part] = PARTS[part](*counts)  # type: ignore[operator]
        if not options.json:
            print(f"\n== {part}\n{shown(found[part])}", flush=True)
    if options.json:
        print(json.dumps(found, indent=1))


def shown(found: Any, indent: str = "") -> str:
    """Nested results as lines."""
    if not isinstance(found, dict):
        return f"{found:.4g}" if isinstance(found, float) else str(found)
    lines = []
    for name, value in found.items():
        lines.append(
            f"{indent}{name}:" + (f"\n{shown(value, indent + '  ')}" if isinstance(value, dict) else f" {shown(value)}")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
