"""Manifests with something changed, to show that a check notices it."""

from __future__ import annotations

import copy
from typing import Any

from tests.k8s.manifests import Manifest


def edited(manifest: Manifest, path: str, value: object) -> Manifest:
    """A copy with another value at `path` ("spec/ports/0/port", "/" in a key is "~1"); None removes what is there."""
    manifest = copy.deepcopy(manifest)
    *parents, last = (int(key) if key.isdigit() else key.replace("~1", "/") for key in path.split("/"))
    parent: Any = manifest
    for key in parents:
        parent = parent[key]
    if value is None:
        del parent[last]
    else:
        parent[last] = value
    return manifest
