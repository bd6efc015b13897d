"""Full and read-only disks, created with mount, which needs root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.errors import RunError
from vertical_sdk.registry import Registry

Mount = Callable[..., None]
MakeAdapter = Callable[..., Path]


def test_a_full_disk_stops_a_publish_and_damages_nothing(mount: Mount, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "none", str(disk))
    registry = Registry(disk / "registry")
    registry.publish(make_adapter(1))
    filling = disk / "filling"
    stopped = 0
    for left in range(0, 120_000, 6_000):  # free bytes at the start of the publish
        filling.write_bytes(b"")
        with pytest.raises(OSError), filling.open("wb", buffering=0) as file:  # noqa: PT012
            while True:
                file.write(b"x" * 4096)
        with filling.open("r+b") as file:
            file.truncate(max(0, filling.stat().st_size - left))
        try:
            registry.publish(make_adapter(100 + left))
        except RunError as error:
            stopped += 1
            assert "the disk is full" in str(error)  # noqa: PT017
        assert registry.resolve("medical/triage@1").number == 1

    assert stopped > 3
    filling.unlink()
    registry.gc()
    assert registry.verify() == []
    assert registry.publish(make_adapter(2)).number == len(registry.versions("medical/triage"))
    registry.close()


def test_a_read_only_registry_can_be_read_but_not_written(mount: Mount, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    place = tmp_path / "registry"
    writer = Registry(place)
    writer.publish(make_adapter(1))
    writer.close()
    mount("--bind", str(place), str(place))
    mount("-o", "remount,ro,bind", str(place))
    registry = Registry(place)

    assert registry.resolve("medical/triage").number == 1
    assert registry.verify() == []
    for write in (
        lambda: registry.publish(make_adapter(2)),
        lambda: registry.set_alias("medical/triage", "production", 1),
        registry.gc,
        lambda: registry.tag("medical/triage", 1, {"a": "b"}),
    ):
        with pytest.raises(RunError, match="cannot be written"):
            write()


def test_a_read_only_mount_sees_versions_written_elsewhere(mount: Mount, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    place, view = tmp_path / "registry", tmp_path / "view"
    view.mkdir()
    writer = Registry(place)
    writer.publish(make_adapter(1))
    mount("--bind", str(place), str(view))
    mount("-o", "remount,ro,bind", str(view))
    reader = Registry(view)

    assert reader.resolve("medical/triage").number == 1
    writer.publish(make_adapter(2))
    assert reader.resolve("medical/triage").number == 2
    reader.close()


def test_a_registry_cannot_be_created_on_a_read_only_disk(mount: Mount, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "ro", "none", str(disk))

    with pytest.raises(RunError, match="cannot be written"):
        Registry(disk / "registry").publish(make_adapter(1))
