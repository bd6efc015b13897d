"""What is fuzzed: one function for each kind of input that somebody else may have written.

A target takes any bytes. It returns, or raises an error of vertical_sdk; anything else is a fault. `seeds` returns honest inputs, to
begin with.
"""

from __future__ import annotations

import contextlib
import copy
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
import yaml
from registry.conftest import write_adapter

from vertical_sdk.errors import VerticalError

__all__ = ["TARGETS", "Target"]

ROWS = [{"text": "red itch", "label": "skin", "id": "p1"}, {"text": "slow pulse", "label": "heart", "id": "p2"}]


@dataclass(frozen=True)
class Target:
    """run   does what a user would do with these bytes
    seeds  inputs to begin with, of which the first is honest
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


def publish_card(content: bytes) -> None:
    """Publish an adapter whose card has these bytes, by force, and look at its pages."""
    from vertical_sdk.card import CARD

    registry, pages = served_registry(next(NUMBERS) // 500)
    with copied_adapter(CARD, content) as folder:
        version = registry.publish(folder, name="medical/triage", force=True, reason="to fuzz")
    json.dumps(version.to_dict())
    for path in ("/", f"/a/{version.name}@{version.number}", f"/a/{version.name}", f"/log/{version.name}"):
        answer = pages.get(path)
        if answer.status_code >= 500:
            raise AssertionError(f"{path}: {answer.status_code}")


@functools.lru_cache(maxsize=1)
def served_registry(number: int) -> tuple[Any, Any]:
    """A registry in memory, and a client of its pages."""
    from starlette.testclient import TestClient

    from vertical_sdk.registry import Registry
    from vertical_sdk.server.registry_app import create_registry_app
    from vertical_sdk.server.security.tokens import Tokens
    from vertical_sdk.server.settings import Limits, ServerSettings

    registry = Registry(f"memory://served-{number}")
    tokens = Tokens(work_folder() / "tokens.json")
    if not tokens.path.exists():
        tokens.add("fuzz", ["read"])
    settings = ServerSettings(anonymous=True, limits=Limits(rate=1e9, burst=10**9), uploads=work_folder() / "uploads")
    app = create_registry_app(registry, tokens, settings, log=lambda _: None)
    return registry, TestClient(app, base_url="http://localhost", raise_server_exceptions=True)


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
        ensemble.combine(np.zeros((len(rows), 2)), ensemble.gather(rows, base_of(rows)))


def base_of(rows: Any) -> Any:
    """A base whose features of the rows are known: 4 numbers each."""
    import torch

    from vertical_sdk.baselines.frozen_base import FrozenBase, content_of

    numbers = torch.Generator().manual_seed(0)
    return FrozenBase(None, known={content_of(row): torch.rand(4, generator=numbers) for row in rows})  # type: ignore[arg-type]


@functools.cache
def ensemble_case() -> tuple[Any, Any, Any]:
    """A recipe with three members, its labels, and rows that they read."""
    from vertical_sdk.recipe import Data, Part, Recipe
    from vertical_sdk.types import Example, LabelSpace

    parts = (Part(use="tfidf"), Part(use="boosted_trees", n_estimators=4, num_leaves=4, min_child_samples=2), Part(use="knn"))
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
    """Files of members: a linear model, boosted trees and neighbours, as arrays and as the text that earlier versions stored."""
    import numpy as np
    from safetensors.numpy import load, save

    from vertical_sdk.baselines.stacking import fit_ensemble, save_ensemble
    from vertical_sdk.members import ENSEMBLE, decode_json, encode_json

    recipe, labels, rows = ensemble_case()
    ensemble, _ = fit_ensemble(recipe, rows[:40], rows[40:], np.zeros((20, 2)), labels, 0, base_of(rows))
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


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 2**31, 2**63, 10**300, 1e-320),
    *("", "x", "x" * 5000, "\x1b[31m", "\u202e", "a/b", "../x", "0" * 64, "NaN", "(a+)+$", "<script>", "{{ 1/0 }}", "\ud800"),
    *([], {}, [[]], [None], [0] * 300, {"": None}, {"x": {"x": {"x": 1}}}, [{"a": 1}] * 50, {str(n): n for n in range(300)}),
)
"""What an edit puts into a document."""


def edit(document: Any, content: bytes) -> Any:
    """A copy of a document with some values replaced: three bytes are an edit, two for the place and one for the value.

    The last places of values are other parts of the same document, so that an edit may also repeat, move or swap.
    """
    edited = json.loads(json.dumps(document))
    for at in range(0, min(len(content) - 2, 24), 3):
        places = [*list_places(edited)]
        if not places:
            break
        holder, key = places[int.from_bytes(content[at : at + 2], "big") % len(places)]
        choice = content[at + 2]
        if choice == 255:
            del holder[key]
        elif choice < len(VALUES):
            holder[key] = copy.deepcopy(VALUES[choice])
        else:
            other, name = places[choice % len(places)]
            holder[key] = json.loads(json.dumps(other[name]))
    return edited


def list_places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value in a document: the list or object that has it, and its index or key."""
    for key in list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ():
        yield document, key
        yield from list_places(document[key])


def edited(run: Callable[[bytes], object], honest: Callable[[], Any]) -> Target:
    """A target that reads an honest document in which some values were replaced."""

    def run_edited(content: bytes) -> None:
        run(json.dumps(edit(honest(), content)).encode())

    return Target(run_edited, lambda: [b"", *(bytes((0, 6 * n, n)) for n in range(40))])


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
    "card": Target(publish_card, honest_file("vertical.json")),
    "card_values": edited(publish_card, lambda: json.loads((honest_adapter() / "vertical.json").read_bytes())),
    "adapter_config": Target(functools.partial(publish, "adapter_config.json"), honest_file("adapter_config.json")),
    "adapter_config_values": edited(
        functools.partial(publish, "adapter_config.json"),
        lambda: json.loads((honest_adapter() / "adapter_config.json").read_bytes()),
    ),
    "safetensors": Target(functools.partial(publish, "adapter_model.safetensors"), honest_file("adapter_model.safetensors")),
    "ensemble": Target(read_ensemble, honest_ensembles),
    "bundle": Target(read_bundle, lambda: [honest_bundle()]),
    "bundle_contents": Target(read_contents, lambda: [honest_contents()]),
    "bundle_contents_values": edited(read_contents, lambda: json.loads(honest_contents())),
    "recipe_values": edited(read_recipe, lambda: yaml.safe_load(RECIPE)),
    "csv": Target(read_rows(".csv"), lambda: [b'text,label,age\nred itch,skin,3\n"slow, pulse",heart,\n', b"a;b\n1;2\n"]),
    "jsonl": Target(read_rows(".jsonl"), lambda: [json_lines()]),
    "json": Target(read_rows(".json"), lambda: [json.dumps(ROWS).encode(), json.dumps({"rows": ROWS}).encode()]),
    "arff": Target(read_rows(".arff"), lambda: [ARFF]),
    "parquet": Target(read_rows(".parquet"), lambda: [parquet()]),
    "reference": Target(resolve, lambda: [b"medical/triage@1", b"medical/triage"]),
    "search": Target(search, lambda: [b"domain=medical\nmacro_f1>0.8\ntag.stage=pilot", b"name=x"]),
}
"""The targets by name. `make fuzz` runs each for ten minutes."""
