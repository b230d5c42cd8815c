from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tenclip_api.pems import as_path

PEM = b"-----BEGIN PRIVATE KEY-----\n"


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_was_read_has_a_path_that_its_owner_alone_can_read_and_that_goes(
    in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no files in memory")
    with as_path(PEM) as path:
        assert Path(path).read_bytes() == PEM
        if in_memory:
            assert not list(tmp_path.iterdir())
        else:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not os.path.exists(path)
    assert not list(tmp_path.iterdir())
