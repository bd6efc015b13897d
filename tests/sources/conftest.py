"""Tiny wheels, served to the real pip from a folder."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

MakeWheel = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "cache"


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder where pip looks for packages."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def make_wheel(wheelhouse: Path) -> MakeWheel:
    """Writes NAME-VERSION-py3-none-any.whl with these files in it."""

    def make(
        files: Mapping[str | zipfile.ZipInfo, bytes], name: str = "tiny_data", version: str = "1.0", **headers: str
    ) -> Path:
        info = f"{name}-{version}.dist-info"
        metadata = {"Metadata-Version": "2.4", "Name": name, "Version": version, **headers}
        whole: dict[str | zipfile.ZipInfo, bytes] = {
            **files,
            f"{info}/METADATA": "".join(f"{k.replace('_', '-')}: {v}\n" for k, v in metadata.items()).encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        lines = []
        for entry, content in whole.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            lines.append(f"{getattr(entry, 'filename', entry)},sha256={digest},{len(content)}\n")
        path = wheelhouse / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in {**whole, f"{info}/RECORD": "".join(lines).encode()}.items():
                archive.writestr(entry, content)
        return path

    return make
