"""What happens to a training from outside: full and read-only disks, Ctrl-C, kill -9, a second training. Nothing is left half made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_inputs.refusal import Refused, contents, refused
from conftest import topic_recipe

from vertical_sdk.cli.app import main

__all__ = ["refused"]

HERE = [sys.executable, "-m", "vertical_sdk.cli"]
Mount = Callable[..., None]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A recipe of 96 steps that saves often."""
    folder = tmp_path_factory.mktemp("days")
    return topic_recipe(
        folder, encoder, train__num_train_epochs=8, train__save_steps=6, evaluate={"baselines": [], "resamples": 100}
    )


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    """The run of the recipe that nothing happened to."""
    run = recipe.parent / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTICAL_HOME", str(recipe.parent / "home"))
        assert main(["train", str(recipe), "--out", str(run)]) == 0
    return run


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `vertical` as a process of its own, on one thread as the tests here are; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def do(*words: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([*HERE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield do
    for process in started:
        process.kill()
        process.communicate()


def trained(run: Path) -> dict[str, str]:
    """The digests of what was trained."""
    return {name: digest for name, digest in contents(run / "adapter").items() if name.endswith(".safetensors")}


def appears(process: subprocess.Popen[str], *found: str, below: Path) -> None:
    """Wait until a process has made something that a pattern finds."""
    deadline = time.monotonic() + 120
    while not any(list(below.glob(pattern)) for pattern in found):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def unfinished_parts(run: Path) -> list[Path]:
    """Files and folders that a crash in the middle of a write leaves, and that a run which ended must not have."""
    return [path for path in run.rglob(".*") if path.name != ".lock"]


# disks


@pytest.mark.parametrize("saves", [0.5, 1.5, 2.5])
def test_a_full_disk_stops_training_and_resuming_gives_the_same_weights(
    recipe: Path, undisturbed: Path, mount: Mount, tmp_path: Path, refused: Refused, saves: float
) -> None:
    checkpoint = next((undisturbed / "checkpoints").glob("checkpoint-*"))
    needed = sum(-(-file.stat().st_size // 4096) * 4096 for file in checkpoint.iterdir())
    disk = small_disk(mount, tmp_path, leave=int(saves * needed) + (64 << 10))
    run = disk / "run"
    words = ["train", str(recipe), "--out", str(run)]

    said = refused(words, 9)

    assert f"{run}/checkpoints/checkpoint-" in said
    assert "the disk is full. Free some space" in said
    assert not (run / "adapter").exists()
    (disk / "filling").unlink()
    assert main([*words, "--resume"]) == 0
    assert trained(run) == trained(undisturbed)
    assert unfinished_parts(run) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the writer of TensorBoard's events
@pytest.mark.parametrize("leave", [8 << 10, 24 << 10, 40 << 10, 56 << 10])
def test_a_disk_full_at_the_save_leaves_no_adapter_and_resuming_writes_it(
    recipe: Path, undisturbed: Path, mount: Mount, tmp_path: Path, refused: Refused, leave: int
) -> None:
    disk = small_disk(mount, tmp_path, leave=leave)
    run = disk / "run"
    words = ["train", str(recipe), "--out", str(run), "--set", "train.save_strategy=no"]

    said = refused(words, 9)

    assert str(run) in said
    assert "the disk is full. Free some space" in said
    assert not (run / "adapter").exists()
    (disk / "filling").unlink()
    assert main([*words, "--resume"]) == 0
    assert trained(run) == trained(undisturbed)
    assert unfinished_parts(run) == []


def small_disk(mount: Mount, folder: Path, *, leave: int) -> Path:
    """A disk of 8 MB that is full but for so many bytes; its file "filling" may be removed."""
    disk = folder / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m", "none", str(disk))
    with pytest.raises(OSError), (disk / "filling").open("wb", buffering=0) as file:  # noqa: PT012
        while True:
            file.write(b"x" * 4096)
    os.truncate(disk / "filling", (disk / "filling").stat().st_size - leave)
    return disk


def test_a_folder_that_is_read_only_is_refused_before_anything_is_trained(
    recipe: Path, mount: Mount, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "ro", "none", str(disk))

    said = refused(["train", str(recipe), "--out", str(disk / "run")], 9)

    assert f"{disk / 'run'}: cannot be written (Read-only file system). Choose a folder that you may write to." in said


def test_a_file_in_the_place_of_the_folder_is_refused_and_left_alone(recipe: Path, refused: Refused) -> None:
    Path("notes").write_text("mine", encoding="utf-8")

    for out in ("notes", "notes/run"):
        said = refused(["train", str(recipe), "--out", out], 9)
        assert said.startswith(f"{out}: The path is a file, not a folder.")
    assert Path("notes").read_text(encoding="utf-8") == "mine"


def test_a_cache_that_is_read_only_costs_time_only(
    recipe: Path, mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "ro", "none", str(disk))
    monkeypatch.setenv("VERTICAL_HOME", str(disk / "home"))

    assert main(["train", str(recipe), "--out", "run", "--set", "train.max_steps=4"]) == 0


# signals


def test_ctrl_c_in_training_ends_with_130_and_resuming_gives_the_same_weights(
    recipe: Path, undisturbed: Path, tmp_path: Path, start: Start
) -> None:
    run = tmp_path / "run"
    process = start("train", str(recipe), "--out", str(run))
    appears(process, "checkpoint-*/complete.json", below=run / "checkpoints")

    process.send_signal(signal.SIGINT)

    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert out == ""
    assert "Traceback" not in said
    assert f"Interrupted. Continue with: vertical train {recipe} --out {run} --resume" in said
    assert not (run / "adapter").exists()
    assert main(["train", str(recipe), "--out", str(run), "--resume"]) == 0
    assert json.loads((run / "adapter" / "vertical.json").read_text())["training"]["resumed_from"]
    assert trained(run) == trained(undisturbed)


def test_resuming_after_kill_9_in_a_save_gives_the_same_weights(
    recipe: Path, undisturbed: Path, tmp_path: Path, start: Start
) -> None:
    run = tmp_path / "run"
    process = start("train", str(recipe), "--out", str(run))
    appears(process, "checkpoint-*/complete.json", below=run / "checkpoints")
    first = {path.name for path in (run / "checkpoints").iterdir()}
    deadline = time.monotonic() + 60
    while {path.name for path in (run / "checkpoints").iterdir()} <= first and time.monotonic() < deadline:
        pass  # the next save begins by making its folder

    process.kill()

    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "adapter").exists()
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    if (newest / "complete.json").is_file():  # it was quicker than we are: tear the save as a crash of the machine does
        os.truncate(newest / "trained.safetensors", 100)
    assert main(["train", str(recipe), "--out", str(run), "--resume"]) == 0
    assert trained(run) == trained(undisturbed)
    assert unfinished_parts(run) == []


def test_a_second_training_in_the_same_folder_is_refused(
    recipe: Path, undisturbed: Path, tmp_path: Path, start: Start, refused: Refused
) -> None:
    run = tmp_path / "run"
    process = start("train", str(recipe), "--out", str(run))
    appears(process, "recipe.json", below=run)
    process.send_signal(signal.SIGSTOP)
    before = contents(run)

    for words in ([], ["--resume"]):
        said = refused(["train", str(recipe), "--out", str(run), *words], 9)
        assert said.startswith(f"{run}: Another training is writing to this folder.")
        assert "--out" in said

    assert contents(run) == before
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert trained(run) == trained(undisturbed)
