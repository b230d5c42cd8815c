from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tenclip_api.errors import IndexMismatch
from tenclip_serving.models.repository import Repository, load_repository
from tenclip_serving.neighbours.indexes import Indexes
from tests.tenclip_serving.api.test_similar import write_index
from tests.tenclip_serving.helpers import make_bundle


def test_a_model_that_changed_while_a_video_went_through_it_must_fit_too(tmp_path: Path) -> None:
    """The features may be of the old one or of the new one."""
    make_bundle(tmp_path / "models", "tiny", "1")
    make_bundle(tmp_path / "others", "tiny", "1", labels=("a", "b", "c", "d", "e", "f", "g"))
    folder = write_index(tmp_path / "clips", tmp_path / "models" / "tiny" / "1")
    repository, other = load_repository(tmp_path / "models"), load_repository(tmp_path / "others")

    async def check() -> None:
        indexes = Indexes({"clips": folder})
        await indexes.start(repository)
        try:
            (index,) = indexes
            model = indexes.model_of(index, "", "", repository)
            indexes.check_again(index, model, repository)
            indexes.check_again(index, model, load_repository(tmp_path / "models"))
            indexes.check_again(index, model, Repository())
            with pytest.raises(IndexMismatch, match="the index clips is of tiny version 1"):
                indexes.check_again(index, model, other)
        finally:
            await indexes.close()

    asyncio.run(check())
