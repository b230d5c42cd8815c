"""Large answers are built in a thread: on the event loop they would hold up everyone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tenclip_api.inference import open_inference_pb2 as pb2
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api import convert
from tenclip_serving.api.tensors import add_output
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.http import open_inference as http_open_inference
from tenclip_serving.http import recognition as http_recognition
from tenclip_serving.http.call import Call
from tenclip_serving.http.messages import to_dict
from tenclip_serving.http.open_inference import HttpOpenInference
from tenclip_serving.http.recognition import HttpRecognition
from tenclip_serving.http.tensor_json import InferRequest, write_response
from tenclip_serving.models.repository import Repository
from tenclip_serving.requests import Recognition
from tenclip_video.salience import SalienceTimeline
from tests.tenclip_serving.api.test_servicer import recognition


def with_timeline(num_points: int) -> Recognition:
    """Of two clips."""
    seconds = tuple((i / 10, i / 10 + 0.5) for i in range(num_points))
    timeline = SalienceTimeline("s", seconds, np.zeros(num_points, np.float32), np.zeros(num_points, bool))
    return replace(recognition(), timeline=timeline)


@pytest.mark.parametrize(("num_clips", "in_thread"), [(1, False), (200, True)])
def test_large_tensors_are_written_in_a_thread(
    num_clips: int, in_thread: bool, one_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[str] = []
    sent: list[bytes] = []
    response = pb2.ModelInferResponse(model_name="tiny")
    add_output(response, "logits", np.zeros((num_clips, 400, 1), np.float32))

    def noting(*arguments: Any) -> tuple[bytes, int | None]:
        writers.append(threading.current_thread().name)
        return write_response(*arguments)

    async def read(call: Call) -> InferRequest:
        return InferRequest(message=pb2.ModelInferRequest(), binary={}, all_binary=False)

    async def infer(request: Any, seconds_left: float | None) -> pb2.ModelInferResponse:
        return response

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    async def run() -> None:
        engine = Engine(ServerConfig(directory=one_model), Repository({}))
        service = HttpOpenInference(
            engine, manager=lambda: pytest.fail("not asked"), is_ready=lambda: True, working=nullcontext
        )
        monkeypatch.setattr(service, "_read", read)
        monkeypatch.setattr(service, "_infer", infer)
        monkeypatch.setattr(http_open_inference, "write_response", noting)
        await service.infer(Call({"headers": [(b"content-length", b"0")]}, receive, send, write_seconds=1))
        await engine.close()

    asyncio.run(run())
    assert b"".join(sent).count(b"0.0") == 400 * num_clips
    assert [name.startswith("answers") for name in writers] == [in_thread]


@pytest.mark.parametrize(("num_points", "in_thread"), [(10, False), (1000, True)])
@pytest.mark.parametrize("way", ["gRPC", "JSON", "NDJSON"])
def test_a_long_timeline_is_built_in_a_thread(
    way: str, num_points: int, in_thread: bool, one_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builders: list[str] = []

    def noting(build: Any) -> Any:
        def noted(*arguments: Any) -> Any:
            builders.append(threading.current_thread().name)
            return build(*arguments)

        return noted

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[bytes] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    async def run() -> None:
        engine = Engine(ServerConfig(directory=one_model), Repository({}))
        service, result = HttpRecognition(engine), with_timeline(num_points)
        call = Call({"headers": [(b"content-length", b"0")]}, receive, send, write_seconds=1)
        message = convert.predict_response(pb.PredictRequest(), result)
        if way == "gRPC":
            monkeypatch.setattr(convert, "predict_response", noting(convert.predict_response))
            assert await service._predicted(pb.PredictRequest(), result) == message
        else:
            monkeypatch.setattr(http_recognition, "to_dict", noting(to_dict))
            if way == "JSON":
                await service._answer(call, message, result)
            else:

                async def updates(*arguments: Any) -> AsyncGenerator[pb.PredictUpdate, None]:
                    yield pb.PredictUpdate(result=message)

                monkeypatch.setattr(service, "_updates", updates)
                asked = http_recognition._Asked(message=pb.PredictRequest(), core=cast(Any, None))
                await service._predict_stream(call, asked)
            assert b"".join(sent).count(b"start_seconds") == num_points
        await engine.close()

    asyncio.run(run())
    assert [name.startswith("answers") for name in builders] == [in_thread or way == "NDJSON"]
