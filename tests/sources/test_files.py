from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import fsspec
import pytest
from servers.local_server import serving

from vertical_sdk.errors import DigestMismatch, OfflineError, SourceError
from vertical_sdk.sources import fetch
from vertical_sdk.sources.fetched import folder_digest, hide_secrets


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True) if store.ls("/") else None


def test_a_local_file_is_used_where_it_is(home: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"text,label\n")

    fetched = fetch(str(tmp_path / "rows.csv"))

    assert fetched.path == tmp_path / "rows.csv"
    assert fetched.sha256 == hashlib.sha256(b"text,label\n").hexdigest()
    assert fetch((tmp_path / "rows.csv").as_uri(), sha256=fetched.sha256).path == fetched.path
    assert not home.exists()


def test_a_file_is_chosen_from_a_local_folder(home: Path, tmp_path: Path) -> None:
    (tmp_path / "d" / "deep").mkdir(parents=True)
    (tmp_path / "d" / "deep" / "train.csv").write_bytes(b"1")
    (tmp_path / "d" / "test.csv").write_bytes(b"2")

    chosen = fetch(str(tmp_path / "d"), file="deep/train.csv")

    assert chosen.path == tmp_path / "d" / "deep" / "train.csv"
    assert chosen.sha256 == hashlib.sha256(b"1").hexdigest()
    with pytest.raises(SourceError, match=r"no file 'train\.cvs'. Similar names: deep/train\.csv"):
        fetch(str(tmp_path / "d"), file="train.cvs")
    with pytest.raises(SourceError, match="Leave 'file' out"):
        fetch(str(tmp_path / "d" / "test.csv"), file="x")


def test_the_digest_of_a_folder_is_that_of_what_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "a" / "x").write_bytes(b"1")
    (tmp_path / "d" / "b").write_bytes(b"2")
    printed = subprocess.run(["sha256sum", "a/x", "b"], cwd=tmp_path / "d", capture_output=True, check=True).stdout

    assert folder_digest(tmp_path / "d") == hashlib.sha256(printed).hexdigest()
    with pytest.raises(DigestMismatch):
        fetch(str(tmp_path / "d"), sha256="0" * 64)


def test_a_missing_path_is_refused_with_similar_names(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").touch()

    with pytest.raises(
        SourceError, match=rf"no such file or folder\. Similar names in {re.escape(str(tmp_path))}: notes\.csv\.$"
    ):
        fetch(str(tmp_path / "note.csv"))
    with pytest.raises(SourceError, match="Did you mean 'pypi'"):
        fetch("pypy:x==1")
    with pytest.raises(SourceError, match="''"):
        fetch("")
    for impossible in ("~nobody-of-that-name/x", "x" * 5000, "a\0b"):
        with pytest.raises(SourceError):
            fetch(impossible)


def test_a_file_of_a_store_is_copied_again_after_a_change(home: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/bucket/rows.csv", b"old")
    old = fetch("memory://bucket/rows.csv")
    old_bytes, old_path = old.path.read_bytes(), old.path
    again = fetch("memory://bucket/rows.csv")

    memory.pipe_file("/bucket/rows.csv", b"new!")
    new = fetch("memory://bucket", file="rows.csv")

    assert (old_bytes, again.path) == (b"old", old_path)
    assert new.path.read_bytes() == b"new!"
    assert new.path.is_relative_to(home)
    assert new.sha256 == hashlib.sha256(b"new!").hexdigest()


def test_a_pinned_copy_is_used_though_the_store_is_gone(home: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/bucket/rows.csv", b"rows")
    digest = hashlib.sha256(b"rows").hexdigest()
    fetch("memory://bucket/rows.csv", sha256=digest)
    memory.rm("/bucket/rows.csv")

    assert fetch("memory://bucket/rows.csv", sha256=digest).path.read_bytes() == b"rows"
    with pytest.raises(SourceError, match="nothing is at this address"):
        fetch("memory://bucket/rows.csv")


def test_a_store_s_file_with_a_wrong_digest_is_not_kept(home: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/bucket/rows.csv", b"rows")

    with pytest.raises(DigestMismatch, match="nothing was saved"):
        fetch("memory://bucket/rows.csv", sha256="0" * 64)

    assert not [p for p in home.rglob("*") if p.name == "rows.csv"]


def test_a_store_s_folder_is_copied_whole(home: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe({"/bucket/d/a/x": b"1", "/bucket/d/b": b"2"})

    fetched = fetch("memory://bucket/d")

    assert {p.relative_to(fetched.path).as_posix(): p.read_bytes() for p in fetched.path.rglob("*") if p.is_file()} == {
        "a/x": b"1",
        "b": b"2",
    }
    assert fetched.sha256 == folder_digest(fetched.path)


def test_an_address_that_nobody_answers_is_an_offline_error(home: Path) -> None:
    with pytest.raises(OfflineError, match="cannot be reached"):
        fetch("http://127.0.0.1:9/rows.csv")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server that has /rows.csv, and sends half of /cut.csv."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.startswith(("/rows", "/cut")) else 404)
            self.send_header("Content-Length", "10")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"0123456789" if self.path.startswith("/rows") else b"01234")

        do_HEAD = do_GET  # noqa: N815

    with serving(Handler) as address:
        yield address


def test_a_file_of_the_web_is_copied_whole_or_not_at_all(home: Path, web: str) -> None:
    fetched = fetch(f"{web}/rows.csv?token=s3cret")

    assert fetched.path.read_bytes() == b"0123456789"
    assert fetched.source == f"{web}/rows.csv"
    with pytest.raises(SourceError, match=r"cut\.csv"):
        fetch(f"{web}/cut.csv")
    with pytest.raises(SourceError, match="nothing is at this address"):
        fetch(f"{web}/none.csv")
    assert [p.name for p in home.rglob("*.csv*") if p.is_file()] == [fetched.path.name]


def test_an_unknown_store_is_refused(home: Path) -> None:
    with pytest.raises(SourceError, match=r"[Pp]rotocol not known: nosuch"):
        fetch("nosuch://bucket/x")
    with pytest.raises(SourceError, match="chained"):
        fetch("zip://x::memory://bucket/x.zip")


def test_passwords_are_not_shown() -> None:
    assert hide_secrets("https://me:pw@host/a.csv?X-Amz-Signature=abc") == "https://host/a.csv"
    assert hide_secrets("https://host/a.csv?download=1") == "https://host/a.csv?download=1"
    assert hide_secrets("/data/a@b.csv") == "/data/a@b.csv"


def test_owner_and_repository_are_no_secrets() -> None:
    assert hide_secrets("github://owner:repository@main/data") == "github://owner:repository@main/data"


def test_a_digest_must_look_like_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="64 hexadecimal"):
        fetch(str(tmp_path), sha256="abc")
