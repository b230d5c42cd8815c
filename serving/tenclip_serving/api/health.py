"""grpc.health.v1: the server, its services, every model (`NAME`) and every version of it (`NAME/VERSION`).

All of them say whether requests can be answered. A server that has no model, or is about to stop, is not dead, though:
LIVENESS is for those who would start it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from grpc_health.v1 import health, health_pb2

from tenclip_serving.models.repository import Repository

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# SERVING for as long as the process answers, with and without models, till it has ended.
LIVENESS = "tenclip.liveness"


class ModelHealth:
    """Check and Watch of what a repository serves. What was never heard of is NOT_FOUND (Watch: SERVICE_UNKNOWN)."""

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._services = services
        self._said: dict[str, int] = {}
        self._stopped = False
        self._lock = asyncio.Lock()

    async def update(self, repository: Repository) -> None:
        """Tell those who watch. What is no longer known is NOT_SERVING. Without effect after `stop`."""
        now = statuses(repository, self._services)
        async with self._lock:
            if not self._stopped:
                vanished = dict.fromkeys(self._said.keys() - now.keys(), int(NOT_SERVING))
                await self._say(vanished | now)

    async def stop(self) -> None:
        """NOT_SERVING, all of it but LIVENESS, for good."""
        async with self._lock:
            self._stopped = True
            await self._say(dict.fromkeys(self._said.keys() - {LIVENESS}, int(NOT_SERVING)))

    async def _say(self, now: dict[str, int]) -> None:
        for service, status in now.items():
            if self._said.get(service) != status:
                await self.servicer.set(service, status)
                self._said[service] = status


def statuses(repository: Repository, services: Sequence[str]) -> dict[str, int]:
    """By service name. A model serves when its default version does; a failed one is known and does not serve."""
    found: dict[str, int] = {}
    for failure in repository.failed:
        found[failure.name] = NOT_SERVING
        if failure.version:
            found[f"{failure.name}/{failure.version}"] = NOT_SERVING
    for name, versions in repository.models.items():
        found[name] = SERVING if repository.default_version(name) in versions else NOT_SERVING
        found |= {f"{name}/{version}": SERVING for version in versions}
    # A server without any model is up, and must get no traffic.
    overall = SERVING if len(repository) else NOT_SERVING
    return found | dict.fromkeys(("", *services), int(overall)) | {LIVENESS: int(SERVING)}
