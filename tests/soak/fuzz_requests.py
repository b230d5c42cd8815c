"""Damaged messages to every method of a real server: each gets an answer, and none that says nothing.

    python -m tests.soak.fuzz_requests [--cases 20000] [--seed 1] [--case INDEX]

Methods and messages are those that the server's reflection names. A case is a message filled at random, damaged bytes
of one, or noise. What may not happen: no answer within the time, INTERNAL without a request id, a server that ends or
that no longer predicts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from rich.console import Console
from rich.table import Table

from tenclip_api.v1 import tenclip_pb2 as pb
from tests.soak._mutations import MUTATIONS
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server

# Of these packages; health and reflection are gRPC's own code.
PACKAGES = ("tenclip.", "inference.")
CALL_SECONDS = 60.0
LANES = 8
_KINDS = ("filled", "damaged", "noise")
_STRINGS = (
    "",
    "tiny",
    "1",
    "colors.mp4",
    "../../etc/passwd",
    "a\0b",
    "x" * 5000,
    "\N{BLACK STAR}",
    "ten-clip",
    "VIDEO",
)
_NUMBERS = (0, 1, 2, 3, 5, 100, 2**31 - 1)
_FLOATS = (0.0, 0.5, 1.0, -1.0, 1e300, float("nan"), float("inf"))


@dataclass(frozen=True, kw_only=True)
class Method:
    """path: as gRPC calls it."""

    path: str
    request: type[Message]
    client_streaming: bool
    server_streaming: bool


@dataclass(frozen=True, kw_only=True)
class Case:
    index: int
    name: str
    method: Method
    messages: tuple[bytes, ...]


@dataclass(kw_only=True)
class Report:
    """outcomes: how many cases ended with which status. failures: what must not happen."""

    outcomes: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": not self.failures,
            "summary": f"{self.outcomes.total()} damaged messages to {len(self.methods)} methods: "
            f"{len(self.failures)} crashes, hangs or INTERNAL without an id; slowest {self.slowest_seconds:.1f} s",
            "cases": self.outcomes.total(),
            "outcomes": dict(self.outcomes.most_common()),
            "methods": dict(self.methods.most_common()),
            "failures": self.failures,
            "slowest_seconds": round(self.slowest_seconds, 2),
            "seconds": round(self.seconds, 1),
        }


def methods_of(channel: grpc.Channel) -> list[Method]:
    """Every method of our packages, by path."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    found = []
    for service in database.get_services():
        if service.startswith(PACKAGES):
            methods: Sequence[MethodDescriptor] = pool.FindServiceByName(service).methods
            found += [
                Method(
                    path=f"/{service}/{m.name}",
                    request=GetMessageClass(m.input_type),
                    client_streaming=m.client_streaming,
                    server_streaming=m.server_streaming,
                )
                for m in methods
            ]
    return sorted(found, key=lambda m: m.path)


def make_case(methods: Sequence[Method], video: bytes, *, seed: int, index: int) -> Case:
    """The same for the same methods and numbers. Half of all cases are Predict."""
    rng = np.random.default_rng([seed, index])
    method = methods[int(rng.integers(len(methods)))]
    predict = next(m for m in methods if m.path.endswith("/Predict"))
    if rng.random() < 0.5:
        method = predict
    kind = _KINDS[int(rng.choice(3, p=(0.35, 0.55, 0.1)))]
    count = int(rng.integers(0, 4)) if method.client_streaming else 1
    messages = tuple(_message(kind, method, video, rng) for _ in range(count))
    return Case(index=index, name=f"{index} {method.path} {kind}", method=method, messages=messages)


def _message(kind: str, method: Method, video: bytes, rng: np.random.Generator) -> bytes:
    if kind == "noise":
        return rng.bytes(int(rng.choice([0, 1, 10, 1000, 100_000])))
    if method.path.endswith("/Predict") and rng.random() < 0.5:
        message: Message = pb.PredictRequest(
            model=pb.ModelRef(name="tiny"),
            video=pb.Video(data=video, name="fuzz"),
            clips=pb.ClipSelection(num_clips=2),
            include_features=True,
        )
    else:
        message = method.request()
        fill(message, video, rng)
    data = message.SerializeToString()
    if kind == "filled" or not data:
        return data
    return MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, video, rng)


def fill(message: Message, video: bytes, rng: np.random.Generator, depth: int = 0) -> None:
    """Random values in about half of the fields, as likely sensible as not."""
    for one in message.DESCRIPTOR.fields:
        if rng.random() < 0.5:
            continue
        if one.type == FieldDescriptor.TYPE_MESSAGE:
            _fill_message(message, one, video, rng, depth)
        elif one.is_repeated:
            getattr(message, one.name).extend(_value(one, video, rng) for _ in range(int(rng.integers(4))))
        else:
            setattr(message, one.name, _value(one, video, rng))


def _fill_message(message: Message, one: Any, video: bytes, rng: np.random.Generator, depth: int) -> None:
    if depth > 4 or (one.message_type.GetOptions().map_entry):
        return
    if one.is_repeated:
        for _ in range(int(rng.integers(3))):
            fill(getattr(message, one.name).add(), video, rng, depth + 1)
    else:
        getattr(message, one.name).SetInParent()
        fill(getattr(message, one.name), video, rng, depth + 1)


def _value(one: Any, video: bytes, rng: np.random.Generator) -> Any:
    kind = one.cpp_type
    if one.type == FieldDescriptor.TYPE_BYTES:
        return video if rng.random() < 0.7 else rng.bytes(int(rng.choice([0, 3, 5000])))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _STRINGS[int(rng.integers(len(_STRINGS)))]
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return bool(rng.integers(2))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return int(rng.integers(0, 6))
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return _FLOATS[int(rng.integers(len(_FLOATS)))]
    return _NUMBERS[int(rng.integers(len(_NUMBERS)))]


def fuzz(indices: Iterable[int], *, seed: int, console: Console | None = None) -> Report:
    """Cases of these indices, to a server of its own that must still predict at the end."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_bundle(root / "models")
        make_video(root / "colors.mp4", num_frames=12)
        video = (root / "colors.mp4").read_bytes()
        with running_server(root / "models", "--allow-root", folder, "--decode-workers", "2") as server:
            started = time.perf_counter()
            with grpc.insecure_channel(server.address) as channel:
                methods = methods_of(channel)
            cases = (make_case(methods, video, seed=seed, index=index) for index in indices)
            _run(server, _Shared(cases, console), report)
            report.seconds = time.perf_counter() - started
            _check_server(server, video, report)
    return report


class _Shared:
    """An iterator that several threads take from."""

    def __init__(self, cases: Iterator[Case], console: Console | None) -> None:
        self._cases, self._console, self._lock, self._count = cases, console, threading.Lock(), 0

    def __iter__(self) -> _Shared:
        return self

    def __next__(self) -> Case:
        with self._lock:
            self._count += 1
            if self._console is not None and self._count % 1000 == 0:
                self._console.print(f"{self._count} cases", style="dim")
            return next(self._cases)


def _run(server: ServerProcess, cases: _Shared, report: Report) -> None:
    lock = threading.Lock()

    def lane() -> None:
        with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            for case in cases:
                started = time.perf_counter()
                status, failure = call(channel, case)
                with lock:
                    report.slowest_seconds = max(report.slowest_seconds, time.perf_counter() - started)
                    report.outcomes[status] += 1
                    report.methods[case.method.path] += 1
                    report.failures += [failure] if failure else []

    threads = [threading.Thread(target=lane) for _ in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def call(channel: grpc.Channel, case: Case) -> tuple[str, str]:
    """(status, what must not happen or "")."""
    try:
        _send(channel, case)
    except grpc.RpcError as err:
        if not isinstance(err, grpc.Call):
            raise
        code, metadata = err.code(), dict(err.trailing_metadata() or ())
        said = f"{case.name}: {code.name} {err.details()}"
        if code == grpc.StatusCode.INTERNAL and not metadata.get("tenclip-request-id"):
            return code.name, f"{said} without a request id"
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN):
            return code.name, said
        if code == grpc.StatusCode.UNAVAILABLE and "tenclip-reason" not in metadata:
            return code.name, f"{said}: the server is gone"
        return code.name, ""
    return "OK", ""


def _send(channel: grpc.Channel, case: Case) -> None:
    open_call: Any = channel  # without serializers a channel takes bytes, which its types do not say
    path, messages = case.method.path, case.messages
    if case.method.client_streaming and case.method.server_streaming:
        list(open_call.stream_stream(path)(iter(messages), timeout=CALL_SECONDS))
    elif case.method.client_streaming:
        open_call.stream_unary(path)(iter(messages), timeout=CALL_SECONDS)
    elif case.method.server_streaming:
        list(open_call.unary_stream(path)(messages[0], timeout=CALL_SECONDS))
    else:
        open_call.unary_unary(path)(messages[0], timeout=CALL_SECONDS)


def _check_server(server: ServerProcess, video: bytes, report: Report) -> None:
    if server.process.poll() is not None:
        report.failures.append(f"the server ended with exit code {server.process.returncode}")
        return
    with server.stub() as stub:
        try:
            stub.Predict(pb.PredictRequest(video=pb.Video(data=video)), timeout=CALL_SECONDS)
        except grpc.RpcError as err:
            report.failures.append(f"after all that a good request fails: {err}")
    lines = server.log.splitlines()
    internal = [i for i, line in enumerate(lines) if "internal error" in line]
    for i in internal[:5]:  # an id is not enough: each is a bug of ours
        report.failures.append("the server's log: " + "\n".join(lines[i : i + 40]))


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fuzz_requests", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="only this one")
    options = parser.parse_args(argv)
    indices = range(options.cases) if options.case is None else [options.case]
    report = fuzz(indices, seed=options.seed, console=Console(stderr=True))
    _print(Console(), report)
    return {"seed": options.seed, **report.to_dict()}


def _print(console: Console, report: Report) -> None:
    title = f"{report.outcomes.total()} damaged messages to {len(report.methods)} methods, {report.seconds:.0f} s"
    table = Table(title=title, title_justify="left")
    table.add_column("status")
    table.add_column("cases", justify="right")
    for status, count in report.outcomes.most_common():
        table.add_row(status, str(count))
    console.print(table)
    console.print(f"slowest answer {report.slowest_seconds:.1f} s")
    for failure in report.failures[:50]:
        console.print(f"FAILED {failure}", markup=False)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
