from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tenclip_api.errors import IndexMismatch
from tenclip_index.results import Filters
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.repository import Repository, load_repository
from tenclip_serving.neighbours.indexes import Indexes
from tenclip_serving.neighbours.requests import SimilarRequest
from tenclip_serving.requests import Recognition, RecognitionRequest
from tests.tenclip_serving.api.test_similar import write_index
from tests.tenclip_serving.helpers import make_bundle, make_video


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
            assert indexes.newest(index, model, repository) is index
            assert indexes.newest(index, model, load_repository(tmp_path / "models")) is index
            assert indexes.newest(index, model, Repository()) is index
            with pytest.raises(IndexMismatch, match="the index clips is of tiny version 1"):
                indexes.newest(index, model, other)
        finally:
            await indexes.close()

    asyncio.run(check())


def test_searches_that_wait_when_their_index_is_opened_again_are_done_and_then_it_is_closed(tmp_path: Path) -> None:
    make_bundle(tmp_path / "models", "tiny", "1")
    bundle = tmp_path / "models" / "tiny" / "1"
    folder = write_index(tmp_path / "clips", bundle)
    repository = load_repository(tmp_path / "models")
    features = np.full((400, 6), 100, np.float32)

    async def check() -> None:
        indexes = Indexes({"clips": folder})
        await indexes.start(repository)
        try:
            (old,) = indexes
            process = psutil.Process(old.process.pid)
            how: dict[str, Any] = {"k": 100, "by_video": False, "filters": Filters(), "seconds": 30.0}
            searches = [asyncio.create_task(indexes.neighbours(old, features, **how)) for _ in range(6)]
            await asyncio.sleep(0)
            write_index(folder, bundle, seed=1)
            assert await indexes.reload() == {}
            found = await asyncio.gather(*searches)
            assert all(f == found[0] for f in found)
            (new,) = indexes
            assert new is not old
            assert indexes.newest(old, indexes.model_of(old, "", "", repository), repository) is new
            assert await indexes.neighbours(new, features, **how) != found[0]
            async with asyncio.timeout(20):
                while process.is_running() or indexes._replaced:
                    await asyncio.sleep(0.01)
            model = indexes.model_of(new, "", "", repository)
            write_index(folder, bundle, version="7")
            assert await indexes.reload() == {}
            with pytest.raises(IndexMismatch, match="the index clips is of tiny version 7"):
                indexes.newest(new, model, repository)
        finally:
            await indexes.close()

    asyncio.run(check())


def test_an_index_that_is_opened_again_while_a_video_decodes_is_searched_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "models", "tiny", "1")
    bundle, video = tmp_path / "models" / "tiny" / "1", make_video(tmp_path / "v.mp4")
    folder = write_index(tmp_path / "clips", bundle)
    config = ServerConfig(
        directory=tmp_path / "models", allow_roots=(tmp_path,), indexes=(str(folder),), decode_workers=1
    )

    async def check() -> None:
        engine = Engine(config, load_repository(tmp_path / "models"))
        await engine.start()
        try:
            asked = SimilarRequest(video=RecognitionRequest(path=str(video)))
            before = await engine.similar(asked)
            recognize = engine.recognize

            async def recognize_meanwhile(request: RecognitionRequest, **how: Any) -> Recognition:
                recognition = await recognize(request, **how)
                write_index(folder, bundle, seed=1)
                await engine.indexes.reload()
                while engine.indexes._replaced:
                    await asyncio.sleep(0.01)
                return recognition

            monkeypatch.setattr(engine, "recognize", recognize_meanwhile)
            meanwhile = await engine.similar(asked)
            monkeypatch.setattr(engine, "recognize", recognize)
            after = await engine.similar(asked)
            assert meanwhile.neighbours == after.neighbours != before.neighbours
            assert meanwhile.info == after.info
        finally:
            await engine.close()

    asyncio.run(check())
