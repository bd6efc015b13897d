"""The store on the hub, against a simulation of the hub's protocol (`hub_endpoint`); no test contacts the hub itself.

The client is the unmodified huggingface_hub, over a real connection. These tests cannot show what only the hub has: Xet, rate limits,
the delay of its lists.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from servers.hub_endpoint import READER, Hub, hub_server, use_hub

from vertical_sdk.errors import CorruptAdapter, DigestMismatch, OfflineError, RegistryError
from vertical_sdk.paths import cache_home
from vertical_sdk.registry import Registry
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import Entry, Event, Manifest, Stored
from vertical_sdk.registry.stores.hf import HfStore
from vertical_sdk.registry.stores.hf_client import parse_repository, put_commit, spell_repository

REPO = "ada/medical.triage"
LOG = "vertical-log.jsonl"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server(tmp_path / "hub") as server:
        use_hub(monkeypatch, server)
        yield server


@pytest.fixture
def store(hub: Hub) -> HfStore:
    return HfStore("ada")


def event(action: str = "publish", name: str = "medical/triage") -> Event:
    return Event(at="2026-01-01T00:00:00+00:00", who="ada", name=name, action=action, why="because")


def put(store: HfStore, folder: Path, name: str = "medical/triage", **content: str) -> Entry:
    """Publish `<key>.safetensors`, which the hub stores with LFS, and config.json, which it stores in git."""
    folder.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    manifest: dict[str, Stored] = {}
    for key, text in {"config.json": "{}", **{f"{key}.safetensors": text for key, text in content.items()}}.items():
        files[key] = folder / key
        files[key].write_text(text)
        manifest[key] = Stored(hashlib.sha256(text.encode()).hexdigest(), len(text))
    return store.put(name, files, manifest, record={}, tags={}, event=event(name=name))


def state(hub: Hub, repo: str = REPO) -> dict[str, dict[str, str]]:
    state = hub.read(repo)
    assert state is not None
    return state


def paths(hub: Hub, revision: str) -> set[str]:
    repository = state(hub)
    oid = repository["branches"].get(revision) or repository["tags"][revision]
    return set(repository["commits"][oid]["files"]) - {".gitattributes"}


def test_each_name_has_one_repository_that_the_hub_accepts() -> None:
    names = [
        "triage",
        "medical/icd-chapter",
        "a.b",
        "a.b/c",
        "a/b.c",
        "a-b",
        "a--b",
        "a---b",
        "a.-b",
        "a._b",
        "a_/b",
        "a_b",
        "0/0",
    ]

    repositories = [spell_repository(name) for name in names]

    assert repositories[1] == "medical.icd-chapter"
    assert len(set(repositories)) == len(names)
    assert [parse_repository(repository) for repository in repositories] == names
    assert [parse_repository(repository) for repository in ("My-Model", "a.b.c", "bert-", "a..b")] == [None] * 4


@pytest.mark.parametrize("name", ["a/git", f"{'a' * 60}/{'b' * 60}"])
def test_a_name_that_the_hub_forbids_is_refused(store: HfStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistryError, match="Publish the adapter under another name"):
        put(store, tmp_path / "files", name, x="1")


@pytest.mark.parametrize("location", ["", "ada/repo", "ada repo", "../ada"])
def test_an_address_without_a_valid_owner_is_refused(location: str) -> None:
    with pytest.raises(RegistryError, match=r"not an owner\. Write hf://OWNER"):
        HfStore(location)


def test_main_has_the_newest_version_and_each_version_is_a_tag(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    put(store, tmp_path / "files", x="1", y="1")
    put(store, tmp_path / "files", x="2")

    assert state(hub)["private"] is True
    assert paths(hub, "v1") == {"config.json", "x.safetensors", "y.safetensors", LOG}
    assert paths(hub, "v2") == paths(hub, "main") == {"config.json", "x.safetensors", LOG}
    assert store.problems() == []


def test_a_snapshot_of_a_tag_has_the_files_byte_for_byte(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    put(store, tmp_path / "files", x="one")
    put(store, tmp_path / "files", x="two")

    folder = Path(snapshot_download(REPO, revision="v1", endpoint=hub.address, cache_dir=tmp_path / "cache"))

    assert (folder / "x.safetensors").read_text() == "one"
    assert (folder / "config.json").read_text() == "{}"


def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    store.folder(put(store, tmp_path / "files", x="one").digest)

    tokens = {path.startswith("/storage/"): set() for _, path, _ in hub.requests}
    for _, path, headers in hub.requests:
        tokens[path.startswith("/storage/")].add(headers.get("authorization"))
    assert tokens == {False: {"Bearer hf_test"}, True: {None}}


PEFT = """
import sys, torch
from peft import PeftModel

for revision in ("v1", "v2", None):
    model = PeftModel.from_pretrained(torch.nn.Sequential(torch.nn.Linear(4, 3)), "ada/medical.triage", revision=revision)
    print(int(model.base_model.model[0].lora_A["default"].weight.sum()))
assert not [name for name in sys.modules if name.startswith("vertical_sdk")]
"""


def test_peft_alone_loads_a_version_from_the_hub(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["0"], "base_model_name_or_path": None}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    for number in (1, 2):
        weights = {"lora_A": np.full((2, 4), number, np.float32), "lora_B": np.zeros((3, 2), np.float32)}
        named = {f"base_model.model.0.{name}.weight": tensor for name, tensor in weights.items()}
        save_file(named, tmp_path / "adapter_model.safetensors")
        files = {name: tmp_path / name for name in ("adapter_config.json", "adapter_model.safetensors")}
        stored = {n: Stored(hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size) for n, p in files.items()}
        store.put("medical/triage", files, stored, record={}, tags={}, event=event())

    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PEFT], env=environment, capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["8", "16", "16"], done.stderr


def test_parallel_publishers_get_distinct_numbers(hub: Hub, tmp_path: Path) -> None:
    numbers: list[int] = []
    failed: list[BaseException] = []

    def publish(who: int) -> None:
        try:
            store = HfStore("ada")
            numbers.extend(put(store, tmp_path / str(who), x=f"{who}-{i}").number for i in range(2))
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=publish, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert sorted(numbers) == list(range(1, 9))
    new_store = HfStore("ada")
    assert new_store.problems() == []
    contents = {(new_store.folder(e.digest) / "x.safetensors").read_text() for e in new_store.versions("medical/triage")}
    assert contents == {f"{who}-{i}" for who in range(4) for i in range(2)}


def test_an_alias_move_sees_a_commit_made_after_its_read(
    hub: Hub, store: HfStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, tmp_path / "files", x="1")
    put(store, tmp_path / "files", x="2")
    load = store._load_current

    def load_before_another_commit(name: str) -> object:
        snapshot = load(name)
        monkeypatch.setattr(store, "_load_current", load)
        HfStore("ada").move_alias(name, "live", 1, 0, event("alias"))
        return snapshot

    monkeypatch.setattr(store, "_load_current", load_before_another_commit)

    with pytest.raises(RegistryError, match="points at version 1, but it was expected not to exist"):
        store.move_alias("medical/triage", "live", 2, 0, event("alias"))
    assert [e.number for e in store.find(Reference("medical/triage", alias="live"))] == [1]


def test_a_publisher_that_loses_the_race_gets_the_next_number(
    hub: Hub, store: HfStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []

    def put_commit_too_late(*arguments: Any) -> str | None:
        if not answers:
            answers.append("started")
            assert put(HfStore("ada"), tmp_path / "other", x="other", y="other").number == 1
        answers.append(str(put_commit(*arguments)))
        return None if answers[-1] == "None" else answers[-1]

    monkeypatch.setattr("vertical_sdk.registry.stores.hf.put_commit", put_commit_too_late)

    assert put(store, tmp_path / "files", x="mine").number == 2
    assert answers.count("None") == 1
    assert [(store.folder(e.digest) / "x.safetensors").read_text() for e in store.versions("medical/triage")] == [
        "other",
        "mine",
    ]
    assert paths(hub, "main") == {"config.json", "x.safetensors", LOG}


def test_publishing_again_sets_the_tag_that_a_killed_publish_did_not_set(
    hub: Hub, store: HfStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "_set_tag", lambda *_: sys.exit(9))
        for content in ("1", "2"):
            with pytest.raises(SystemExit):
                put(store, tmp_path / "files", x=content)
    versions = HfStore("ada").versions("medical/triage")

    assert [(store.folder(e.digest) / "x.safetensors").read_text() for e in versions] == ["1", "2"]
    assert [line.partition(" the git tag ")[2][:14] for line in store.problems()] == ["v1 is missing.", "v2 is missing."]
    assert [put(store, tmp_path / "files", x=content).number for content in ("1", "2")] == [1, 2]
    assert store.problems() == []
    assert paths(hub, "v1") == {"config.json", "x.safetensors", LOG}


def test_a_publish_uses_the_empty_spell_repository_a_killed_publish(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    hub.create(REPO, private=True)

    assert store.names() == []
    assert store.find(Reference("medical/triage")) == []
    assert put(store, tmp_path / "files", x="1").number == 1


def test_other_repositories_of_the_owner_are_ignored_and_never_written(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    for repo in ("ada/a", "ada/bert", "ada/My-Model", "ada/z.z.z", "bob/medical.triage"):
        hub.create(repo, private=False)
        hub.push(repo, "config.json" if repo != "ada/z.z.z" else LOG, b"{}")
    put(store, tmp_path / "files", x="1")

    assert store.names() == ["medical/triage"]
    assert [entry.name for entry, _ in store.newest()] == ["medical/triage"]
    assert store.find(Reference("bert")) == store.versions("bert") == []
    with pytest.raises(RegistryError, match=r"ada/bert has files \(config\.json\) and no vertical-log\.jsonl"):
        put(store, tmp_path / "files", "bert", x="1")


def test_commits_by_others_stay_on_main_and_do_not_change_versions(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    entry = put(store, tmp_path / "files", x="1", y="1")
    hub.push(REPO, "config.json", b'{"edited": true}')
    hub.push(REPO, "NOTICE", b"ours")
    hub.push(REPO, "y.safetensors", None)

    assert (HfStore("ada").folder(entry.digest) / "config.json").read_text() == "{}"
    put(store, tmp_path / "files", x="2")
    assert paths(hub, "main") == {"NOTICE", "config.json", "x.safetensors", LOG}
    store.move_alias("medical/triage", "live", 1, 0, event("alias"))
    assert store.problems() == []


def test_a_byte_changed_on_the_hub_is_detected(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    entry = put(store, tmp_path / "files", x="right")
    blob = hub.blobs / hashlib.sha256(b"right").hexdigest()
    blob.write_bytes(b"wrong")

    with pytest.raises(DigestMismatch, match="the downloaded file is not the published one"):
        store.folder(entry.digest)

    blob.write_bytes(b"right")
    assert (store.folder(entry.digest) / "x.safetensors").read_text() == "right"


def test_a_changed_download_is_downloaded_again(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    entry = put(store, tmp_path / "files", x="right")
    file = store.folder(entry.digest) / "x.safetensors"
    file.chmod(0o644)
    file.write_text("wrong")

    assert (store.folder(entry.digest) / "x.safetensors").read_text() == "right"


def test_an_interrupted_download_continues_at_its_last_byte(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    text = "0123456789" * 1000
    entry = put(store, tmp_path / "files", x=text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    part = cache_home() / "registry" / "staging" / f"{sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_text(text[:4000])

    folder = store.folder(entry.digest)

    assert (folder / "x.safetensors").read_text() == text
    ranges = [headers["range"] for _, path, headers in hub.requests if path == f"/storage/{sha256}" and "range" in headers]
    assert ranges == ["bytes=4000-"]


def test_a_download_continues_after_a_broken_connection(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    text = "0123456789" * 1000
    entry = put(store, tmp_path / "files", x=text)
    hub.cut = 4000

    assert (store.folder(entry.digest) / "x.safetensors").read_text() == text


@pytest.mark.parametrize("change", ["edit", "drop", "garbage", "manifest"])
def test_a_log_changed_by_hand_is_refused(hub: Hub, store: HfStore, tmp_path: Path, change: str) -> None:
    for content in ("1", "2"):
        put(store, tmp_path / "files", x=content)
    repository = state(hub)
    sha256 = repository["commits"][repository["branches"]["main"]]["files"][LOG][0]  # type: ignore[index]
    first, second = (hub.blobs / sha256).read_bytes().splitlines(keepends=True)
    changed = {
        "edit": first.replace(b'"who":"ada"', b'"who":"eve"') + second,
        "drop": second,
        "garbage": first + b"\xff\xfe\n",
        "manifest": first + second.replace(b"config.json", b"../../escape"),
    }[change]
    hub.push(REPO, LOG, changed)

    with pytest.raises(RegistryError, match=r"ada/medical\.triage: vertical-log\.jsonl: .*was changed"):
        HfStore("ada").find(Reference("medical/triage"))
    (problem,) = HfStore("ada").problems()
    assert "was changed" in problem


def test_files_that_the_hub_interprets_are_not_published(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    for path in (".gitignore", "sub/.gitattributes", LOG):
        source = tmp_path / "file"
        source.write_text("*")
        manifest: Manifest = {path: Stored(hashlib.sha256(b"*").hexdigest(), 1)}
        with pytest.raises(RegistryError, match="cannot be a file of a version on the hub"):
            store.put("a", {path: source}, manifest, record={}, tags={}, event=event())
    assert hub.requests == []


def test_metadata_that_the_hub_refuses_stop_a_publish_before_its_upload(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    readme = "---\ndatasets:\n- pypi:simple-icd\n---\n# Triage\n"
    (tmp_path / "README.md").write_text(readme)
    manifest = {"README.md": Stored(hashlib.sha256(readme.encode()).hexdigest(), len(readme))}

    with pytest.raises(RegistryError, match=r'README\.md: "datasets\[0\]" with value "pypi:simple-icd" is not valid'):
        store.put("medical/triage", {"README.md": tmp_path / "README.md"}, manifest, record={}, tags={}, event=event())
    assert store.names() == []


def test_the_error_without_a_network_says_what_to_do(hub: Hub, store: HfStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(OfflineError, match=r"cannot be reached.*HF_ENDPOINT"):
            store.find(Reference("medical/triage"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE is set"):
        store.names()
    assert hub.requests == []


@pytest.mark.parametrize(("token", "code"), [("hf_wrong", 401), ("", 401), (READER, 403)])
def test_a_token_without_access_is_refused(
    hub: Hub, store: HfStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, code: int
) -> None:
    entry = put(store, tmp_path / "files", x="1")
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))

    with pytest.raises(RegistryError, match=rf"refused access \({code}.*hf auth login"):
        HfStore("ada").move_alias("medical/triage", "live", entry.number, None, event("alias"))


def test_a_publish_stops_if_the_token_can_only_open_pull_requests(
    hub: Hub, store: HfStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, tmp_path / "files", x="1")
    monkeypatch.setattr(
        "vertical_sdk.registry.stores.hf.put_commit", lambda *_: None
    )  # 412, which the hub returns for such tokens
    monkeypatch.setattr("vertical_sdk.registry.stores.hf.WAIT", 0.0)

    with pytest.raises(RegistryError, match="give it write access"):
        put(store, tmp_path / "files", x="2")


def test_the_hub_receives_no_data_about_this_machine(
    hub: Hub, store: HfStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)

    store.folder(put(store, tmp_path / "files", x="1").digest)

    agents = {headers["user-agent"] for _, path, headers in hub.requests if path.startswith(("/api", "/ada"))}
    assert agents
    assert not [agent for agent in agents if "torch" in agent or "agent/" in agent]
    assert not [path for _, path, _ in hub.requests if "telemetry" in path or "harness" in path]


def test_an_unchanged_log_is_read_once(hub: Hub, store: HfStore, tmp_path: Path) -> None:
    put(store, tmp_path / "files", x="1")
    new_store = HfStore("ada")
    for _ in range(3):
        new_store.find(Reference("medical/triage"))
        new_store.newest()

    read = [path for method, path, _ in hub.requests if method == "GET" and path.endswith(LOG)]
    assert len(read) == 1


def test_the_registry_works_on_the_hub_from_publish_to_verify(hub: Hub, make_adapter: object) -> None:
    assert callable(make_adapter)
    registry = Registry("hf://ada")
    for seed in (1, 2):
        folder = make_adapter(seed)
        (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n# Triage\n")
        registry.publish(folder)
    registry.set_alias("medical/triage", "production", 1, expected=0, why="it is good")
    registry.tag("medical/triage", 2, {"stage": "pilot"})

    assert registry.resolve("medical/triage@production").number == 1
    assert [str(version) for version in registry.search("macro_f1>0.9", "tag.stage=pilot")] == ["medical/triage@2"]
    assert [summary.newest for summary in registry.list_adapters()] == [2]
    assert [e.action for e in registry.history("medical/triage")] == ["publish", "publish", "alias", "tag"]
    assert registry.verify() == []
    config = json.loads((registry.resolve("medical/triage").path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"


def test_an_unknown_manifest_is_an_error(store: HfStore) -> None:
    with pytest.raises(CorruptAdapter, match="no version has the digest"):
        store.manifest("0" * 64)
