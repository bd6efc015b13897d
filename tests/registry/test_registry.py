from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import vertical_sdk
from vertical_sdk.card import Verdict, read_card, write_card
from vertical_sdk.errors import CorruptAdapter, GateFailed, RegistryError
from vertical_sdk.registry import Registry

MakeAdapter = Callable[..., Path]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def test_resolve_finds_a_version_by_name_number_alias_and_digest(registry: Registry, make_adapter: MakeAdapter) -> None:
    first = registry.publish(make_adapter(1))
    second = registry.publish(make_adapter(2), tags={"ticket": "42"})
    registry.set_alias("medical/triage", "production", 1)

    assert (first.number, second.number) == (1, 2)
    assert registry.resolve("medical/triage") == second
    assert registry.resolve("medical/triage@production").number == 1
    assert registry.resolve("medical/triage@production").aliases == ("production",)
    assert registry.resolve("medical/triage@1").digest == first.digest
    assert registry.resolve(f"medical/triage@sha256:{second.digest[:8]}") == second
    assert registry.resolve("medical/triage").tags == {"ticket": "42"}
    assert [str(v) for v in registry.versions("medical/triage")] == ["medical/triage@1", "medical/triage@2"]


def test_the_folder_of_a_version_equals_the_published_folder(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(1)

    version = registry.publish(adapter)

    names = sorted(p.name for p in adapter.iterdir())
    assert sorted(p.name for p in version.path.iterdir()) == names
    assert all((version.path / n).read_bytes() == (adapter / n).read_bytes() for n in names)
    assert version.card == read_card(adapter)
    assert list(load_file(version.path / "adapter_model.safetensors")) == ["base_model.model.query.lora_A.weight"]


def test_a_run_is_published_with_its_report_and_without_checkpoints(
    registry: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "x"
    make_adapter(folder=run / "adapter")
    (run / "report.html").write_text("<p>good</p>")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "optimizer.pt").write_bytes(b"state")

    version = registry.publish(run)

    assert (version.path / "report.html").read_text() == "<p>good</p>"
    assert not (version.path / "checkpoints").exists()


def test_a_run_and_the_adapter_in_it_are_one_version(registry: Registry, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    make_adapter(folder=run / "adapter")
    (run / "recipe.json").write_text("{}")
    (run / "report.html").write_text("<p>good</p>")

    first, second = registry.publish(run), registry.publish(run / "adapter")

    assert (first.number, second.number) == (1, 1)
    assert first.digest == second.digest
    assert (second.path / "report.html").read_text() == "<p>good</p>"
    assert [event.action for event in registry.history("medical/triage")] == ["publish"]


def test_equal_files_are_stored_once(registry: Registry, make_adapter: MakeAdapter) -> None:
    first = registry.publish(make_adapter(1)).path / "tokenizer.json"
    second = registry.publish(make_adapter(2)).path / "tokenizer.json"

    assert first.stat().st_ino == second.stat().st_ino
    assert len(list(Path(registry.location, "objects").rglob("*"))) < 2 * 6 + 12


def test_publishing_the_same_content_again_returns_the_existing_version(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(1)
    first = registry.publish(adapter)
    registry.publish(make_adapter(2))

    assert registry.publish(adapter, reason="again") == first
    assert registry.publish(adapter, "other/name").number == 1
    assert [e.after for e in registry.history("medical/triage")] == [1, 2]


def test_one_flipped_byte_is_reported_with_the_name_of_the_file(registry: Registry, make_adapter: MakeAdapter) -> None:
    version = registry.publish(make_adapter(1))
    registry.resolve("medical/triage")
    weights = version.path / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    before = weights.stat()
    weights.chmod(0o644)
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(CorruptAdapter, match=r"medical/triage@1: adapter_model\.safetensors has changed"):
        registry.resolve("medical/triage@1")
    assert any("adapter_model.safetensors" in line for line in registry.verify("medical/triage"))
    assert any(line.startswith("objects/") for line in registry.verify())


def test_missing_and_added_files_are_reported(registry: Registry, make_adapter: MakeAdapter) -> None:
    version = registry.publish(make_adapter(1))
    registry.resolve("medical/triage")
    (version.path / "tokenizer.json").unlink()
    (version.path / "adapter_model.bin").write_bytes(b"pickle")

    with pytest.raises(CorruptAdapter, match=r"tokenizer\.json is missing; adapter_model\.bin does not belong"):
        registry.resolve("medical/triage")


def test_publishing_again_repairs_a_damaged_version(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(1)
    version = registry.publish(adapter)
    weights = version.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"damaged")

    repaired = registry.publish(adapter)

    assert repaired.number == 1
    assert registry.resolve("medical/triage@1") == repaired
    assert registry.verify() == []


def test_a_failed_gate_stops_a_publish_with_its_reasons(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(verdict=Verdict(passed=False, reasons=("macro_f1 0.50 is not above base 0.55",)))

    with pytest.raises(GateFailed, match=r"macro_f1 0\.50 is not above base 0\.55"):
        registry.publish(adapter)
    assert registry.list_adapters() == []
    assert not Path(registry.location).exists()


def test_a_failed_gate_is_reported_without_a_double_full_stop(registry: Registry, make_adapter: MakeAdapter) -> None:
    verdict = Verdict(passed=False, reasons=("Fails: worse than base. The interval contains the margin of 0.", "Fails: slow."))

    with pytest.raises(
        GateFailed, match=r"did not pass its gate: Fails: .* the margin of 0; Fails: slow\. Train a better adapter, or"
    ):
        registry.publish(make_adapter(verdict=verdict))


def test_a_gate_that_was_not_evaluated_stops_a_publish(registry: Registry, make_adapter: MakeAdapter) -> None:
    with pytest.raises(GateFailed, match="vertical evaluate"):
        registry.publish(make_adapter(verdict=None))


def test_a_forced_publish_is_recorded_in_version_card_and_log(
    registry: Registry, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTICAL_USER", "ada")
    adapter = make_adapter(verdict=Verdict(passed=False, reasons=("worse",)))

    registry.publish(adapter, force=True, reason="a demonstration")

    version = registry.resolve("medical/triage")
    assert (version.forced, version.gate, version.reason, version.who) == (True, "failed", "a demonstration", "ada")
    assert registry.list_adapters()[0].forced
    assert version.card.forced == "a demonstration"
    assert read_card(adapter).forced is None
    (event,) = registry.history("medical/triage")
    assert (event.action, event.who, event.why) == ("publish by force", "ada", "a demonstration")


def test_a_version_of_a_recipe_without_gate_is_ungated(registry: Registry, make_adapter: MakeAdapter) -> None:
    version = registry.publish(make_adapter(gate=False, verdict=None), force=True, reason="a test")

    assert (version.gate, version.forced) == ("ungated", False)


def test_a_file_that_differs_from_the_card_is_named(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter()
    (adapter / "tokenizer.json").write_text("{ }")

    with pytest.raises(CorruptAdapter, match=r"tokenizer\.json has changed since its card was written"):
        registry.publish(adapter)


def test_a_file_that_the_card_does_not_list_is_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter()
    (adapter / "patients.csv").write_text("name\nBob\n")

    with pytest.raises(CorruptAdapter, match=r"patients\.csv is not listed"):
        registry.publish(adapter)


def test_a_missing_file_is_named(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter()
    (adapter / "adapter_config.json").unlink()

    with pytest.raises(CorruptAdapter, match=r"adapter_config\.json is missing"):
        registry.publish(adapter)


def test_a_pickle_named_safetensors_is_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter()
    (adapter / "head.safetensors").write_bytes(b"\x80\x04\x95pickled")
    write_card(adapter, read_card(adapter))

    with pytest.raises(CorruptAdapter, match=r"head\.safetensors: this file is cut or not a safetensors file"):
        registry.publish(adapter)


@pytest.mark.parametrize("ending", [".bin", ".pt", ".pkl", ".pickle", ".ckpt", ".PTH"])
def test_pickled_weights_are_refused(registry: Registry, make_adapter: MakeAdapter, ending: str) -> None:
    adapter = make_adapter()
    (adapter / f"training_args{ending}").write_bytes(b"")
    write_card(adapter, read_card(adapter))

    with pytest.raises(RegistryError, match="Only safetensors"):
        registry.publish(adapter)


def test_a_link_out_of_the_folder_is_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter()
    (adapter / "README.md").unlink()
    (adapter / "README.md").symlink_to("/etc/passwd")

    with pytest.raises(RegistryError, match=r"README\.md is a symbolic link"):
        registry.publish(adapter)


def test_a_pipe_is_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter()
    os.mkfifo(adapter / "pipe")

    with pytest.raises(RegistryError, match="pipe is not a regular file"):
        registry.publish(adapter)


def test_a_folder_without_a_card_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"has no vertical\.json"):
        registry.publish(tmp_path)
    with pytest.raises(RegistryError, match="is not a folder"):
        registry.publish(tmp_path / "nowhere")


def test_an_unknown_reference_is_refused_with_the_known_ones(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    registry.publish(make_adapter(2))
    registry.set_alias("medical/triage", "production", 2)

    for reference, message in [
        ("medical/triag", "Did you mean 'medical/triage'"),
        ("triage", "Did you mean 'medical/triage'"),
        ("medical/triage@9", "versions 1 to 2"),
        ("medical/triage@staging", "Aliases: production (version 2)"),
        ("medical/triage@sha256:00000000", "no such digest"),
    ]:
        with pytest.raises(RegistryError) as raised:
            registry.resolve(reference)
        assert message in str(raised.value)


def test_reading_an_empty_registry_does_not_create_it(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="nothing yet"):
        registry.resolve("medical/triage")

    assert registry.list_adapters() == []
    assert registry.verify() == []
    assert registry.gc() == 0
    assert not Path(registry.location).exists()


def test_an_alias_moves_only_from_its_expected_version(registry: Registry, make_adapter: MakeAdapter) -> None:
    for seed in (1, 2, 3):
        registry.publish(make_adapter(seed))
    registry.set_alias("medical/triage", "production", 1, expected=0)
    registry.set_alias("medical/triage", "production", 2, expected=1, why="better recall")

    with pytest.raises(RegistryError, match="points at version 2, but it was expected to point at version 1"):
        registry.set_alias("medical/triage", "production", 3, expected=1)
    with pytest.raises(RegistryError, match="but it was expected not to exist"):
        registry.set_alias("medical/triage", "production", 3, expected=0)
    with pytest.raises(RegistryError, match="no such version"):
        registry.set_alias("medical/triage", "production", 9)
    assert registry.resolve("medical/triage@production").number == 2
    moves = [(e.alias, e.before, e.after, e.why) for e in registry.history("medical/triage") if e.action == "alias"]
    assert moves == [("production", None, 1, ""), ("production", 1, 2, "better recall")]


def test_deleting_an_alias_is_logged(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    registry.set_alias("medical/triage", "production", 1)
    registry.delete_alias("medical/triage", "production", why="recalled")

    with pytest.raises(RegistryError, match="Aliases: none"):
        registry.delete_alias("medical/triage", "production")
    last = registry.history("medical/triage")[-1]
    assert (last.action, last.before, last.after, last.why) == ("delete alias", 1, None, "recalled")


def test_tags_are_set_and_removed(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1), tags={"a": "1", "b": "2"})

    registry.tag("medical/triage", 1, {"a": None, "c": "3"})

    assert registry.resolve("medical/triage").tags == {"b": "2", "c": "3"}
    with pytest.raises(RegistryError, match="cannot be the name of a tag"):
        registry.tag("medical/triage", 1, {"A b": "1"})


def test_list_adapters_describes_each_newest_version(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    registry.publish(make_adapter(2))
    registry.publish(make_adapter(3, name="legal/license"))
    registry.set_alias("medical/triage", "production", 1)

    (legal, medical) = registry.list_adapters()

    assert (medical.name, medical.newest, medical.aliases) == ("medical/triage", 2, {"production": 1})
    assert (medical.task, medical.base, medical.metric, medical.value) == ("classification", "tiny", "macro_f1", 0.91)
    assert legal.name == "legal/license"
    assert [s.name for s in registry.list_adapters("med")] == ["medical/triage"]


def test_gc_removes_only_files_that_no_version_uses(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    root = Path(registry.location)
    stray = root / "objects" / "ab" / ("ab" + "0" * 62)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x" * 100)
    shutil.copytree(root / "trees", root / "staging" / "dead")
    (root / "trees" / ("c" * 64)).mkdir()
    (root / "trees" / ("c" * 64) / "f").write_bytes(b"y" * 50)
    copied = sum(p.stat().st_size for p in (root / "staging").rglob("*") if p.is_file())

    assert registry.gc() == 100 + 50 + copied
    assert list((root / "staging").iterdir()) == []
    assert registry.gc() == 0
    assert registry.verify() == []
    assert registry.resolve("medical/triage").number == 1


def _publish_all(location: str, folders: list[Path], numbers: multiprocessing.queues.Queue[list[int]]) -> None:
    registry = Registry(location)
    numbers.put([registry.publish(folder).number for folder in folders])


def test_processes_publishing_at_once_get_distinct_numbers(registry: Registry, make_adapter: MakeAdapter) -> None:
    folders = [make_adapter(seed) for seed in range(20)]
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    workers = [
        context.Process(target=_publish_all, args=(registry.location, folders[i : i + 5], numbers)) for i in range(0, 20, 5)
    ]
    for worker in workers:
        worker.start()
    results = [numbers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()

    assert sorted(n for result in results for n in result) == list(range(1, 21))
    assert all(result == sorted(result) for result in results)
    assert registry.verify() == []


def test_threads_can_share_a_registry(registry: Registry, make_adapter: MakeAdapter) -> None:
    folders = [make_adapter(seed) for seed in range(4)]
    threads = [threading.Thread(target=registry.publish, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [v.number for v in registry.versions("medical/triage")] == [1, 2, 3, 4]


def run_python(code: str, *arguments: str) -> None:
    """Run Python in another process, with the same package."""
    library = str(Path(vertical_sdk.__file__).parents[1])
    process = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            code,
            *arguments,
        ],  # a fork with running threads warns from Python 3.12 on
        env={**os.environ, "PYTHONPATH": library},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import filelock  # before the forks, so that the children spend their time on publishing
from vertical_sdk.registry import Registry

location, *folders = sys.argv[1:]
registry = Registry(location)
rng = random.Random(0)
began = time.monotonic()
Registry(location + "-timing").publish(Path(folders[0]))
usual = time.monotonic() - began
kill = 0
while kill < 15 or (kill < 100 and not registry.list_adapters()):
    kill += 1
    child = os.fork()
    if child == 0:
        for folder in folders * 100:
            registry.publish(Path(folder), f"kill/n{kill}-{rng.randrange(10**9)}")
        os._exit(0)
    time.sleep(rng.uniform(0, usual * (1 + kill / 10)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    problems = registry.verify()
    assert problems == [], (kill, problems)
assert registry.list_adapters() != []
registry.gc()
assert registry.verify() == []
assert not any(Path(location, "staging").iterdir())
assert registry.publish(Path(folders[0]), "kill/afterwards").number == 1
"""


def test_a_killed_publish_leaves_only_complete_versions(registry: Registry, make_adapter: MakeAdapter) -> None:
    folders = [make_adapter(seed) for seed in range(3)]

    run_python(KILLS, registry.location, *map(str, folders))


FORKS = """
import os, sys, threading
from pathlib import Path
from vertical_sdk.registry import Registry

location, *folders = map(Path, sys.argv[1:])
registry = Registry(location)
registry.publish(folders[0])
stop = threading.Event()

def read():
    while not stop.is_set():
        assert registry.resolve("medical/triage@1").number == 1

reader = threading.Thread(target=read)
reader.start()
children = []
for folder in folders[1:]:
    child = os.fork()
    if child == 0:
        registry.publish(folder)
        os._exit(0)
    registry.resolve("medical/triage")
    children.append(child)
ended = [os.waitpid(child, 0)[1] for child in children]
stop.set()
reader.join()
assert ended == [0] * len(children), ended
assert [v.number for v in registry.versions("medical/triage")] == list(range(1, len(folders) + 1))
assert registry.verify() == []
"""


CLEANING = """
import os, sys, time
from pathlib import Path
from vertical_sdk.registry import Registry

location, *folders = map(Path, sys.argv[1:])
registry = Registry(location)
children = []
for share in (folders[::2], folders[1::2]):
    child = os.fork()
    if child == 0:
        for folder in share:
            registry.publish(folder)
        os._exit(0)
    children.append(child)
ended = []
while len(ended) < 2:
    registry.gc()
    time.sleep(0.02)  # SQLite chooses among waiting processes by chance, not in turn
    ended += [status for child, status in (os.waitpid(c, os.WNOHANG) for c in children[len(ended):][:1]) if child]
assert ended == [0, 0], ended
registry.gc()
assert len(registry.versions("medical/triage")) == len(folders)
assert registry.verify() == []
assert not any(Path(location, "staging").iterdir())
"""


def test_gc_removes_nothing_of_a_running_publish(registry: Registry, make_adapter: MakeAdapter) -> None:
    folders = [make_adapter(seed) for seed in range(6)]

    run_python(CLEANING, registry.location, *map(str, folders))


def test_a_process_can_fork_with_an_open_registry(registry: Registry, make_adapter: MakeAdapter) -> None:
    folders = [make_adapter(seed) for seed in range(6)]

    run_python(FORKS, registry.location, *map(str, folders))


def test_a_file_system_without_hard_links_gets_copies(
    registry: Registry, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    version = registry.publish(make_adapter(1))

    assert (version.path / "tokenizer.json").stat().st_nlink == 1
    assert registry.resolve("medical/triage") == version
    assert registry.verify() == []


def test_a_damaged_index_is_reported(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    registry.close()
    Path(registry.location, "index.sqlite").write_bytes(b"not a database, but long enough to look like one" * 50)

    with pytest.raises(RegistryError, match="the index is damaged"):
        registry.resolve("medical/triage")


def test_sqlite_refuses_to_change_versions_and_the_log(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    connection = sqlite3.connect(Path(registry.location, "index.sqlite"))

    for statement in (
        "UPDATE versions SET digest = 'x'",
        "DELETE FROM versions",
        "UPDATE history SET who = 'x'",
        "DELETE FROM history",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.close()


def test_a_registry_can_be_pickled(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))

    assert pickle.loads(pickle.dumps(registry)).resolve("medical/triage").number == 1


def test_a_registry_that_was_deleted_can_be_used_again(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    shutil.rmtree(registry.location)

    assert registry.list_adapters() == []
    assert registry.publish(make_adapter(2)).number == 1


def test_the_registry_does_not_import_torch() -> None:
    code = "import sys; from vertical_sdk.registry import Registry, Reference, Version; assert 'torch' not in sys.modules"

    run_python(code)
