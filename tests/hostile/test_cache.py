"""The cache is not believed: what is in it is compared with what was saved, also if sizes and times were put back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vertical_sdk.bases.fingerprint import fingerprint
from vertical_sdk.cli.app import app
from vertical_sdk.errors import DigestMismatch
from vertical_sdk.sources import fetch
from vertical_sdk.sources.keep import FILES, RECORD, build_folder, finish_folder, list_problems, read_record


def keep(home: Path, text: str = "a,b\n1,2\n") -> Path:
    with build_folder(home, "kept") as temporary:
        (temporary / "built" / FILES).mkdir(parents=True)
        (temporary / "built" / FILES / "rows.csv").write_text(text, encoding="utf-8")
        finish_folder(temporary / "built", home / "kept", {"sha256": "0" * 64})
    return home / "kept"


def change(path: Path) -> None:
    """Change a byte, and put size and time back."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_a_changed_file_of_the_cache_is_an_error(tmp_path: Path) -> None:
    target = keep(tmp_path)
    assert read_record(target) is not None
    change(target / FILES / "rows.csv")

    with pytest.raises(DigestMismatch, match=r"rows\.csv has changed since it was saved.*Delete .*kept"):
        read_record(target)


def test_a_file_that_was_put_into_the_cache_is_an_error(tmp_path: Path) -> None:
    target = keep(tmp_path)
    (target / FILES / "chat_template.jinja").write_text("{{ 1 }}", encoding="utf-8")

    with pytest.raises(DigestMismatch, match=r"chat_template\.jinja was added"):
        read_record(target)


def test_a_copy_of_the_cache_is_read_once_and_believed(tmp_path: Path) -> None:
    target = keep(tmp_path / "first")
    copy = tmp_path / "second" / "kept"
    shutil.copytree(target, copy)
    before = (copy / RECORD).read_bytes()

    assert read_record(copy) is not None
    assert (copy / RECORD).read_bytes() != before, "the stamps of the copy are kept"
    assert list_problems(copy) == []


def test_a_record_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    target = keep(tmp_path)
    (target / RECORD).write_text('{"sha256": "0", "files": {"rows.csv": 8}}', encoding="utf-8")

    assert read_record(target) is not None
    assert "without a digest" in list_problems(target)[0]


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"files": []}', '{"files": {"x": NaN}}', "null", "{", '{"files": {"../../x": 1}}']
)
def test_a_record_that_is_nonsense_counts_as_none(tmp_path: Path, content: str) -> None:
    target = keep(tmp_path)
    (target / RECORD).write_text(content, encoding="utf-8")

    assert read_record(target) is None


def test_a_changed_copy_of_a_remote_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path))
    with fsspec.open("memory://hostile/rows.csv", "w") as file:
        file.write("a,b\n1,2\n")
    path = fetch("memory://hostile/rows.csv").path
    change(path)

    with pytest.raises(DigestMismatch, match="has changed since it was saved"):
        fetch("memory://hostile/rows.csv")
    result = CliRunner().invoke(app, ["base", "verify"])
    assert result.exit_code == DigestMismatch.exit_code
    assert "rows.csv has changed" in " ".join(result.output.split())
    shutil.rmtree(path.parent.parent)
    assert fetch("memory://hostile/rows.csv").path.read_text(encoding="utf-8") == "a,b\n1,2\n"
    assert CliRunner().invoke(app, ["base", "verify"]).exit_code == 0


def test_weights_that_change_under_an_old_time_have_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path
) -> None:
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path / "home"))
    folder = tmp_path / "base"
    shutil.copytree(encoder, folder)
    first = fingerprint(folder, "base")
    change(folder / "model.safetensors")

    assert fingerprint(folder, "base").weights != first.weights


def test_a_commit_of_the_hub_that_changes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path) -> None:
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path / "home"))
    folder = tmp_path / ("ab" * 20)
    shutil.copytree(encoder, folder)
    fingerprint(folder, "owner/base", revision=folder.name)
    change(folder / "model.safetensors")

    with pytest.raises(DigestMismatch, match="its weights changed"):
        fingerprint(folder, "owner/base", revision=folder.name)
