"""`tenclip bench --method infer` and a real TorchServe that speaks the Open Inference Protocol."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenclip_client.cli.main import main
from tests.tenclip_export.torchserve import TorchServe, absent, members, running_torchserve
from tests.tenclip_serving.helpers import make_video

NOW = ("--warmup", "0", "--json", "--method", "infer", "--model", "reader")
# It logs what it got, and refuses what does not fit its shape.
HANDLER = """
import base64, hashlib, math, sys
from ts.utils.util import PredictionException

def handle(data, context):
    if not data:
        return None
    answers = []
    for row in data:
        (tensor,) = row["body"]["inputs"]
        got = tensor["data"]
        if len(got) != math.prod(tensor["shape"]):
            raise PredictionException(f"{tensor['shape']} and {len(got)} elements", 400)
        if tensor["datatype"] == "BYTES":
            got = hashlib.sha256(base64.b64decode(got[0])).hexdigest()
        else:
            got = f"{round(min(got))} to {round(max(got))}"
        print("GOT", tensor["name"], tensor["datatype"], tensor["shape"], got)
        sys.stdout.flush()
        output = {"name": "out", "datatype": "INT32", "shape": [1], "data": [1]}
        answers.append({"id": "", "model_name": "reader", "model_version": "1.0", "outputs": [output]})
    return answers
"""
MANIFEST = {
    "runtime": "python",
    "archiverVersion": "0.12.0",
    "model": {"modelName": "reader", "modelVersion": "1.0", "handler": "reader.py"},
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def torchserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    if reason := absent():
        pytest.skip(reason)
    store = tmp_path_factory.mktemp("model-store")
    with zipfile.ZipFile(store / "reader.mar", "w") as archive:
        archive.writestr("reader.py", HANDLER)
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(MANIFEST))
    with running_torchserve(store, open_inference=True) as server:
        server.register(store / "reader.mar")
        yield server
    assert members(server.process.pid) == []


def bench(capsys: pytest.CaptureFixture[str], server: TorchServe, *words: str) -> tuple[int, Any, str]:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--server", server.grpc, *NOW, *words])
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, json.loads(printed.out) if printed.out else None, printed.err


def check_logged(server: TorchServe, line: str, times: int) -> None:
    """TorchServe copies what its workers print to its log after they have answered."""
    end = time.monotonic() + 10
    while server.log.count(line) < times and time.monotonic() < end:
        time.sleep(0.1)
    assert server.log.count(line) == times, server.log


def test_a_video_arrives_whole(torchserve: TorchServe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = make_video(tmp_path / "a.mp4")
    code, found, err = bench(capsys, torchserve, str(video), "--input", "video:BYTES", "-n", "4", "-c", "2")
    assert (code, err) == (0, ""), torchserve.log
    assert found["requests"] == {"ok": 4, "failed": 0, "unanswered": 0}
    assert "reader:1.0 on TorchServe" in json.dumps(found)
    digest = hashlib.sha256(video.read_bytes()).hexdigest()
    check_logged(torchserve, f"GOT video BYTES [1] {digest}", 4)


@pytest.mark.parametrize(("datatype", "got"), [("FP32", "0 to 1"), ("UINT8", "0 to 255"), ("INT64", "0 to 0")])
def test_made_up_numbers_arrive(
    torchserve: TorchServe, capsys: pytest.CaptureFixture[str], datatype: str, got: str
) -> None:
    words = ("--input", f"clips:{datatype}", "--shape", "clips:2,4,16,16,3", "-n", "2")
    code, found, err = bench(capsys, torchserve, *words)
    assert (code, err) == (0, ""), torchserve.log
    assert found["requests"]["ok"] == 2
    check_logged(torchserve, f"GOT clips {datatype} [2, 4, 16, 16, 3] {got}", 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "names no inputs; say what it takes: --input NAME:TYPE"),
        (("--input", "clips:BF16", "--shape", "clips:1,2"), "BF16 can only be sent as raw contents"),
        (("--model", "nobody"), "Model not found"),
    ],
)
def test_what_cannot_be_sent_is_an_error(
    torchserve: TorchServe, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    code, found, err = bench(capsys, torchserve, *words, "-n", "1")
    assert code == 1
    assert found is None
    assert says in " ".join(err.split())
