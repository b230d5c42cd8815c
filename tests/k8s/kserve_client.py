"""Asks a server through KServe's own Python client, and prints what came as JSON.

A script for the Python of `make kserve-client`, which has none of our packages. Its arguments: the protocol, "grpc" or
"rest"; the server's HOST:PORT for it; the model; an encoded file; a .npy file of uint8 clips [B,T,H,W,3].
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from numpy.typing import NDArray

Infer = Callable[[str, InferRequest], Awaitable[InferResponse]]


async def by_grpc(address: str, model: str, video: bytes, clips: NDArray[np.uint8]) -> dict[str, Any]:
    """What came of each question, by its name."""
    async with InferenceGRPCClient(address) as client:
        health = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(model)]
        unready = await client.is_model_ready("huge")
        typed = {
            "video as contents": InferInput("VIDEO", [1], "BYTES", data=[video]),
            "clips as contents": InferInput("clips", list(clips.shape), "UINT8", data=clips.ravel().tolist()),
        }

        async def infer(_: str, request: InferRequest) -> InferResponse:
            return await client.infer(request)

        return {"health": health, "unready": unready, **await _tensors(infer, model, video, clips, typed)}


async def by_rest(address: str, model: str, video: bytes, clips: NDArray[np.uint8]) -> dict[str, Any]:
    """The same over HTTP. A file as JSON is its base64, which this client takes for a string as any other."""
    url = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        health = [await client.is_server_live(url), await client.is_server_ready(url)]
        health.append(await client.is_model_ready(url, model))
        unready = await client.is_model_ready(url, "huge")
        text = np.array([base64.b64encode(video).decode()], np.object_)
        typed = {
            "video as JSON": _input("VIDEO", text, binary=False),
            "clips as JSON": _input("clips", clips, binary=False),
        }

        async def infer(name: str, request: InferRequest) -> InferResponse:
            return await client.infer(url, request, model_name=name)

        return {"health": health, "unready": unready, **await _tensors(infer, model, video, clips, typed)}


async def _tensors(
    infer: Infer, model: str, video: bytes, clips: NDArray[np.uint8], typed: Mapping[str, InferInput]
) -> dict[str, Any]:
    """typed: inputs that the two protocols write in their own ways."""

    async def ask(given: InferInput, name: str = model, **more: Any) -> dict[str, Any]:
        try:
            response = await infer(name, InferRequest(name, [given], request_id="seven", **more))
        except (grpc.RpcError, httpx.HTTPStatusError) as err:
            return {"kind": type(err).__name__, "status": _status(err), "says": str(err)}
        outputs = {output.name: _plain(output.as_numpy()) for output in response.outputs}
        return {"model": response.model_name, "id": response.id, "outputs": outputs}

    whole = np.array([video], np.object_)
    raw = {"labels": True, "probabilities": False}
    wanted = [RequestedOutput(name, {"binary_data": binary}) for name, binary in raw.items()]
    return {
        "video": await ask(_input("VIDEO", whole)),
        "clips": await ask(_input("clips", clips)),
        **{name: await ask(given) for name, given in typed.items()},
        "wanted outputs": await ask(_input("VIDEO", whole), request_outputs=wanted),
        "best class": await ask(_input("VIDEO", whole), parameters={"top_k": 1}),
        "binary outputs": await ask(_input("VIDEO", whole), parameters={"binary_data_output": True}),
        "unknown model": await ask(_input("VIDEO", whole), "huge"),
        "no video": await ask(_input("VIDEO", np.array([b"no video"], np.object_))),
    }


def _input(name: str, array: NDArray[Any], *, binary: bool = True) -> InferInput:
    made = InferInput(name, list(array.shape), "UINT8" if array.dtype == np.uint8 else "BYTES")
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def _plain(array: NDArray[Any]) -> Any:
    """Lists of numbers or texts."""
    return [t.decode() if isinstance(t, bytes) else t for t in array] if array.dtype == np.object_ else array.tolist()


def _status(error: grpc.RpcError | httpx.HTTPStatusError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return str(error.response.status_code)
    return str(error.code().name)


async def main(protocol: str, address: str, model: str, video: str, clips: str) -> None:
    ask = {"grpc": by_grpc, "rest": by_rest}[protocol]
    print(json.dumps(await ask(address, model, Path(video).read_bytes(), np.load(clips))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
