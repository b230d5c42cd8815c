"""/v1: predictions, features and models, by the methods of the gRPC service and in its words."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, cast

import numpy as np

from tenclip_api.errors import InvalidRequest, TenclipError
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api import convert
from tenclip_serving.api.servicer import FEW_POINTS, VideoRecognition
from tenclip_serving.engine import Engine
from tenclip_serving.http.call import JSON, NDJSON, NPY, Call
from tenclip_serving.http.form import MAX_OVERHEAD_BYTES, Form
from tenclip_serving.http.messages import to_dict
from tenclip_serving.http.options import VIDEO, AnyRequest, Options, R
from tenclip_serving.http.problems import Refused, encode, problem, without_folder
from tenclip_serving.intake.admission import Ticket
from tenclip_serving.requests import UPLOAD, Recognition, RecognitionRequest, Upload

MAX_JSON_BYTES = 64 << 10
_FORM, _BYTES = "multipart/form-data", "application/octet-stream"
# From here on, an answer becomes JSON on another thread.
_MANY_VALUES = 20_000


@dataclass(frozen=True, kw_only=True)
class _Asked(Generic[R]):
    """A request in both forms. ticket: where its video is here already."""

    message: R
    core: RecognitionRequest
    ticket: Ticket | None = None


class HttpRecognition(VideoRecognition):
    """Handlers of /v1 over an engine.

    Errors are raised as they are; the endpoint turns them into problems.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._directory = engine.config.directory

    async def predict(self, call: Call) -> None:
        if call.accepts(NDJSON):
            call.method_name = "PredictStream"
        async with self._asked(call, pb.PredictRequest) as asked:
            if call.accepts(NDJSON):
                await self._predict_stream(call, asked)
                return
            result = await self._recognized(call, asked)
        await self._answer(call, await self._predicted(asked.message, result), result)

    async def features(self, call: Call) -> None:
        async with self._asked(call, pb.ExtractFeaturesRequest) as asked:
            result = await self._recognized(call, asked)
        if call.accepts(NPY):
            await call.answer(await self._engine.threads.answers.run(_npy, result), NPY)
            return
        await self._answer(call, await self._features(result), result)

    async def list_models(self, call: Call) -> None:
        await call.body.expect_none()
        answer = await self.ListModels(pb.ListModelsRequest(), cast(Any, call))
        for failed in answer.failed:
            failed.error = without_folder(failed.error, self._directory)
        for model in answer.models:
            model.state = without_folder(model.state, self._directory)
        await call.answer(encode(to_dict(answer)))

    async def get_model(self, call: Call) -> None:
        await call.body.expect_none()
        ref = pb.ModelRef(name=call.path["name"], version=call.path.get("version", ""))
        answer = await self.GetModel(pb.GetModelRequest(model=ref), cast(Any, call))
        answer.model.state = without_folder(answer.model.state, self._directory)
        await call.answer(encode(to_dict(answer.model)))

    async def _recognized(self, call: Call, asked: _Asked[Any]) -> Recognition:
        return await self._engine.recognize(asked.core, seconds_left=call.time_remaining(), ticket=asked.ticket)

    async def _predict_stream(self, call: Call, asked: _Asked[pb.PredictRequest]) -> None:
        """A line of JSON for each clip as soon as it has run, and last the result; or, last, what went wrong.

        What goes wrong before the first line is an answer with its own status.
        """
        results = self._engine.recognize_stream(asked.core, seconds_left=call.time_remaining(), ticket=asked.ticket)
        async with aclosing(self._updates(asked.message, results)) as updates:
            first = await anext(updates)
            await call.begin(NDJSON)
            await call.write(await self._update(first))
            try:
                async for update in updates:
                    await call.write(await self._update(update))
            except TenclipError as err:
                if call.unread:
                    raise
                await call.write(_line({"error": problem(err, call.request_id, models=self._directory)}))
                await call.end()
                raise
        await call.end()

    async def _update(self, update: pb.PredictUpdate) -> bytes:
        """Its line. The last one, with the result, may be as large as any answer."""
        if update.HasField("result"):
            return await self._engine.threads.answers.run(lambda: _line(to_dict(update)))
        return _line(to_dict(update))

    async def _answer(self, call: Call, message: Any, result: Recognition) -> None:
        def build() -> bytes:
            return encode(to_dict(message))

        large = result.clip_features.size > _MANY_VALUES or result.num_points > FEW_POINTS
        await call.answer(await self._engine.threads.answers.run(build) if large else build())

    # -- what is asked ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _asked(self, call: Call, kind: type[R]) -> AsyncIterator[_Asked[R]]:
        """The request of a form, of a file with options in the query, or of JSON. Raises Refused for anything else."""
        options = Options(kind)
        options.add_texts(call.options)
        content_type = call.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == _FORM:
            async with self._of_form(call, content_type, options) as asked:
                yield cast(_Asked[R], asked)
        elif media_type == JSON:
            async with self._engine.admission.arriving(call.time_remaining()):
                body = await call.body.read(MAX_JSON_BYTES, what="the JSON", instead="send the video itself as a form")
            options.add_json(body)
            yield cast(_Asked[R], self._checked(options.request(), None))
        elif media_type == _BYTES or media_type.startswith("video/"):
            upload = Upload(chunks=call.body.chunks(), num_bytes=call.body.num_bytes or 0)
            yield cast(_Asked[R], self._checked(options.request(), upload))
        elif not media_type and call.body.num_bytes == 0:
            yield cast(_Asked[R], self._checked(options.request(), None))
        else:
            raise Refused(
                415,
                InvalidRequest(
                    f"the Content-Type {content_type[:80]!r} is not taken: send {_FORM} (curl -F {VIDEO}=@run.mp4), "
                    f"the file itself as video/mp4 or {_BYTES}, or {JSON} with a path or uri"
                ),
                accept_post=f"{_FORM}, {JSON}, {_BYTES}, video/*",
            )

    @asynccontextmanager
    async def _of_form(self, call: Call, content_type: str, options: Options) -> AsyncIterator[_Asked[Any]]:
        self._check_size(call)
        form = Form(call.body, content_type, options)
        async with self._engine.admission.arriving(call.time_remaining(), upload=True):
            has_file = await form.find_file()
        if not has_file:
            yield self._checked(options.request(), None)
            return
        upload = Upload(chunks=form.file())
        name = options.request().video.name or form.file_name
        # Options may follow the file, so what is asked is known when all of it is here.
        async with self._engine.receive(upload, name=name, seconds_left=call.time_remaining()) as (ticket, file):
            asked = self._checked(options.request(), upload)
            core = replace(asked.core, upload=None, spooled=file, name=asked.core.name or form.file_name)
            yield replace(asked, core=core, ticket=ticket)

    def _checked(self, message: AnyRequest, upload: Upload | None) -> _Asked[Any]:
        """Raises NoClassifier, ModelNotFound, VersionNotFound; InvalidRequest for a file and a path."""
        if upload is not None and (source := message.video.WhichOneof("source")):
            raise InvalidRequest(f"the video comes with the request, so {source} must not be set")
        self._require_classifier(message)
        return _Asked(message=message, core=convert.recognition_request(message, upload=upload))

    def _check_size(self, call: Call) -> None:
        """Raises VideoTooLarge for a form that cannot but hold too large a file, before any of it is read."""
        if call.body.num_bytes is not None:
            self._engine.spool.check_size(call.body.num_bytes - MAX_OVERHEAD_BYTES, UPLOAD)


def _npy(result: Recognition) -> bytes:
    """float32 [N,D], the features of the clips, as a .npy file."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(result.clip_features, "<f4"), allow_pickle=False)
    return file.getvalue()


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members).encode() + b"\n"
