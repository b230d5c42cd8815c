"""What importing `tenclip curate` loads."""

from __future__ import annotations

import subprocess
import sys


def test_the_group_imports_no_torch() -> None:
    modules = ", ".join(
        f"tenclip_training.curation.{m}" for m in ("report", "scan", "duplicates", "manifests", "merging")
    )
    code = f"import sys, tenclip_training.commands.curate, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
