"""What figures depend on besides the configuration: the machine, the versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import hwr
from tinynn.backend import current_backend
from tinynn.kernels.threads import usable_cpus

PACKAGES = ("tinynn", "numpy", "numba", "safetensors")


def machine(*packages: str) -> dict[str, Any]:
    """Processor, load, date, commit, the present backend's GPU if it has one, and the versions of
    what we use and of `packages`."""
    found: dict[str, Any] = {"date": date.today().isoformat(), "python": platform.python_version()}
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["processor"], flags = platform.processor() or platform.machine(), ""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        named = {key.strip(): value.strip() for key, value in lines.items()}
        found["processor"] = named.get("model name", found["processor"])
        flags = named.get("flags", "")
    except OSError:  # not Linux
        pass
    found["vectors"] = [f for f in ("avx2", "avx512f") if f in flags.split()]
    found["cores"] = usable_cpus()
    if device := current_backend().device:
        found["gpu"] = device
    found["load"] = round(os.getloadavg()[0], 2)
    found["commit"] = commit()
    for package in (*PACKAGES, *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """The commit of the checkout that runs, with "+changes" if files differ from it.

    None for an installed package, which is no checkout.
    """
    root = Path(hwr.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        name = git(root, "rev-parse", "--short=12", "HEAD")
        changed = git(root, "status", "--porcelain", "--", "tinynn", "hwr")
    except (OSError, subprocess.SubprocessError):  # no git here, or a checkout it cannot read
        return None
    return name + "+changes" * bool(changed)


def git(root: Path, *words: str) -> str:
    """What git says about the checkout in `root`."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
