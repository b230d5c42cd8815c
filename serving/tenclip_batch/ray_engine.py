"""placeholder"""
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class RayOptions:
    address: str | None = None
