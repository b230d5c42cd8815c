"""Pictures of clips, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.omni.preview import write_picture


@pytest.mark.parametrize(("suffix", "limit"), [(".webp", 16383), (".jpg", 65500)])
def test_a_picture_that_the_format_does_not_hold(tmp_path: Path, suffix: str, limit: int) -> None:
    path = tmp_path / f"clips{suffix}"
    with pytest.raises(InvalidRequest, match=rf"{limit + 1}x2 pixels, and \w+ holds {limit} a side"):
        write_picture(path, np.zeros((2, limit + 1, 3), np.uint8))
    assert not path.exists()
    write_picture(path, np.zeros((2, limit, 3), np.uint8))
    assert path.stat().st_size > 0
