"""A hash of a model's weights, which feature tables and probes keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def weights_hash(bundle: Mapping[str, Any]) -> str:
    """Hash of a bundle's files: 16 hexadecimal digits. It tells two exports of the same name and version apart.

    bundle: the content of `bundle.json`. "" where it names no files.
    """
    files = [v.get("files", {}) for v in bundle.get("variants", [])]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16] if any(files) else ""
