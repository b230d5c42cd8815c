"""Models reloaded under load: no request is lost, and the copies that were replaced are let go.

    python -m tests.soak.reload [--rounds 200] [--runtime auto]

Clients ask a real server without a pause, by video and by tensor, while in each round its model is loaded again, gets
a version and loses it, fails to load, and is swapped on disk. Not one answer may be an error, each must be right, and
from the middle of the run to its end the server's memory may grow by MOST_GROWTH_MB at most.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from rich.console import Console

from tenclip_api.errors import ModelError
from tenclip_api.inference import open_inference_pb2 as inference
from tenclip_api.inference import open_inference_pb2_grpc
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import Client
from tests.tenclip_serving.helpers import SPEC, ServerProcess, make_bundle, make_video, reference, running_server

# Of each kind.
CLIENTS = 2
MOST_GROWTH_MB = 100.0
_CALL_SECONDS = 60.0


@dataclass(kw_only=True)
class Report:
    rounds: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    middle_mb: float = 0.0
    end_mb: float = 0.0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": not self.failures,
            "summary": f"{self.rounds} rounds of reloads under load: "
            + ", ".join(f"{count} {answer}" for answer, count in self.answers.most_common())
            + f"; resident {self.middle_mb:.0f} MB in the middle, {self.end_mb:.0f} MB at the end",
            "rounds": self.rounds,
            "answers": dict(self.answers.most_common()),
            "middle_mb": round(self.middle_mb, 1),
            "end_mb": round(self.end_mb, 1),
            "failures": self.failures,
            "seconds": round(self.seconds, 1),
        }


def run(rounds: int, *, runtime: str = "auto") -> Report:
    """Reload the model of a server of its own, `rounds` times in every way."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        models, video = Path(folder) / "models", Path(folder) / "video.mp4"
        make_bundle(models)
        make_video(video)
        with running_server(models, "--runtime", runtime, "--allow-root", folder, "--allow-manage") as server:
            started = time.perf_counter()
            _reload_under_load(server, models, rounds, report)
            report.seconds = time.perf_counter() - started
            _check(server, report)
    return report


def _reload_under_load(server: ServerProcess, models: Path, rounds: int, report: Report) -> None:
    stop, lock = threading.Event(), threading.Lock()

    def keep(ask: Callable[[grpc.Channel], str]) -> None:
        with grpc.insecure_channel(server.address) as channel:
            while not stop.is_set():
                answer = ask(channel)
                with lock:
                    report.answers[answer] += 1

    threads = [threading.Thread(target=keep, args=(ask,)) for ask in (_predict, _infer) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        with Client(server.address, timeout=_CALL_SECONDS) as client:
            while report.rounds < rounds:
                _change(client, models)
                report.rounds += 1
                if report.rounds == (rounds + 1) // 2:
                    report.middle_mb = _memory_mb(server)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    report.end_mb = _memory_mb(server)


def _change(client: Client, models: Path) -> None:
    """Everything that can happen to a model, once. `assert`: that it did happen, or the proof proves nothing."""
    assert client.load_model("tiny:1").loaded == ("tiny:1",)
    make_bundle(models, "tiny", "2")
    assert client.reload_models().loaded == ("tiny:2",)
    client.set_default_version("tiny:1")
    shutil.rmtree(models / "tiny" / "2")
    assert client.reload_models().unloaded == ("tiny:2",)
    client.set_default_version("tiny")
    _swap(models, golden_shift=3.0)
    try:
        client.load_model("tiny:1")
    except ModelError:
        pass
    else:
        raise AssertionError("a drifted bundle was loaded")
    _swap(models)
    assert client.reload_models().loaded == ("tiny:1",)


def _swap(models: Path, *, golden_shift: float = 0.0) -> None:
    """tiny/1 again, put into its place by renames."""
    made = make_bundle(models / ".stage", "tiny", "1", golden_shift=golden_shift)
    (models / "tiny" / "1").rename(models / ".stage" / "old")
    made.rename(models / "tiny" / "1")
    shutil.rmtree(models / ".stage")


def _predict(channel: grpc.Channel) -> str:
    """OK, or what is wrong with the answer."""
    request = pb.PredictRequest(
        model=pb.ModelRef(name="tiny"), video=pb.Video(path="video.mp4"), clips=pb.ClipSelection(num_clips=2)
    )
    call: grpc.UnaryUnaryMultiCallable[pb.PredictRequest, pb.PredictResponse] = channel.unary_unary(
        "/tenclip.v1.VideoRecognition/Predict",
        request_serializer=pb.PredictRequest.SerializeToString,
        response_deserializer=pb.PredictResponse.FromString,
    )
    try:
        response = call(request, timeout=_CALL_SECONDS)
    except grpc.RpcError as err:
        return _status(err)
    return "OK" if len(response.top) == 4 else f"{len(response.top)} classes"


_CLIPS = np.random.default_rng(0).integers(0, 256, (2, SPEC.num_frames, SPEC.crop, SPEC.crop, 3), np.uint8)
_LOGITS = reference(_CLIPS).logits


def _infer(channel: grpc.Channel) -> str:
    """OK, or what is wrong with the answer."""
    request = inference.ModelInferRequest(model_name="tiny", raw_input_contents=[_CLIPS.tobytes()])
    request.inputs.add(name="clips", datatype="UINT8", shape=_CLIPS.shape)
    request.outputs.add(name="logits")
    try:
        response = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=_CALL_SECONDS)
    except grpc.RpcError as err:
        return _status(err)
    logits = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(_LOGITS.shape)
    return "OK" if np.allclose(logits, _LOGITS, rtol=1e-2, atol=1e-2) else "wrong logits"


def _status(err: grpc.RpcError) -> str:
    if not isinstance(err, grpc.Call):
        raise err
    return f"{err.code().name}: {err.details()}"


def _memory_mb(server: ServerProcess) -> float:
    """Resident, of the server without its decode workers."""
    return float(psutil.Process(server.process.pid).memory_info().rss) / 1e6


def _check(server: ServerProcess, report: Report) -> None:
    if server.process.poll() is not None:
        report.failures.append(f"the server ended with exit code {server.process.returncode}")
    if errors := {answer: count for answer, count in report.answers.items() if answer != "OK"}:
        report.failures.append(f"other answers: {errors}")
    if not report.answers["OK"]:
        report.failures.append("no request was answered")
    if (growth := report.end_mb - report.middle_mb) > MOST_GROWTH_MB:
        report.failures.append(f"memory grew by {growth:.0f} MB from the middle to the end, of {MOST_GROWTH_MB:.0f}")


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.reload", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--runtime", default="auto")
    options = parser.parse_args(argv)
    report = run(options.rounds, runtime=options.runtime)
    console = Console()
    answers = ", ".join(f"{count} {answer}" for answer, count in report.answers.most_common())
    console.print(
        f"{report.rounds} rounds of reloads in {report.seconds:.0f} s under {2 * CLIENTS} clients: {answers}; resident "
        f"{report.middle_mb:.0f} MB in the middle, {report.end_mb:.0f} MB at the end"
    )
    for failure in report.failures:
        console.print(f"FAILED {failure}", markup=False)
    return report.to_dict()


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
