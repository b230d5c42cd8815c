"""/v2: the Open Inference Protocol over REST, by the methods of its gRPC service, and the same extensions of Triton's.

Tensors, outputs and parameters are those of `tenclip_serving.api.open_inference`; how they are written is in
`tensor_json`.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, cast

from tenclip_api.errors import InvalidRequest
from tenclip_api.inference import open_inference_pb2 as pb
from tenclip_serving.api.open_inference import EXTENSIONS, OpenInference
from tenclip_serving.http.call import JSON, Call
from tenclip_serving.http.messages import to_dict
from tenclip_serving.http.problems import encode, without_folder
from tenclip_serving.http.tensor_json import HEADER_LENGTH, InferRequest, read_request, write_response

_MAX_OPTIONS_BYTES = 64 << 10
# From here on, a request becomes tensors on another thread.
_LARGE_BYTES = 256 << 10
# And an answer is written there.
_LARGE_ANSWER_BYTES = 80_000
_BYTES = "application/octet-stream"
_NONE = cast(Any, None)  # contexts of gRPC, which these methods do not look at


class HttpOpenInference(OpenInference):
    """Handlers of /v2. Errors are raised as they are; the endpoint turns them into problems."""

    # -- health and metadata ------------------------------------------------------------------------------------------

    async def live(self, call: Call) -> None:
        await call.body.expect_none()
        await call.answer(encode({"live": True}))

    async def ready(self, call: Call) -> None:
        await call.body.expect_none()
        answer = await self.ServerReady(pb.ServerReadyRequest(), _NONE)
        await call.answer(encode({"ready": answer.ready}), status=200 if answer.ready else 503)

    async def model_ready(self, call: Call) -> None:
        await call.body.expect_none()
        self._engine.repository.get(*_model(call).values())  # of an unknown one it says that, and which there are
        answer = await self.ModelReady(pb.ModelReadyRequest(**_model(call)), _NONE)
        members = {"name": call.path["name"], "ready": answer.ready}
        await call.answer(encode(members), status=200 if answer.ready else 503)

    async def server_metadata(self, call: Call) -> None:
        await call.body.expect_none()
        members = to_dict(await self.ServerMetadata(pb.ServerMetadataRequest(), _NONE))
        members["extensions"] = [*EXTENSIONS, "binary_tensor_data"]
        await call.answer(encode(members))

    async def model_metadata(self, call: Call) -> None:
        await call.body.expect_none()
        await self._reply(call, await self.ModelMetadata(pb.ModelMetadataRequest(**_model(call)), _NONE))

    async def model_config(self, call: Call) -> None:
        await call.body.expect_none()
        await self._reply(call, (await self.ModelConfig(pb.ModelConfigRequest(**_model(call)), _NONE)).config)

    async def statistics(self, call: Call) -> None:
        await call.body.expect_none()
        await self._reply(call, await self.ModelStatistics(pb.ModelStatisticsRequest(**_model(call)), _NONE))

    # -- inference ----------------------------------------------------------------------------------------------------

    async def infer(self, call: Call) -> None:
        asked = await self._read(call)
        response = await self._infer(asked.message, call.time_remaining())
        write = partial(write_response, response, asked)
        large = sum(map(len, response.raw_output_contents)) > _LARGE_ANSWER_BYTES
        written, length = await self._engine.threads.answers.run(write) if large else write()
        if length is None:
            await call.answer(written, JSON)
        else:
            await call.answer(written, _BYTES, headers={HEADER_LENGTH: str(length)})

    async def _read(self, call: Call) -> InferRequest:
        most = self._engine.config.max_message_mb << 20
        async with self._engine.admission.arriving(call.time_remaining()):
            body = await call.body.read(most, what="the request (max_message_mb)", instead="/v1/predict takes more")
            read = partial(read_request, body, call.headers.get(HEADER_LENGTH), **_model(call))
            if len(body) < _LARGE_BYTES:
                return read()
            self._engine.admission.check(len(body))
            # It counts among those that arrive until it is parsed: few are at once, and admission comes after.
            return await self._engine.threads.hashes.run(read)

    # -- the repository -----------------------------------------------------------------------------------------------

    async def index(self, call: Call) -> None:
        options = await _options(call)
        answer = await self.RepositoryIndex(pb.RepositoryIndexRequest(ready=options.get("ready") is True), _NONE)
        for model in answer.models:
            model.reason = without_folder(model.reason, self._engine.config.directory)
        await call.answer(encode(to_dict(answer)["models"]))

    async def load(self, call: Call) -> None:
        request = pb.RepositoryModelLoadRequest(model_name=call.path["name"])
        parameters = (await _options(call)).get("parameters") or {}
        for name in parameters:
            request.parameters[str(name)].SetInParent()
        await self._reply(call, await self.RepositoryModelLoad(request, _NONE))

    async def unload(self, call: Call) -> None:
        await _options(call)
        request = pb.RepositoryModelUnloadRequest(model_name=call.path["name"])
        await self._reply(call, await self.RepositoryModelUnload(request, _NONE))

    async def _reply(self, call: Call, message: Any) -> None:
        await call.answer(encode(to_dict(message, wide_as_text=False)))


def _model(call: Call) -> dict[str, str]:
    return {"name": call.path.get("name", ""), "version": call.path.get("version", "")}


async def _options(call: Call) -> dict[str, Any]:
    """The JSON object that may come with a request; none is an empty one. Raises InvalidRequest."""
    body = await call.body.read(_MAX_OPTIONS_BYTES, what="the request")
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("parameters") or {}, dict):
        raise InvalidRequest("the body must be a JSON object, or empty")
    return found
