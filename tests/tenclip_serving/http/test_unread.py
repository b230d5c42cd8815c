"""What callers send and leave unread, over real sockets on a loop of this process: where it is held, and how long."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import MutableMapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest, Overloaded
from tenclip_api.host_names import HostNames
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.http import protocol
from tenclip_serving.http.call import Call
from tenclip_serving.http.endpoint import Endpoint, Handler, Surroundings
from tenclip_serving.http.open_inference import HttpOpenInference
from tenclip_serving.http.server import HttpServer
from tenclip_serving.intake.admission import Admission
from tenclip_serving.models.repository import Repository
from tenclip_serving.telemetry.call_records import CallRecords
from tenclip_serving.telemetry.metrics import Metrics

MIB = 1 << 20


def endpoint(handler: Handler, *, write_seconds: float) -> Endpoint:
    surroundings = Surroundings(
        records=CallRecords(Metrics(), "http"),
        admission=Admission(max_bytes=MIB, max_queue_bytes=MIB, max_queue=1, max_active=1),
        tokens=None,
        reflection="open",
        working=nullcontext,
        write_seconds=write_seconds,
        models=Path("models"),
        host_names=HostNames("127.0.0.1"),
    )
    return Endpoint(handler, surroundings, rpc="/tenclip.v1.VideoRecognition/ListModels")


@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "connection: close"])
@pytest.mark.parametrize("size", [200_000, 60_000], ids=["more than the buffer", "less"])
def test_the_connection_of_a_caller_who_does_not_read_the_end_is_ended(
    size: int, close: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the answer has been written, and what the sockets do not take waits in this process."""
    monkeypatch.setattr(protocol, "_FLUSH_SECONDS", 0.3)

    async def answer(call: Call) -> None:
        transport = call.scope["state"]["hang_up"].__self__.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await call.answer(bytes(size))

    async def run() -> None:
        app = endpoint(answer, write_seconds=0.3)
        server = HttpServer(app, host="127.0.0.1", port=0, tls=None, keep_alive_seconds=1)
        await server.start()
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(caller, ("127.0.0.1", server.port))
            more = b"Connection: close\r\n" if close else b""
            await loop.sock_sendall(caller, b"GET / HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
            assert (await loop.sock_recv(caller, 15)) == b"HTTP/1.1 200 OK"
            async with asyncio.timeout(10):
                while server._state.connections:
                    await asyncio.sleep(0.05)
        await server.stop(0)

    asyncio.run(run())


def test_a_body_counts_as_arriving_until_it_is_parsed(one_model: Path) -> None:
    """Bodies wait for one of few parsers, and are charged after it: without this they would be without number."""

    async def run() -> None:
        config = ServerConfig(directory=one_model, max_active=1, max_queue=0)
        engine, done = Engine(config, Repository({})), threading.Event()
        service = HttpOpenInference(
            engine, manager=lambda: pytest.fail("not asked"), is_ready=lambda: True, working=nullcontext
        )
        parsers = [asyncio.create_task(engine.threads.hashes.run(done.wait, 30)) for _ in range(2)]
        read = asyncio.Event()

        async def receive() -> MutableMapping[str, Any]:
            read.set()
            return {"type": "http.request", "body": b"x" * MIB, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            pytest.fail("not answered")

        scope = {"headers": [(b"content-length", str(MIB).encode())], "path_params": {"name": "tiny"}}
        inferring = asyncio.create_task(service.infer(Call(scope, receive, send, write_seconds=1)))
        await read.wait()
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="0 requests are worked on and 1 wait"):
            engine.admission.check_arrival()
        done.set()
        with pytest.raises(InvalidRequest):
            await inferring
        engine.admission.check_arrival()
        await asyncio.gather(*parsers)
        await engine.close()

    asyncio.run(run())
