from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from servers.local_server import serving

from vertical_sdk.errors import OfflineError, SourceError
from vertical_sdk.sources import fetch
from vertical_sdk.sources.hub import keep_splits, parse

COMMIT = "a" * 40
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "test.csv": b"text,label\nc,x\n",
    "train.csv": b"text,label\na,x\nb,y\n",
}


@pytest.fixture
def dataset_in_cache(home: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    splits = {"train": datasets.Dataset.from_dict({"text": ["a", "b"]}), "test": datasets.Dataset.from_dict({"text": ["c"]})}
    folder = home / "hub" / "owner--notes"
    (folder / "building").mkdir(parents=True)
    keep_splits(splits, folder / "building", folder / f"{COMMIT}-default", {"commit": COMMIT, "license": "cc0-1.0"})
    known = [COMMIT, "cc0-1.0"]
    (folder / "revisions.json").write_text(json.dumps({"main": known, COMMIT: known}))
    return folder


def test_an_address_has_a_name_and_perhaps_more() -> None:
    assert parse("hf:owner/notes") == ("owner/notes", None, None)
    assert parse("hf:owner/notes:plain@v1") == ("owner/notes", "plain", "v1")
    with pytest.raises(SourceError, match="hf:OWNER/NAME"):
        parse("hf:owner/notes/../x")


def test_splits_are_kept_as_parquet_and_used_offline(
    home: Path, dataset_in_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    whole = fetch("hf:owner/notes")
    train = fetch("hf:owner/notes", file="train.parquet")

    assert sorted(p.name for p in whole.path.iterdir()) == ["test.parquet", "train.parquet"]
    assert pq.read_table(train.path).to_pydict() == {"text": ["a", "b"]}
    assert (whole.revision, whole.license) == (COMMIT, "cc0-1.0")
    assert train.sha256 == hashlib.sha256(train.path.read_bytes()).hexdigest()


def test_a_hub_that_is_switched_off_is_not_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(OfflineError, match=r"HF_HUB_OFFLINE.*HF_ENDPOINT"):
        fetch("hf:owner/notes")


def test_a_hub_that_does_not_answer_leaves_what_was_had_before(
    home: Path, dataset_in_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    assert fetch("hf:owner/notes").revision == COMMIT
    with pytest.raises(OfflineError, match="cannot be reached"):
        fetch("hf:owner/other")


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub on this machine that has the data set owner/notes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if path.startswith("/api/datasets/owner/notes/revision/"):
                siblings = [{"rfilename": n} for n in FILES]
                self.answer({"id": "owner/notes", "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}})
            elif path == f"/api/datasets/owner/notes/tree/{COMMIT}":
                rows = [
                    {"type": "file", "path": n, "size": len(b), "oid": f"{i:040x}"} for i, (n, b) in enumerate(FILES.items())
                ]
                self.answer(rows)
            elif path.startswith("/datasets/owner/notes/resolve/") and name in FILES:
                self.answer(FILES[name])
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def answer(self, what: object) -> None:
            body = what if isinstance(what, bytes) else json.dumps(what).encode()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    with serving(Handler) as address:
        yield address


def test_a_data_set_is_downloaded_under_its_commit(
    home: Path, hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": ""}
    code = "from vertical_sdk.sources import fetch; print(fetch('hf:owner/notes').path)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    whole = fetch("hf:owner/notes", revision=COMMIT)

    assert str(whole.path) == done.stdout.strip()
    assert (whole.revision, whole.license) == (COMMIT, "mit")
    assert pq.read_table(whole.path / "train.parquet").to_pydict() == {"text": ["a", "b"], "label": ["x", "y"]}
    assert pq.read_table(whole.path / "test.parquet").to_pydict() == {"text": ["c"], "label": ["x"]}
    assert not list(home.rglob("*.part"))
