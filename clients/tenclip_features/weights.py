"""Which weights made the features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def weights_hash(bundle: Mapping[str, Any]) -> str:
    """Tells two models apart that were exported under the same name and version: 16 hexadecimal digits.

    bundle: the content of `bundle.json`. "" where it names no files.
    """
    files = [v.get("files", {}) for v in bundle.get("variants", [])]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16] if any(files) else ""
