"""vertical doctor: check this machine. Uses no network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, size, table
from vertical_sdk.errors import install_command

__all__ = ["doctor"]

PACKAGES = ("vertical_sdk", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
EXTRAS = {
    "chem": ("rdkit",),
    "deidentify": ("presidio_analyzer", "faker"),
    "excel": ("openpyxl",),
    "mlflow": ("mlflow",),
    "quantize": ("bitsandbytes",),
    "s3": ("s3fs",),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "server": ("fastapi", "uvicorn"),
    "sign": ("model_signing",),
    "structured": ("llguidance",),
    "traffic-sim": ("sumo", "networkx"),
    "trees": ("lightgbm",),
    "tune": ("optuna",),
    "vision": ("timm",),
    "wandb": ("wandb",),
}
STATES = {True: "writable", False: "NOT WRITABLE", None: "elsewhere"}
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Linux files with the memory limit and the memory use of a container."""
TYPICAL_WIDTH = 384
"""The width of the base whose matrix products are measured."""
PYTHON_AND_TORCH = 500 << 20
"""Bytes that Python with torch uses before a model is loaded."""


def doctor(registry: RegistryAt = None, as_json: Json = False) -> None:
    """Check this machine, and list which base models it can train and use. Downloads nothing."""
    report: dict[str, Any] = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {name: all(importlib.util.find_spec(module) for module in modules) for name, modules in EXTRAS.items()},
        **_machine(),
        **_folders(registry),
    }
    report["bases"] = _bases(report["memory"]["available"])
    report["problems"] = _problems(report)
    if as_json:
        emit(report)
        return
    show(table(["", ""], _facts(report)))
    rows = [
        [b["name"], b["family"], size(b["training_bytes"]), _yes(b["trains"]), _yes(b["answers"]), _yes(b["cached"])]
        for b in report["bases"]
    ]
    show(table(["base", "family", "memory to train", "trains here", "predicts here", "in the cache"], rows))
    for problem in report["problems"]:
        say(f"Problem: {problem}")
    if not report["problems"]:
        say("Everything is in order. Start with: vertical quickstart")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    import psutil
    import torch

    from vertical_sdk.kernels.rates import measure_rates, processor_name

    rates = measure_rates(TYPICAL_WIDTH, keep=False)
    memory = psutil.virtual_memory()
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "cpu": {
            "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
            "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "processor": processor_name(),
            "rates": asdict(rates),
            "bf16": rates.prefers_bf16,
            "onednn": rates.prefers_onednn,
        },
        "memory": {"total": memory.total, "available": min(memory.available, _cgroup_left())},
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory, "bf16": torch.cuda.is_bf16_supported()} for gpu in gpus],
    }


def _cgroup_left() -> int:
    """Bytes that the container may still use; a very large number if it has no limit."""
    for limit, used in CGROUPS:
        if Path(limit).is_file() and Path(used).is_file() and (bound := Path(limit).read_text().strip()).isdecimal():
            return max(0, int(bound) - int(Path(used).read_text()))
    return sys.maxsize


def _folders(registry: str | None) -> dict[str, Any]:
    from vertical_sdk.paths import cache_home, registry_home

    cache, store = cache_home(), registry or registry_home()
    return {
        "cache": {"folder": str(cache), "writable": _writable(cache), "free": shutil.disk_usage(_nearest_folder(cache)).free},
        "registry": {"folder": store, "writable": None if "://" in store else _writable(Path(store))},
    }


def _nearest_folder(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _writable(folder: Path) -> bool:
    """Whether a file can be created in the folder, or in its nearest parent that exists."""
    try:
        with tempfile.TemporaryFile(dir=_nearest_folder(folder)):
            return True
    except OSError:
        return False


def _bases(available: int) -> list[dict[str, Any]]:
    from vertical_sdk.bases.base import describe_bases

    left = available - PYTHON_AND_TORCH
    return [
        {
            "name": base.name,
            "family": base.family,
            "parameters": base.parameters,
            "training_bytes": base.training_bytes,
            "inference_bytes": base.inference_bytes,
            "trains": base.training_bytes <= left,
            "answers": base.inference_bytes <= left,
            "cached": base.cached,
        }
        for base in describe_bases()
    ]


def _problems(report: dict[str, Any]) -> list[str]:
    problems = [f"{name} is not installed" for name, version in report["packages"].items() if version is None]
    problems += [
        f"the {what} folder {report[what]['folder']} is not writable; set VERTICAL_HOME to a writable folder"
        for what in ("cache", "registry")
        if report[what]["writable"] is False
    ]
    if report["cache"]["free"] < 2e9:
        problems.append(
            f"only {size(report['cache']['free'])} is free in {report['cache']['folder']}; base models need up to 2 GB"
        )
    if not any(base["trains"] for base in report["bases"]):
        problems.append(f"no embedded base can be trained in the {size(report['memory']['available'])} of free memory")
    return problems


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, memory = report["cpu"], report["memory"]
    cores = f"{cpu['usable']} of {cpu['cores']} cores, {cpu['threads']} thread{'' if cpu['threads'] == 1 else 's'}"
    extras = ", ".join(
        name if installed else f"{name} (missing: {install_command(name)})" for name, installed in report["extras"].items()
    )
    return [
        ("python", f"{report['python']} on {report['platform']}"),
        ("packages", ", ".join(f"{name} {version or 'MISSING'}" for name, version in report["packages"].items())),
        ("extras", extras),
        (
            "CPU",
            f"{cpu['processor']}, {cores}, {cpu['capability']}",
        ),
        ("products", _describe_rates(cpu)),
        ("memory", f"{size(memory['available'])} of {size(memory['total'])} free"),
        (
            "GPU",
            ", ".join(f"{gpu['name']} ({size(gpu['memory'])})" for gpu in report["gpus"]) or "none; the recipes run on a CPU",
        ),
        ("cache", f"{report['cache']['folder']}, {size(report['cache']['free'])} free"),
        ("registry", f"{report['registry']['folder']}, {STATES[report['registry']['writable']]}"),
    ]


def _describe_rates(cpu: dict[str, Any]) -> str:
    """The measured rates of matrix products, what training chooses by them, and in what answers are computed."""
    rates = cpu["rates"]
    titles = {"fp32": "float32", "onednn": "float32 by oneDNN", "bf16": "bfloat16"}
    shown = ", ".join(f"{title} {rates[name]:.0f}" for name, title in titles.items() if rates[name])
    chosen = "bfloat16" if cpu["bf16"] else "float32 by oneDNN" if cpu["onednn"] else "float32"
    return f"{shown} GFLOP/s in one thread; on the CPU, training uses {chosen} and answers use float32"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
