from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import filelock
import pytest
from servers.local_server import serving

from vertical_sdk.errors import DigestMismatch, OfflineError, RunError, SourceError
from vertical_sdk.paths import file_digest
from vertical_sdk.sources import fetch, pypi
from vertical_sdk.sources.pypi import find_cached, parse

MakeWheel = Callable[..., Path]
TINY = "pypi:tiny-data==1.0"
FETCH = f"from vertical_sdk.sources import fetch; print(fetch({TINY!r}, progress=lambda w, s: print(w, flush=True)).path)"


@pytest.fixture
def one_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search a wheel for one other Python, as each search starts pip once more."""
    monkeypatch.setattr(pypi, "PYTHONS", pypi.PYTHONS[:1])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cached_names(home: Path) -> list[str]:
    """List the names in the cache, except locks."""
    return sorted(p.name for p in (home / "wheels").glob("*") if p.suffix != ".lock") if (home / "wheels").exists() else []


def test_a_wheel_is_read_as_files(home: Path, make_wheel: MakeWheel) -> None:
    wheel = make_wheel(
        {"tiny_data/__init__.py": b"raise SystemExit('imported')", "tiny_data/rows.csv": b"a,b\n"}, License="MIT License"
    )

    whole = fetch(TINY)
    one = fetch("pypi:Tiny.Data==1.0.0".replace("1.0.0", "1.0"), file="tiny_data/rows.csv")

    assert (whole.path / "tiny_data" / "rows.csv").read_bytes() == b"a,b\n"
    assert one.path.read_bytes() == b"a,b\n"
    assert whole.sha256 == one.sha256 == sha256(wheel)
    assert (one.source, one.license, one.revision) == (TINY, "MIT", None)
    assert "tiny_data" not in sys.modules
    assert len(cached_names(home)) == 1
    assert not list(home.rglob("*.whl"))


def test_a_wheel_in_the_cache_is_used_without_pip(home: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel({"rows.csv": b"a"})
    first = fetch(TINY)
    digest = sha256(wheel)
    wheel.unlink()
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    assert fetch(TINY) == fetch(TINY, sha256=digest) == first
    assert find_cached(TINY) == first.path
    assert find_cached(TINY, "0" * 64) is None


def test_a_wheel_with_a_wrong_digest_is_refused(home: Path, make_wheel: MakeWheel) -> None:
    wheel = make_wheel({"rows.csv": b"a"})

    with pytest.raises(DigestMismatch, match=sha256(wheel)):
        fetch(TINY, sha256="0" * 64)

    assert cached_names(home) == []


def test_a_wheel_that_the_sdk_pins_is_checked_unasked(home: Path, make_wheel: MakeWheel) -> None:
    make_wheel({"rows.csv": b"not the real one"}, name="simple_icd_10_cm", version="1.5.0")

    with pytest.raises(DigestMismatch, match="6d461d71dc26"):
        fetch("pypi:simple-icd-10-cm==1.5.0")


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    ("entry", "content", "why"),
    [
        ("../evil.txt", b"x", "outside"),
        ("/tmp/evil.txt", b"x", "outside"),
        ("a/../../evil.txt", b"x", "outside"),
        ("a\\..\\evil.txt", b"x", "outside"),
        ("C:/evil.txt", b"x", "outside"),
        (link("evil"), b"/etc/passwd", "link"),
        ("zeros", bytes(70 << 20), "would unpack to"),
    ],
)
def test_a_wheel_with_a_dangerous_entry_is_refused(
    home: Path, make_wheel: MakeWheel, entry: str | zipfile.ZipInfo, content: bytes, why: str
) -> None:
    make_wheel({"rows.csv": b"a", entry: content})

    with pytest.raises(SourceError, match=why):
        fetch(TINY)

    assert cached_names(home) == []
    assert not list(home.parent.parent.rglob("evil*"))


def test_two_entries_of_one_place_are_refused(home: Path, make_wheel: MakeWheel) -> None:
    make_wheel({"a": b"a file", "a/b": b"and a folder"})

    with pytest.raises(SourceError, match="same path"):
        fetch(TINY)

    assert cached_names(home) == []


def test_a_source_archive_is_never_built(home: Path, wheelhouse: Path, tmp_path: Path, one_python: None) -> None:
    setup = (
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom setuptools import setup\nsetup(name='tiny-data', version='1.0')\n".encode()
    )
    with tarfile.open(wheelhouse / "tiny_data-1.0.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("tiny_data-1.0/setup.py")
        entry.size = len(setup)
        archive.addfile(entry, io.BytesIO(setup))

    with pytest.raises(SourceError, match=r"no wheel of tiny-data 1.0.*never built") as caught:
        fetch(TINY)

    assert not isinstance(caught.value, OfflineError)
    assert not (tmp_path / "ran").exists()


def test_a_missing_version_is_refused_with_the_available_ones(home: Path, make_wheel: MakeWheel, one_python: None) -> None:
    make_wheel({"rows.csv": b"a"}, version="0.9")

    with pytest.raises(SourceError, match=r"no wheel of tiny-data 1\.0 .*it has 0\.9"):
        fetch(TINY)


@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_a_cut_wheel_is_refused_and_the_whole_one_then_taken(home: Path, make_wheel: MakeWheel, keep: float) -> None:
    wheel = make_wheel({"rows.csv": bytes(range(256)) * 20})
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: int(len(whole) * keep)])

    with pytest.raises(SourceError):
        fetch(TINY)
    assert cached_names(home) == []

    wheel.write_bytes(whole)
    assert (fetch(TINY).path / "rows.csv").read_bytes() == bytes(range(256)) * 20


def test_a_changed_byte_inside_a_wheel_is_noticed(home: Path, make_wheel: MakeWheel) -> None:
    stored = zipfile.ZipInfo("rows.csv")
    wheel = make_wheel({stored: b"patient,code\n"})
    wheel.write_bytes(wheel.read_bytes().replace(b"patient,code", b"patient,c0de"))

    with pytest.raises(SourceError, match="cut or damaged"):
        fetch(TINY)

    assert cached_names(home) == []


@pytest.fixture
def half_a_wheel() -> Iterator[tuple[str, threading.Event]]:
    """An index that sends half a wheel and then nothing more."""
    asked, stop = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if self.path.endswith(".whl"):
                self.send_header("Content-Length", "200000")
                self.end_headers()
                self.wfile.write(bytes(100_000))
                self.wfile.flush()
                asked.set()
                stop.wait(20)
                return
            page = b'<html><body><a href="tiny_data-1.0-py3-none-any.whl">tiny_data-1.0-py3-none-any.whl</a></body></html>'
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    with serving(Handler) as address:
        yield f"{address}/", asked
        stop.set()


def test_a_killed_download_leaves_nothing_that_is_used(
    home: Path, make_wheel: MakeWheel, half_a_wheel: tuple[str, threading.Event]
) -> None:
    address, asked = half_a_wheel
    child = subprocess.Popen(
        [sys.executable, "-c", FETCH],
        env={**os.environ, "PIP_FIND_LINKS": address},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert asked.wait(30)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert [name for name in cached_names(home) if name.endswith(".part")]
    assert find_cached(TINY) is None

    make_wheel({"rows.csv": b"whole"})
    assert (fetch(TINY).path / "rows.csv").read_bytes() == b"whole"
    assert not [name for name in cached_names(home) if name.endswith(".part")]


def test_two_processes_at_once_download_once(home: Path, make_wheel: MakeWheel) -> None:
    make_wheel({"rows.csv": b"a"})
    (home / "wheels").mkdir(parents=True)
    with filelock.FileLock(home / "wheels" / ".tiny-data-1.0.lock"):
        children = [subprocess.Popen([sys.executable, "-c", FETCH], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        first = [child.stdout.readline() for child in children if child.stdout]
    said = [child.communicate(timeout=60)[0].splitlines() for child in children]

    assert all(line.startswith("waiting for another process") for line in first)
    assert [child.returncode for child in children] == [0, 0]
    assert said[0][-1] == said[1][-1]
    assert sum(line.startswith("downloading") for lines in said for line in lines) == 1


def test_a_cache_that_was_copied_in_part_is_made_again(home: Path, make_wheel: MakeWheel) -> None:
    make_wheel({"a.csv": b"a", "b.csv": b"b"})
    (fetch(TINY).path / "b.csv").unlink()
    assert find_cached(TINY) is None

    assert (fetch(TINY).path / "b.csv").read_bytes() == b"b"


def test_a_download_without_a_network_is_refused_with_ways_out(
    home: Path, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch, one_python: None
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")

    with pytest.raises(OfflineError, match=r"cannot be reached.*PIP_FIND_LINKS") as caught:
        fetch(TINY)

    assert str(home / "wheels") in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_python_without_pip_is_refused(home: Path, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))

    with pytest.raises(OfflineError, match="has no pip"):
        fetch(TINY)


def test_a_file_called_pip_in_the_working_folder_is_not_run(
    home: Path, make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel({"rows.csv": b"a"})
    (tmp_path / "pip.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path)

    fetch(TINY)

    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_reported_and_leaves_nothing(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel({"rows.bin": os.urandom(1 << 20), "zeros": bytes(3 << 20)})
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    monkeypatch.setenv("VERTICAL_HOME", str(disk))
    try:
        with pytest.raises(RunError, match="disk is full"):
            fetch(TINY)
        assert [p for p in disk.rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    "source",
    [
        "pypi:tiny-data",
        "pypi:tiny-data>=1",
        "pypi:tiny-data==1.*",
        "pypi:-r==1",
        "pypi:a b==1",
        "pypi:x==1 --pre",
        "pypi:==1",
        "pypi:x[y]==1",
    ],
)
def test_a_wheel_must_have_a_plain_name_and_one_version(source: str) -> None:
    with pytest.raises(SourceError, match="NAME==VERSION"):
        parse(source)


def test_a_missing_file_is_refused_with_similar_names(home: Path, make_wheel: MakeWheel) -> None:
    make_wheel({"tiny_data/data/codes-2026.txt": b"a", "tiny_data/other.xml": b"b"})

    with pytest.raises(SourceError, match=r"Similar names: tiny_data/data/codes-2026\.txt"):
        fetch(TINY, file="codes-2025.txt")
    with pytest.raises(SourceError, match="path inside"):
        fetch(TINY, file="../../../x")


def test_a_wheel_for_another_python_is_read_too(make_wheel: MakeWheel) -> None:
    made = make_wheel({"tiny_data/rows.csv": b"a\n"})
    made.rename(made.with_name("tiny_data-1.0-cp310-none-any.whl"))  # at most one of the two is for this Python
    other = make_wheel({"tiny_data/rows.csv": b"b\n"})
    other = other.rename(other.with_name("tiny_data-1.0-cp313-none-any.whl"))

    found = fetch("pypi:tiny-data==1.0", file="tiny_data/rows.csv", sha256=file_digest(other))

    assert found.path.read_bytes() == b"b\n"
