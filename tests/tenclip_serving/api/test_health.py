from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2

from tenclip_serving.api.health import LIVENESS, NOT_SERVING, SERVING, ModelHealth, statuses
from tenclip_serving.models.manager import with_failure, without
from tenclip_serving.models.repository import FailedBundle, Repository, load_repository
from tests.tenclip_serving.helpers import make_bundle

SERVICES = ("our.Service",)


def test_statuses(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")
    make_bundle(tmp_path, "tiny", "2")
    repository = load_repository(tmp_path, runtime="onnxruntime", threads=1)
    versions = {"tiny": SERVING, "tiny/1": SERVING, "tiny/2": SERVING}
    overall = {"": SERVING, "our.Service": SERVING, LIVENESS: SERVING}
    assert statuses(repository, SERVICES) == versions | overall
    # A failure beside a copy that is served harms nothing; one of another version or model is told.
    failing = with_failure(repository, FailedBundle(name="tiny", version="2", error="why"))
    failing = with_failure(failing, FailedBundle(name="tiny", version="3", error="why"))
    failing = with_failure(failing, FailedBundle(name="other", version="1", error="why"))
    failed = {"tiny/3": NOT_SERVING, "other": NOT_SERVING, "other/1": NOT_SERVING}
    assert statuses(failing, SERVICES) == versions | overall | failed
    # The default version decides for the model.
    pinned = replace(without(repository, [("tiny", "1")]), pins={"tiny": "1"})
    assert statuses(pinned, SERVICES) == {"tiny": NOT_SERVING, "tiny/2": SERVING} | overall
    assert statuses(Repository(), SERVICES) == {"": NOT_SERVING, "our.Service": NOT_SERVING, LIVENESS: SERVING}


def test_a_model_named_like_a_service_does_not_speak_for_it(tmp_path: Path) -> None:
    make_bundle(tmp_path, "our.Service", "1")
    repository = load_repository(tmp_path, runtime="onnxruntime", threads=1)
    assert statuses(replace(repository, pins={"our.Service": "9"}), SERVICES)["our.Service"] == SERVING


def test_a_server_that_stops_is_alive_and_serves_nothing(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")
    repository = load_repository(tmp_path, runtime="onnxruntime", threads=1)
    asyncio.run(_check_stop(repository))


async def _check_stop(repository: Repository) -> None:
    health = ModelHealth(SERVICES)
    servicer: Any = health.servicer  # it looks at no context

    async def ask(service: str) -> int:
        answer = await servicer.Check(health_pb2.HealthCheckRequest(service=service), None)
        return int(answer.status)

    await health.update(repository)
    assert [await ask(name) for name in ("", "tiny", "our.Service", LIVENESS)] == [SERVING] * 4
    await health.stop()
    for _ in range(2):
        assert [await ask(name) for name in ("", "tiny", "our.Service")] == [NOT_SERVING] * 3
        assert await ask(LIVENESS) == SERVING
        await health.update(repository)  # a model that is loaded meanwhile changes nothing
