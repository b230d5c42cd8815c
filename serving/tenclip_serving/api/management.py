"""tenclip.v1.ModelManagement: which models are served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from tenclip_api.errors import PermissionDenied
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_serving.models.manager import Changes, ModelManager
from tenclip_serving.neighbours.indexes import Indexes

MANAGEMENT = "tenclip.v1.ModelManagement"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ModelManagement(tenclip_pb2_grpc.ModelManagementServicer):
    """Errors are raised as they are; the interceptor turns them into status codes."""

    def __init__(self, manager: Callable[[], ModelManager], indexes: Indexes | None = None) -> None:
        self._manager, self._indexes = manager, indexes

    async def LoadModel(self, request: pb.LoadModelRequest, context: Context) -> pb.LoadModelResponse:  # noqa: N802
        changes = await self._manager().load(request.model.name, request.model.version)
        return pb.LoadModelResponse(changes=_changes(changes))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Context) -> pb.UnloadModelResponse:  # noqa: N802
        changes = await self._manager().unload(request.model.name, request.model.version)
        return pb.UnloadModelResponse(changes=_changes(changes))

    async def ReloadModels(  # noqa: N802
        self, request: pb.ReloadModelsRequest, context: Context
    ) -> pb.ReloadModelsResponse:
        changes = _changes(await self._manager().reload())
        if self._indexes is not None:
            failed = await self._indexes.reload()
            changes.failed.extend(pb.FailedModel(name=f"index {name}", error=why) for name, why in failed.items())
        return pb.ReloadModelsResponse(changes=changes)

    async def SetDefaultVersion(  # noqa: N802
        self, request: pb.SetDefaultVersionRequest, context: Context
    ) -> pb.SetDefaultVersionResponse:
        await self._manager().set_default(request.model.name, request.model.version)
        return pb.SetDefaultVersionResponse()


def permitted(manager: ModelManager, *, allow: bool) -> ModelManager:
    """Raises PermissionDenied where clients may not change what is served."""
    if not allow:
        raise PermissionDenied(
            "clients may not change the models of this server; `tenclip serve --allow-manage` lets them"
        )
    return manager


def _changes(changes: Changes) -> pb.ModelChanges:
    return pb.ModelChanges(
        loaded=[pb.ModelRef(name=name, version=version) for name, version in changes.loaded],
        unloaded=[pb.ModelRef(name=name, version=version) for name, version in changes.unloaded],
        failed=[pb.FailedModel(name=f.name, version=f.version, error=f.error) for f in changes.failed],
    )
