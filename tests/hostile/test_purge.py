"""Content that must not come back: a purged version, and every way that could bring its files again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from registry.conftest import write_adapter
from server.conftest import Served, Server, served, server  # noqa: F401  (the fixtures)

from vertical_sdk.cli import main
from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.bundle import bundle, unbundle
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.signing import signature_problems

NAME = "medical/triage"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "origin", Policy())
    for seed in (1, 2):
        registry.publish(write_adapter(tmp_path / f"adapter-{seed}", seed))
    return registry


def find_bytes(root: Path, content: bytes) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.read_bytes() == content]


def test_a_purge_removes_bytes_and_keeps_number_digest_and_log(registry: Registry, tmp_path: Path) -> None:
    before = registry.resolve(f"{NAME}@1")
    secret = (before.path / WEIGHTS).read_bytes()

    erased = registry.purge(f"{NAME}@1", "a patient's request")

    assert find_bytes(Path(registry.location), secret) == []
    assert erased.freed >= len(secret)
    assert erased.shared == dict.fromkeys(["README.md", "adapter_config.json", "tokenizer.json"], f"{NAME}@2")
    after = registry.resolve(f"{NAME}@1", check=False)
    assert (after.number, after.digest, after.purged) == (1, before.digest, "a patient's request")
    for action in (lambda: registry.resolve(f"{NAME}@1", allow_revoked=[f"{NAME}@1"]), lambda: after.path):
        with pytest.raises(RegistryError, match=rf"{NAME}@1 was purged: a patient's request\. Its files do not exist any more"):
            action()
    event = registry.history(NAME)[-1]
    assert (event.action, event.after, event.why) == ("purge", 1, "a patient's request")
    assert registry.verify() == registry.verify(f"{NAME}@1") == signature_problems(registry) == []
    assert registry.resolve(f"{NAME}@2").card.name == NAME
    assert registry.gc() == 0


def test_a_version_that_an_alias_points_at_is_purged_only_by_force(registry: Registry) -> None:
    registry.set_alias(NAME, "production", 1)

    with pytest.raises(
        RegistryError, match=r"these aliases point at it, and would no longer load: production\. Move or delete"
    ):
        registry.purge(f"{NAME}@production", "a leaked key")
    with pytest.raises(RegistryError, match="the reason is empty"):
        registry.purge(f"{NAME}@2", "  ")
    registry.purge(f"{NAME}@production", "a leaked key", force=True)
    with pytest.raises(RegistryError, match=rf"{NAME}@1 was purged: a leaked key"):
        registry.resolve(f"{NAME}@production")
    assert registry.history(NAME)[-1].action == "purge by force"
    with pytest.raises(RegistryError, match="was purged"):
        registry.set_alias(NAME, "staging", 1)


def test_purged_content_does_not_come_back_by_any_way(registry: Registry, tmp_path: Path) -> None:
    bundle(registry, [f"{NAME}@1"], tmp_path / "before.zip")
    backup = Registry(tmp_path / "backup", Policy())
    copy_versions(registry, backup)
    registry.purge(f"{NAME}@1", "a request")

    with pytest.raises(RegistryError, match=rf"{NAME}@1, which has exactly these files, was purged: a request"):
        registry.publish(tmp_path / "adapter-1")
    with pytest.raises(RegistryError, match="which has exactly these files, was purged"):
        unbundle(tmp_path / "before.zip", registry)
    report = copy_versions(backup, registry)
    with pytest.raises(RegistryError, match=rf"{NAME}@1 was purged: a request"):
        bundle(registry, [f"{NAME}@1"], tmp_path / "after.zip")

    assert [version.after for version in report.versions] == [2]
    assert report.notes == (f"{NAME}@1 was not copied, because the target purged its content: a request.",)
    assert registry.resolve(f"{NAME}@1", check=False).purged == "a request"
    assert registry.publish(write_adapter(tmp_path / "adapter-9", 9)).number == 3


def test_a_copy_carries_a_purge_but_not_past_an_alias(registry: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target", Policy())
    copy_versions(registry, target)
    target.set_alias(NAME, "production", 1)
    registry.purge(f"{NAME}@1", "a request")

    (note,) = copy_versions(registry, target).notes

    assert note.startswith(f"{NAME}@1 was purged in the source, but not in the target: {NAME}@1: these aliases point at it")
    assert target.resolve(f"{NAME}@production").number == 1
    target.delete_alias(NAME, "production")
    assert copy_versions(registry, target).notes == (f"{NAME}@1 was purged, as in the source: a request.",)
    empty = Registry(tmp_path / "empty", Policy())
    assert [(v.before, v.after) for v in copy_versions(registry, empty).versions] == [(2, 1)]


def test_a_client_cannot_purge_and_the_server_serves_no_purged_file(
    served: Served,  # noqa: F811
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    copy_versions(registry, served.registry)
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])
    client = Registry(served.address, Policy())
    digest = client.resolve(f"{NAME}@1", check=False).digest

    with pytest.raises(RegistryError, match=r"can only be purged by the operator, on the server's machine: `vertical registry"):
        client.purge(f"{NAME}@1", "a request")
    assert served.registry.resolve(f"{NAME}@1").purged is None
    Registry(served.registry.location, Policy()).purge(f"{NAME}@1", "a request")  # another process, while the server runs

    assert served.ask("GET", f"/api/v1/files/{digest}/{WEIGHTS}", "reader").status_code == 404
    with pytest.raises(RegistryError, match=rf"{NAME}@1 was purged: a request"):
        client.resolve(f"{NAME}@1")
    with pytest.raises(RegistryError, match="which has exactly these files, was purged"):
        client.publish(tmp_path / "adapter-1")
    page = served.ask("GET", f"/a/{NAME}@1", "reader")
    assert page.status_code == 200
    assert "<b>Purged.</b> a request" in page.text
    client.close()


KILLED = """
import os, signal, sys
from vertical_sdk.registry import Registry
from vertical_sdk.registry.policy import Policy
registry = Registry(sys.argv[1], Policy())
blobs = registry.store._blobs
remove, place = blobs.remove_tree, sys.argv[2]
def die(digest):
    if place == "after the tree":
        remove(digest)
    os.kill(os.getpid(), signal.SIGKILL)
blobs.remove_tree = die
registry.purge("medical/triage@1", "a request")
"""


@pytest.mark.parametrize("place", ["before the tree", "after the tree"])
@pytest.mark.parametrize("finish", ["gc", "purge"])
def test_a_killed_purge_is_never_half_visible_and_is_finished(
    place: str, finish: str, registry: Registry, tmp_path: Path
) -> None:
    secret = (registry.resolve(f"{NAME}@1").path / WEIGHTS).read_bytes()
    process = subprocess.run([sys.executable, "-c", KILLED, registry.location, place], env={**os.environ}, check=False)
    assert process.returncode == -signal.SIGKILL

    with pytest.raises(RegistryError, match="was purged: a request"):
        registry.resolve(f"{NAME}@1")
    assert find_bytes(Path(registry.location), secret) != []
    assert registry.resolve(f"{NAME}@2").number == 2
    registry.gc() if finish == "gc" else registry.purge(f"{NAME}@1", "")

    assert find_bytes(Path(registry.location), secret) == []
    assert registry.verify() == []
    assert [event.action for event in registry.history(NAME)] == ["publish", "publish", "purge"]


def test_the_command_says_what_was_removed_and_what_remains(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "purge", f"{NAME}@1", "--reason", "a request", "--registry", registry.location]) == 0
    printed = capsys.readouterr()

    assert f"{NAME}@1 is purged: a request" in printed.out
    assert "README.md remains, because medical/triage@2 has it too." in printed.err
    assert "Backups of the registry's folder still have the files." in printed.err
    assert main(["registry", "show", f"{NAME}@1", "--registry", registry.location]) == 7
    assert main(["registry", "purge", f"{NAME}@1", "--reason", "x", "--json", "--registry", registry.location]) == 0
    assert json.loads(capsys.readouterr().out)["freed"] == 0
