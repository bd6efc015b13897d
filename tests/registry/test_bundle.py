"""Bundles, and files that an attacker made to look like one."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry.conftest import sign_with_new_key

from vertical_sdk.card import Verdict
from vertical_sdk.errors import CorruptAdapter, GateFailed, RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.bundle import bundle, unbundle
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.store import Stored, canonical_json

MakeAdapter = Callable[..., Path]


@pytest.fixture
def registry(tmp_path: Path, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with three versions of a name; the third was published by force."""
    monkeypatch.setenv("VERTICAL_USER", "ada")
    registry = Registry(tmp_path / "registry")
    for seed in (1, 2):
        registry.publish(make_adapter(seed), tags={"seed": str(seed)})
    registry.publish(make_adapter(3, verdict=Verdict(passed=False, reasons=("worse",))), force=True, reason="to show")
    registry.set_alias("medical/triage", "production", 2)
    sign_with_new_key(registry, "medical/triage@2", tmp_path / "signer")
    return registry


@pytest.fixture
def target(tmp_path: Path) -> Registry:
    """An empty registry for the bundles."""
    return Registry(tmp_path / "arrived" / "registry")


def facts(registry: Registry) -> list[dict[str, Any]]:
    return [
        {**v.to_dict(), "files": {p.name: p.read_bytes() for p in v.path.iterdir()}, "signatures": dict(v.signatures)}
        for v in registry.versions("medical/triage")
    ]


def test_a_bundled_version_arrives_unchanged(registry: Registry, target: Registry, tmp_path: Path) -> None:
    file = tmp_path / "out" / "adapters.zip"

    versions = bundle(registry, [f"medical/triage@{n}" for n in (3, 1, 2)], file)
    report = unbundle(file, target, trust_notes=True)

    assert [str(version) for version in versions] == ["medical/triage@1", "medical/triage@2", "medical/triage@3"]
    assert [(v.before, v.after, v.new) for v in report.versions] == [(1, 1, True), (2, 2, True), (3, 3, True)]
    assert facts(target) == facts(registry)
    assert target.verify() == []
    assert target.history("medical/triage")[2].action == "publish by force"
    assert "copied from the bundle adapters.zip (medical/triage@3)" in target.history("medical/triage")[2].why
    assert [p.name for p in file.parent.iterdir()] == ["adapters.zip"]


def test_the_same_versions_give_the_same_bytes(registry: Registry, target: Registry, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one.zip", "two.zip", "three.zip"))
    bundle(registry, ["medical/triage@1", "medical/triage@production"], one)
    bundle(registry, ["medical/triage@2", "medical/triage@1", "medical/triage@2"], two)
    unbundle(one, target, trust_notes=True)
    bundle(target, ["medical/triage@1", "medical/triage@2"], three)

    assert one.read_bytes() == two.read_bytes() == three.read_bytes()


def test_unbundling_twice_changes_nothing(registry: Registry, target: Registry, tmp_path: Path) -> None:
    bundle(registry, ["medical/triage@2"], tmp_path / "b.zip")
    unbundle(tmp_path / "b.zip", target)
    before = target.history("medical/triage")

    report = unbundle(tmp_path / "b.zip", target)

    assert [(v.before, v.after, v.new) for v in report.versions] == [(2, 1, False)]
    assert target.history("medical/triage") == before


def test_unbundle_can_select_names(registry: Registry, target: Registry, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    registry.publish(make_adapter(9, name="legal/clause"))
    bundle(registry, ["medical/triage", "legal/clause"], tmp_path / "b.zip")

    unbundle(tmp_path / "b.zip", target, ["legal/clause"])

    assert target.store.names() == ["legal/clause"]
    with pytest.raises(RegistryError, match=r"has no adapter called legal/x\. It has legal/clause, medical/triage"):
        unbundle(tmp_path / "b.zip", target, ["legal/x"])


def test_a_revoked_version_is_bundled_only_if_allowed_and_stays_revoked(
    registry: Registry, target: Registry, tmp_path: Path
) -> None:
    registry.revoke("medical/triage@2", "wrong labels")
    file = tmp_path / "b.zip"

    with pytest.raises(RegistryError, match="wrong labels"):
        bundle(registry, ["medical/triage@2"], file)
    assert not file.exists()
    bundle(registry, ["medical/triage@2"], file, allow_revoked=["medical/triage@2"])
    unbundle(file, target, trust_notes=True)
    with pytest.raises(RegistryError, match="wrong labels"):
        target.resolve("medical/triage")


def test_a_damaged_version_is_not_bundled_and_the_old_file_remains(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "b.zip"
    bundle(registry, ["medical/triage@1"], file)
    before = file.read_bytes()
    weights = registry.resolve("medical/triage@2").path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"damaged")

    with pytest.raises(CorruptAdapter, match=r"adapter_model\.safetensors has changed"):
        bundle(registry, ["medical/triage@1", "medical/triage@2"], file)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*b.zip*")] == ["b.zip"]
    with pytest.raises(RegistryError, match="at least one version"):
        bundle(registry, [], file)


def test_the_policy_of_the_target_applies_to_a_bundle(registry: Registry, target: Registry, tmp_path: Path) -> None:
    from vertical_sdk.registry.keys import create_key_pair
    from vertical_sdk.registry.signing import sign

    public, _ = create_key_pair(tmp_path / "ada")
    file = tmp_path / "b.zip"
    bundle(registry, ["medical/triage@1"], file)
    trusting = Registry(target.location, Policy(trusted_keys=(public,)))

    with pytest.raises(RegistryError, match=r"b\.zip: medical/triage@1: .*states no licence"):
        unbundle(file, Registry(target.location, Policy(licenses=("mit",))))
    with pytest.raises(RegistryError, match=r"b\.zip: medical/triage@1: medical/triage@1 is not signed"):
        unbundle(file, trusting)
    assert not Path(target.location).exists()
    sign(registry, "medical/triage@1", tmp_path / "ada")
    bundle(registry, ["medical/triage@1"], file)
    unbundle(file, trusting)
    assert trusting.resolve("medical/triage").number == 1


# The following files were made by an attacker.


class Forged:
    """The members of a valid bundle, to change and write again."""

    def __init__(self, registry: Registry, folder: Path, reference: str = "medical/triage@1") -> None:
        self.file = folder / "forged.zip"
        version = bundle(registry, [reference], self.file)[0]
        with zipfile.ZipFile(self.file) as archive:
            self.members: list[tuple[zipfile.ZipInfo | str, bytes]] = [
                (i.filename, archive.read(i)) for i in archive.infolist()
            ]
        self.contents = json.loads(self.members[0][1])
        self.line = self.contents["versions"][0]
        self.manifest = dict(registry.store.manifest(version.digest))
        self.digest = version.digest

    def write(self, packing: int = zipfile.ZIP_STORED) -> Path:
        self.members[0] = ("bundle.json", json.dumps(self.contents).encode())
        with zipfile.ZipFile(self.file, "w", packing) as archive:
            for info, content in self.members:
                archive.writestr(info, content)
        return self.file

    def put(self, path: str, content: bytes) -> None:
        """Add a file to the version, with correct digests."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.manifest[path] = Stored(sha256, len(content))
        self.members.append((f"objects/{sha256}", content))
        self.renew(canonical_json(self.manifest))

    def renew(self, page: bytes) -> None:
        """Replace the manifest."""
        self.members = [(name, content) for name, content in self.members if name != f"objects/{self.digest}"]
        self.digest = self.line["digest"] = hashlib.sha256(page).hexdigest()
        self.members.append((f"objects/{self.digest}", page))


@pytest.fixture
def forged(registry: Registry, tmp_path: Path) -> Forged:
    return Forged(registry, tmp_path)


def check_refused(file: Path, target: Registry, match: str, **options: Any) -> None:
    """Check that a file is refused with its name, and that no other file was written."""
    before = {p: p.stat().st_mtime_ns for p in file.parent.rglob("*") if p.is_file()}
    with pytest.raises((RegistryError, CorruptAdapter), match=match) as raised:
        unbundle(file, target, **options)
    assert file.name in str(raised.value)
    assert {p: p.stat().st_mtime_ns for p in file.parent.rglob("*") if p.is_file()} == before
    assert not Path(target.location).exists()


def test_an_unchanged_bundle_is_accepted(forged: Forged, target: Registry) -> None:
    unbundle(forged.write(), target)

    assert target.resolve("medical/triage").number == 1


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "objects/../../x",
        "objects/" + "A" * 64,
        "C:\\x",
        "objects/",
        "x.pkl",
        "objects/" + "a" * 64 + "/x",
        "bundle.json/",
    ],
)
def test_a_member_with_another_name_is_refused(name: str, forged: Forged, target: Registry) -> None:
    forged.members.append((name, b""))

    check_refused(forged.write(), target, "is neither bundle.json nor objects/")


def test_a_link_is_refused(forged: Forged, target: Registry) -> None:
    link = zipfile.ZipInfo("objects/" + "a" * 64)
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    forged.members.append((link, b"/etc/passwd"))

    check_refused(forged.write(), target, "is a link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("place", [0, 1])
def test_a_member_that_appears_twice_is_refused(place: int, forged: Forged, target: Registry) -> None:
    forged.members.append(forged.members[place])

    check_refused(forged.write(), target, "appears twice")


def test_compressed_members_are_refused(forged: Forged, target: Registry) -> None:
    bomb = b"\0" * 10_000_000
    forged.members.append((f"objects/{hashlib.sha256(bomb).hexdigest()}", bomb))

    check_refused(forged.write(zipfile.ZIP_DEFLATED), target, "is compressed")


def test_a_bundle_above_the_limit_is_refused(forged: Forged, target: Registry) -> None:
    size = forged.write().stat().st_size

    check_refused(forged.file, target, rf"has {size} bytes; at most {size - 1} are read", limit=size - 1)
    unbundle(forged.file, target, limit=size)


def test_one_member_used_for_many_files_counts_each_time(forged: Forged, target: Registry) -> None:
    zeros = b"\0" * 10_000
    for number in range(50):
        forged.manifest[f"{number}.json"] = Stored(hashlib.sha256(zeros).hexdigest(), len(zeros))
    forged.put("last.json", zeros)

    check_refused(forged.write(), target, r"would unpack to 51\d{4} bytes; at most 100000", limit=100_000)


def test_members_larger_than_the_file_are_refused(forged: Forged, target: Registry) -> None:
    content = bytearray(forged.write().read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<LL", 1 << 30, 1 << 30)
    forged.file.write_bytes(content)

    check_refused(forged.file, target, "more than the whole file has|cut or damaged")


def test_overlapping_members_are_refused(forged: Forged, target: Registry) -> None:
    content = bytearray(forged.write().read_bytes())
    listed = [at for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]
    content[listed[2] + 42 : listed[2] + 46] = content[listed[1] + 42 : listed[1] + 46]
    forged.file.write_bytes(content)

    check_refused(forged.file, target, "damaged|changed|missing")


@pytest.mark.parametrize("zip64", [False, True])
def test_a_long_list_of_members_is_refused(zip64: bool, tmp_path: Path, target: Registry) -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 0xFFFFFFFF, 0, 0)
    large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**9, 10**9, 46 * 10**9, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    (tmp_path / "long.zip").write_bytes((large + locator if zip64 else b"") + end)

    check_refused(tmp_path / "long.zip", target, "members; at most")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_bundle_is_refused(share: float, forged: Forged, target: Registry) -> None:
    content = forged.write().read_bytes()
    forged.file.write_bytes(content[: int(share * len(content))])

    check_refused(forged.file, target, "this is not a bundle, or it is cut")


def test_every_flipped_byte_is_detected_or_harmless(forged: Forged, tmp_path: Path) -> None:
    import random

    content = forged.write().read_bytes()
    rng, accepted = random.Random(0), 0
    for turn in range(60):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        forged.file.write_bytes(changed)
        copy = Registry(tmp_path / "flipped" / str(turn))
        with contextlib.suppress(CorruptAdapter, RegistryError):
            unbundle(forged.file, copy)
        if Path(copy.location).exists():
            accepted += 1
            assert copy.verify() == []
            assert copy.versions("medical/triage")[0].digest == forged.digest
    assert accepted < 30  # bytes without meaning, such as the time of a member


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "weights.pkl", "pytorch_model.bin", "a\\b", "", "."])
def test_a_manifest_path_out_of_the_folder_is_refused(path: str, forged: Forged, target: Registry) -> None:
    forged.put(path, b"evil")

    check_refused(forged.write(), target, "cannot be a file of a version|pickled")


def test_a_file_below_a_file_is_refused(forged: Forged, target: Registry) -> None:
    forged.put("tokenizer.json/x", b"evil")

    check_refused(forged.write(), target, "not a manifest")


@pytest.mark.parametrize(
    "page",
    [
        b"[]",
        b"{",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"a": 1}',
        b'{"a": {"sha256": "../../x", "size": 1}}',
        b'{"a":{"sha256":"../../x","size":1}}',
        b'{"a":{"sha256":1,"size":1}}',
    ],
    ids=range(9),
)
def test_a_malformed_manifest_is_refused(page: bytes, forged: Forged, target: Registry) -> None:
    forged.renew(page)

    check_refused(forged.write(), target, "not a manifest")


def test_a_missing_changed_or_unused_object_is_refused(
    forged: Forged, registry: Registry, target: Registry, tmp_path: Path
) -> None:
    weights = forged.manifest["adapter_model.safetensors"].sha256
    whole = list(forged.members)

    forged.members = [m for m in whole if m[0] != f"objects/{weights}"]
    check_refused(forged.write(), target, r"\(adapter_model\.safetensors\) is missing")
    forged.members = [(n, c[:-1] + bytes([c[-1] ^ 1]) if n == f"objects/{weights}" else c) for n, c in whole]
    check_refused(forged.write(), target, r"\(adapter_model\.safetensors\) was changed")
    forged.members = [(n, c[:-1] if n == f"objects/{weights}" else c) for n, c in whole]
    check_refused(forged.write(), target, r"\(adapter_model\.safetensors\) has \d+ bytes instead of \d+")
    forged.members = [m for m in whole if m[0] != f"objects/{forged.digest}"]
    check_refused(forged.write(), target, "is missing")
    forged.members = [*whole, (f"objects/{'0' * 64}", b"")]
    check_refused(forged.write(), target, "does not belong to any version")
    forged.members = whole
    unbundle(forged.write(), target)


def test_a_bundled_file_that_the_card_does_not_list_is_refused(forged: Forged, target: Registry) -> None:
    forged.put("run_me.py", b"import os")

    check_refused(forged.write(), target, r"medical/triage@1: .*run_me\.py is not listed")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", "../x", "is not a valid adapter name"),
        ("name", "medical/tri\u0430ge", "is not a valid adapter name"),
        ("number", 0, "number"),
        ("number", 1.5, "number"),
        ("number", "1", "number"),
        ("digest", "../../../x", "digest"),
        ("digest", "a" * 64 + "\n", "digest"),
        ("created", "yesterday", "created is not a time"),
        ("who", "a\nb", "who is not the name of a user"),
        ("forced", "no", "forced"),
        ("aliases", ["latest"], "is not an alias"),
        ("aliases", ["../x"], "is not a valid alias"),
        ("aliases", ["a", "a"], "that appears twice"),
        ("tags", {"vertical.else": "x"}, "cannot be the name of a tag"),
        ("tags", {"vertical.signature.xyz": "x"}, "cannot be the name of a tag"),
        ("tags", {"A b": "x"}, "cannot be the name of a tag"),
        ("tags", {"a": "x" * 2000}, "too long"),
        ("tags", {"a": 1}, "tags"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_wrong_value_in_the_contents_is_refused(key: str, value: Any, message: str, forged: Forged, target: Registry) -> None:
    forged.line[key] = value

    check_refused(forged.write(), target, message)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "bundle.json"),
        (b'{"format": 1, "versions": []}', "versions"),
        (b'{"format": 2, "versions": []}', r"format 2; this version of vertical_sdk reads format 1\. Upgrade"),
        (b'{"format": "1", "versions": []}', "format"),
        (None, r"has no bundle\.json"),
    ],
    ids=range(9),
)
def test_malformed_contents_are_refused(page: bytes | None, message: str, forged: Forged, target: Registry) -> None:
    with zipfile.ZipFile(forged.file, "w") as archive:
        for name, content in ([("bundle.json", page)] if page is not None else []) + forged.members[1:]:
            archive.writestr(name, content)

    check_refused(forged.file, target, message)


def test_a_version_that_appears_twice_is_refused(forged: Forged, target: Registry) -> None:
    forged.contents["versions"].append(dict(forged.line))

    check_refused(forged.write(), target, "that appears twice")


def test_a_bundle_cannot_hide_a_forced_publish(registry: Registry, target: Registry, tmp_path: Path) -> None:
    forged = Forged(registry, tmp_path, "medical/triage@3")
    assert forged.line["forced"] is True
    forged.line["forced"] = False

    check_refused(forged.write(), target, r"medical/triage@3: its gate result is 'failed', but the bundle does not say")
    with pytest.raises(GateFailed):  # a publish of the same files fails in the same way
        target.publish(registry.resolve("medical/triage@3").path)


def test_the_metadata_of_a_bundled_version_comes_from_its_card(forged: Forged, target: Registry, registry: Registry) -> None:
    forged.line["reason"] = "because"
    unbundle(forged.write(), target)

    copy, original = target.resolve("medical/triage"), registry.resolve("medical/triage@1")
    assert (copy.metrics, copy.facts, copy.gate) == (original.metrics, original.facts, original.gate)
    assert copy.reason == "because"


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip" * 100, b"\x1f\x8b" + b"\0" * 100])
def test_another_file_is_refused_as_a_bundle(content: bytes, tmp_path: Path, target: Registry) -> None:
    (tmp_path / "x.zip").write_bytes(content)

    check_refused(tmp_path / "x.zip", target, "this is not a bundle")
    check_refused(tmp_path / "none.zip", target, "there is no such file")


def test_an_archive_with_trailing_bytes_is_refused(forged: Forged, target: Registry) -> None:
    content = forged.write().read_bytes()
    forged.file.write_bytes(content + b"#!/bin/sh\n")
    check_refused(forged.file, target, "this is not a bundle")

    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"hello"
    forged.file.write_bytes(buffer.getvalue())
    check_refused(forged.file, target, "this is not a bundle")
