"""What is fuzzed: one function for each kind of input that somebody else may have written.

A target takes any bytes. It returns, or raises an error of vertical_sdk; anything else is a fault. `seeds` returns honest inputs, to
begin with.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from registry.conftest import write_adapter

from vertical_sdk.errors import VerticalError

__all__ = ["TARGETS", "Target"]

ROWS = [{"text": "red itch", "label": "skin", "id": "p1"}, {"text": "slow pulse", "label": "heart", "id": "p2"}]


@dataclass(frozen=True)
class Target:
    """run   does what a user would do with these bytes
    seeds  honest inputs
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]

    def __call__(self, content: bytes) -> None:
        """Run, and let only faults out."""
        with contextlib.suppress(VerticalError):
            self.run(content)


@functools.cache
def work_folder() -> Path:
    """A folder of this process, in memory if the machine has such a place."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="vertical-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    os.environ["VERTICAL_HOME"] = str(folder / "home")
    return folder


@functools.cache
def honest_adapter() -> Path:
    """An adapter's folder that is as it should be."""
    return write_adapter(work_folder() / "honest")


@contextlib.contextmanager
def copied_adapter(name: str, content: bytes) -> Iterator[Path]:
    """A copy of the honest adapter in which one file has other bytes; the card has the digest of these bytes."""
    from vertical_sdk.card import CARD, folder_digests

    folder = work_folder() / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(honest_adapter(), folder)
    (folder / name).write_bytes(content)
    if name != CARD:
        card = json.loads((folder / CARD).read_bytes())
        card["files"] = {path: digest for path, digest in folder_digests(folder).items() if path != CARD}
        (folder / CARD).write_text(json.dumps(card))
    yield folder


def publish(name: str, content: bytes) -> None:
    """Publish an adapter of which one file has these bytes, by force, and show what a registry shows of it."""
    from vertical_sdk.registry import Registry

    with copied_adapter(name, content) as folder:
        registry = Registry(f"memory://fuzz-{next(NUMBERS)}")
        version = registry.publish(folder, name="medical/triage", force=True, reason="to fuzz")
        json.dumps(version.to_dict())
        registry.search("domain=medical", "macro_f1>0.1")
        registry.verify()


NUMBERS = itertools.count()


def read_rows(suffix: str) -> Callable[[bytes], object]:
    """A target that reads a file of rows in three ways: as texts with labels, as records, and as numbers."""
    from vertical_sdk.data.read import table

    def run(content: bytes) -> None:
        file = work_folder() / f"rows{suffix}"
        file.write_bytes(content)
        for columns, options in (({}, {}), ({"label": "label"}, {"record": "all"}), ({"label": "label"}, {"values": "all"})):
            with contextlib.suppress(VerticalError):
                table(file, columns, "classification", **options)  # type: ignore[arg-type]

    return run


def read_recipe(content: bytes) -> None:
    """Read a recipe and check its parts."""
    from vertical_sdk.recipe import load_recipe

    file = work_folder() / "recipe.yaml"
    file.write_bytes(content)
    recipe = load_recipe(file)
    str(recipe.digest)
    json.dumps(recipe.to_dict())


def read_one_card(content: bytes) -> None:
    """Read a card, and write what is written from it: facts, metrics, README."""
    from vertical_sdk.card import CARD, hide_paths, read_card
    from vertical_sdk.model_card import render_readme
    from vertical_sdk.registry.checks import build_record

    with copied_adapter(CARD, content) as folder:
        card = read_card(folder)
        render_readme(hide_paths(card), None)
        build_record(card, gate="passed", forced=False, reason="")


def read_bundle(content: bytes) -> None:
    """Unpack a bundle into a registry."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.bundle import unbundle

    file = work_folder() / "bundle.zip"
    file.write_bytes(content)
    registry = Registry(f"memory://fuzz-{next(NUMBERS)}")
    unbundle(file, registry)
    registry.verify()


def read_contents(content: bytes) -> None:
    """Unpack a bundle whose table of contents has these bytes, with the files of an honest one."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(honest_bundle())) as honest, zipfile.ZipFile(target, "w") as changed:
        for info in honest.infolist():
            changed.writestr(info, content if info.filename == "bundle.json" else honest.read(info))
    read_bundle(target.getvalue())


@functools.cache
def honest_bundle() -> bytes:
    """A bundle that is as it should be."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.bundle import bundle

    registry = Registry(f"memory://fuzz-{next(NUMBERS)}")
    version = registry.publish(honest_adapter(), tags={"stage": "pilot"}, force=True, reason="to fuzz")
    registry.set_alias(version.name, "production", version.number, force=True, why="to fuzz")
    file = work_folder() / "honest.zip"
    bundle(registry, [str(version)], file)
    return file.read_bytes()


def honest_contents() -> bytes:
    """The table of contents of the honest bundle."""
    with zipfile.ZipFile(io.BytesIO(honest_bundle())) as honest:
        return honest.read("bundle.json")


@functools.cache
def honest_registry() -> Any:
    """A registry in a folder with one version."""
    from vertical_sdk.registry import Registry

    registry = Registry(work_folder() / "registry")
    registry.publish(honest_adapter(), force=True, reason="to fuzz")
    return registry


def resolve(content: bytes) -> None:
    """Look up a reference, and find an adapter as users name it."""
    from vertical_sdk.adapters.folder import find_adapter

    text = content.decode("utf-8", "surrogateescape")
    with contextlib.suppress(VerticalError):
        honest_registry().resolve(text)
    find_adapter(text, honest_registry())


def search(content: bytes) -> None:
    """Search with one condition on each line."""
    honest_registry().search(*content.decode("utf-8", "surrogateescape").splitlines())


def read_ensemble(content: bytes) -> None:
    """Read the members of an adapter, and ask them."""
    import numpy as np

    from vertical_sdk.baselines.stacking import load_ensemble
    from vertical_sdk.members import ENSEMBLE

    (work_folder() / ENSEMBLE).write_bytes(content)
    recipe, labels, rows = ensemble_case()
    ensemble = load_ensemble(work_folder(), recipe, labels)
    with np.errstate(all="ignore"):
        ensemble.combine(np.zeros((len(rows), 2)), rows, None)


@functools.cache
def ensemble_case() -> tuple[Any, Any, Any]:
    """A recipe with two members, its labels, and rows that they read."""
    from vertical_sdk.recipe import Data, Part, Recipe
    from vertical_sdk.types import Example, LabelSpace

    parts = (Part(use="tfidf"), Part(use="boosted_trees", n_estimators=4, num_leaves=4, min_child_samples=2))
    recipe = Recipe(name="own", task="classification", data=Data(source="rows.csv"), ensemble=parts)
    rows = [
        Example(
            str(n),
            ("red itch", "slow pulse")[n % 2],
            ("skin", "heart")[n % 2],
            record=(("age", n / 7), ("sex", "fm"[n % 3 > 0])),
        )
        for n in range(60)
    ]
    return recipe, LabelSpace(("skin", "heart")), rows


def honest_ensembles() -> list[bytes]:
    """Files of members: a linear model and boosted trees, as arrays and as the text that earlier versions stored."""
    import numpy as np
    from safetensors.numpy import load, save

    from vertical_sdk.baselines.stacking import fit_ensemble, save_ensemble
    from vertical_sdk.members import ENSEMBLE, decode_json, encode_json

    recipe, labels, rows = ensemble_case()
    ensemble, _ = fit_ensemble(recipe, rows[:40], rows[40:], np.zeros((20, 2)), labels, 0, None)
    save_ensemble(work_folder(), ensemble)
    content = (work_folder() / ENSEMBLE).read_bytes()
    arrays = load(content)
    earlier = {name: values for name, values in arrays.items() if not name.startswith("1.trees.")}
    earlier["1.settings"] = encode_json(decode_json(arrays["1.settings"]) | {"models": [TREES_TEXT]})
    return [content, save(earlier)]


TREES_TEXT = """tree
version=v4
num_class=1
num_tree_per_iteration=1
max_feature_idx=1
objective=binary sigmoid:1

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=0.5 0
decision_type=10 1
left_child=1 -1
right_child=-2 -3
leaf_value=-0.4 0.1 0.3
cat_boundaries=0 1
cat_threshold=2
is_linear=0

end of trees
"""


def json_lines() -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet() -> bytes:
    """Rows as Parquet, in the two ways that pandas and the hub write it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**row, "age": 3.5} for row in ROWS]), target)
    return target.getvalue()


def safetensors(**tensors: np.ndarray) -> bytes:
    """A safetensors file."""
    from safetensors.numpy import save

    return save(tensors)


def honest_file(name: str) -> Callable[[], Sequence[bytes]]:
    """A file of the honest adapter."""
    return lambda: [(honest_adapter() / name).read_bytes()]


ARFF = b"@relation r\n@attribute text string\n@attribute age numeric\n@attribute label {skin,heart}\n@data\n'red itch',3,skin\n?,4,heart\n"
RECIPE = b"""name: medical/triage
task: classification
base: minilm-l6
data: {source: rows.csv, columns: {text: text, label: label}, split: {use: random, seed: 3}}
adapter: {r: 8, lora_alpha: 16}
train: {num_train_epochs: 1, learning_rate: 1e-3}
evaluate: {metrics: [accuracy, {use: macro_f1}], gate: {metric: macro_f1, beats: [base], margin: 0.0}}
"""

TARGETS: dict[str, Target] = {
    "recipe": Target(read_recipe, lambda: [RECIPE]),
    "card": Target(read_one_card, honest_file("vertical.json")),
    "adapter_config": Target(functools.partial(publish, "adapter_config.json"), honest_file("adapter_config.json")),
    "safetensors": Target(functools.partial(publish, "adapter_model.safetensors"), honest_file("adapter_model.safetensors")),
    "ensemble": Target(read_ensemble, honest_ensembles),
    "bundle": Target(read_bundle, lambda: [honest_bundle()]),
    "bundle_contents": Target(read_contents, lambda: [honest_contents()]),
    "csv": Target(read_rows(".csv"), lambda: [b'text,label,age\nred itch,skin,3\n"slow, pulse",heart,\n', b"a;b\n1;2\n"]),
    "jsonl": Target(read_rows(".jsonl"), lambda: [json_lines()]),
    "json": Target(read_rows(".json"), lambda: [json.dumps(ROWS).encode(), json.dumps({"rows": ROWS}).encode()]),
    "arff": Target(read_rows(".arff"), lambda: [ARFF]),
    "parquet": Target(read_rows(".parquet"), lambda: [parquet()]),
    "reference": Target(resolve, lambda: [b"medical/triage@1", b"medical/triage"]),
    "search": Target(search, lambda: [b"domain=medical\nmacro_f1>0.8\ntag.stage=pilot", b"name=x"]),
}
"""The targets by name. `make fuzz` runs each for ten minutes."""
