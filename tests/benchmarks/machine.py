"""The machine, in words: every figure is worth as much as what it was measured on."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

from tenclip_video.cpus import usable_cpus


def describe_machine() -> str:
    """E.g. "AMD EPYC, 2 cores, 24 GiB, AVX-512, Linux, Python 3.11"."""
    cpu, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        cpu = next((v.strip() for k, v in fields.items() if k.strip() == "model name"), cpu)
        flags = next((v for k, v in fields.items() if k.strip() == "flags"), "")
    vector = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags.split()), "")
    memory = round(psutil.virtual_memory().total / 2**30)
    cores = usable_cpus()
    python = ".".join(platform.python_version_tuple()[:2])
    return ", ".join(
        p for p in (cpu, f"{cores} cores", f"{memory} GiB", vector, platform.system(), f"Python {python}") if p
    )
