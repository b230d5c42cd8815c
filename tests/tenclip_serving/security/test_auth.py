"""Files of tokens, and who may call what."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest, PermissionDenied, Unauthenticated
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_serving.api.interceptor import Interceptor
from tenclip_serving.security.auth import AuthInterceptor, Tokens, permission_of, read_tokens
from tenclip_serving.telemetry.metrics import Metrics

ALICE, BOB, OPS = "alice-0123456789abcdef", "bob-0123456789abcdef", "ops-0123456789abcdef"
FILE = f"""
[alice]
token = "{ALICE}"
permissions = ["predict"]
[bob]
sha256 = "{hashlib.sha256(BOB.encode()).hexdigest().upper()}"
permissions = ["predict", "manage"]
[ops]
token = "{OPS}"
permissions = ["metrics"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    return path


def test_tokens_and_hashes_of_tokens(file: Path) -> None:
    tokens = Tokens(file)
    assert tokens.caller(f"Bearer {ALICE}").name == "alice"
    assert tokens.caller(f"bearer  {BOB} ").name == "bob"
    assert tokens.check(f"Bearer {BOB}", "manage", "Load").permissions == {"predict", "manage"}
    assert tokens.check(f"Bearer {OPS}", "", "reflection").name == "ops"
    assert ALICE not in repr(tokens.caller(f"Bearer {ALICE}"))


@pytest.mark.parametrize(
    ("authorization", "says"),
    [
        (None, "wants a token: send the metadata `authorization: Bearer TOKEN`"),
        ("", "wants a token"),
        ("Bearer", "of another kind"),
        ("Bearer ", "of another kind"),
        (f"Basic {ALICE}", "of another kind"),
        (ALICE, "of another kind"),
        (f"Bearer {ALICE}x", "none that this server knows"),
        (f"Bearer {ALICE[:-1]}", "none that this server knows"),
        (f"Bearer {hashlib.sha256(BOB.encode()).hexdigest()}", "none that this server knows"),
    ],
)
def test_who_is_not_known(file: Path, authorization: str | None, says: str) -> None:
    with pytest.raises(Unauthenticated, match=says) as caught:
        Tokens(file).caller(authorization)
    assert ALICE[:-1] not in caught.value.message


def test_what_a_caller_may_not(file: Path) -> None:
    with pytest.raises(PermissionDenied, match="Load needs the permission manage; the token of alice has predict"):
        Tokens(file).check(f"Bearer {ALICE}", "manage", "Load")


def test_one_of_two_permissions(file: Path) -> None:
    file.write_text(FILE.replace('permissions = ["predict", "manage"]', 'permissions = ["manage"]'))
    tokens = Tokens(file)
    for token, name in ((ALICE, "alice"), (BOB, "bob")):
        assert tokens.check(f"Bearer {token}", "predict or manage", "ListModels").name == name
    with pytest.raises(PermissionDenied, match="Predict needs the permission predict; the token of bob has manage"):
        tokens.check(f"Bearer {BOB}", "predict", "Predict")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_no_text_but_the_token_gets_in(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "tokens-hypothesis.toml"
    if not path.exists():
        path.write_text(FILE)
    with pytest.raises(Unauthenticated):
        Tokens(path).caller(f"Bearer {text}")


SECRET = "sEcReT-never-shown-anywhere"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no tokens"),
        (SECRET, "is not TOML"),
        (f'[a]\ntoken = "{SECRET}\n', "is not TOML"),
        (f'a = "{SECRET}"', r"\[a\]: must be a table"),
        (f'[a]\ntoken = "{SECRET}"', r"\[a\]: permissions must be a list of .* metrics; there is none"),
        (f'[a]\ntoken = "{SECRET}"\npermissions = ["predict", "all"]', "'all' is no permission"),
        (f'[a]\ntoken = "{SECRET}"\npermissions = []', "the list is empty"),
        (f'[a]\ntoken = "{SECRET}"\npermissions = "predict"', "got 'predict'"),
        (f'[a]\ntoken = "x"\npermissions = ["{SECRET}"]', "a str too long to be one is no permission"),
        (f'[a]\ntoken = "x"\npermissions = [["{SECRET}"], 1]', "a list too long to be one, 1 is no permission"),
        (f'[a]\ntoken = "x"\npermissions = "{SECRET}"', "got a str too long to be one"),
        (f'[a]\ntokn = "{SECRET}"\npermissions = ["predict"]', "must be a table of token or sha256"),
        ('[a]\npermissions = ["predict"]', "must have either token or sha256"),
        (f'[a]\ntoken = "{SECRET}"\nsha256 = "{SECRET}"\npermissions = ["predict"]', "must have either"),
        (f'[a]\nsha256 = "{SECRET}"\npermissions = ["predict"]', "sha256 must be 64 hex digits"),
        ('[a]\ntoken = "short"\npermissions = ["predict"]', "token must be a string of 16 or more"),
        (f'[a]\ntoken = "{SECRET}ä"\npermissions = ["predict"]', "printable"),
        (f'[a]\ntoken = ["{SECRET}"]\npermissions = ["predict"]', "token must be a string"),
        (
            f'[a]\ntoken = "{SECRET}"\npermissions = ["predict"]\n[b]\ntoken = "{SECRET}"\npermissions = ["manage"]',
            "two callers have the same token",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named_and_not_quoted(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=says) as caught:
        read_tokens(path)
    assert str(path) in caught.value.message
    assert SECRET not in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot read the tokens .*none: No such file"):
        Tokens(tmp_path / "none")


def test_tokens_are_replaced_and_withdrawn_without_a_restart(file: Path) -> None:
    tokens = Tokens(file)
    file.write_text(FILE.replace(ALICE, "alice-the-second-token"))
    assert tokens.caller("Bearer alice-the-second-token").name == "alice"
    with pytest.raises(Unauthenticated):
        tokens.caller(f"Bearer {ALICE}")


def test_a_file_that_is_replaced_by_renaming(file: Path) -> None:
    tokens = Tokens(file)
    other = file.with_name("new.toml")
    other.write_text(FILE.replace(ALICE, ALICE[::-1]))
    stamp = file.stat()
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size and time: the inode tells
    other.rename(file)
    assert tokens.caller(f"Bearer {ALICE[::-1]}").name == "alice"


def test_the_old_tokens_stay_while_the_new_file_is_bad(file: Path) -> None:
    tokens = Tokens(file)
    for bad in ("", "[half", "a = " + "[" * 100_000):  # the last one is too deep for the parser: no error of ours
        file.write_text(bad)
        assert tokens.caller(f"Bearer {ALICE}").name == "alice"
    file.unlink()
    assert tokens.caller(f"Bearer {ALICE}").name == "alice"
    file.write_text(FILE.replace("alice", "carol"))
    assert tokens.caller("Bearer carol-0123456789abcdef").name == "carol"


@pytest.mark.parametrize(
    ("path", "permission"),
    [
        ("/tenclip.v1.VideoRecognition/Predict", "predict"),
        ("/tenclip.v1.VideoRecognition/AnythingNew", "predict"),
        ("/tenclip.v1.VideoRecognition/ListModels", "predict or manage"),
        ("/tenclip.v1.VideoRecognition/GetModel", "predict or manage"),
        ("/tenclip.v1.ModelManagement/Load", "manage"),
        ("/tenclip.v2.Whatever/X", "manage"),
        ("/grpc.health.v1.Health/Check", None),
        ("/grpc.health.v1.Health/Watch", None),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None),
        ("/inference.GRPCInferenceService/ServerLive", None),
        ("/inference.GRPCInferenceService/ModelReady", None),
        ("/inference.GRPCInferenceService/ModelInfer", "predict"),
        ("/inference.GRPCInferenceService/ModelStreamInfer", "predict"),
        ("/inference.GRPCInferenceService/RepositoryIndex", "manage"),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", "manage"),
        ("/inference.GRPCInferenceService/SystemSharedMemoryRegister", "manage"),
        ("/grpc.health.v1.HealthX/Check", "manage"),
        ("", "manage"),
    ],
)
def test_what_a_method_needs(path: str, permission: str | None) -> None:
    assert permission_of(path) == permission


def test_reflection_for_those_with_a_token() -> None:
    assert permission_of("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "tokens") == ""


class Servicer(tenclip_pb2_grpc.VideoRecognitionServicer):
    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse()

    async def Predict(self, request: Any, context: Any) -> pb.PredictResponse:
        return pb.PredictResponse()

    async def ExtractFeatures(self, request: Any, context: Any) -> pb.ExtractFeaturesResponse:
        raise NotImplementedError

    async def GetModel(self, request: Any, context: Any) -> pb.GetModelResponse:
        raise NotImplementedError


async def _refusal(rpc: Any) -> tuple[str, str, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc
    metadata = {k: str(v) for k, v in caught.value.trailing_metadata() or ()}
    return caught.value.code().name, caught.value.details() or "", metadata


def test_refusals_look_like_other_errors_and_come_before_the_message(file: Path) -> None:
    async def test() -> None:
        metrics = Metrics()
        interceptor = Interceptor(metrics)
        interceptors = [AuthInterceptor(Tokens(file), metrics), interceptor]
        server = grpc.aio.server(interceptors=interceptors, options=[("grpc.max_receive_message_length", 1000)])
        servicer = Servicer()  # type: ignore[abstract]  # not all methods
        tenclip_pb2_grpc.add_VideoRecognitionServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = tenclip_pb2_grpc.VideoRecognitionStub(channel)
                mine = (("tenclip-request-id", "mine"),)
                code, details, metadata = await _refusal(stub.ListModels(pb.ListModelsRequest(), metadata=mine))
                assert (code, metadata["tenclip-reason"]) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
                assert metadata["tenclip-request-id"] == "mine"
                assert "wants a token" in details
                async with asyncio.timeout(2):  # a server that stops does not wait for calls that were refused
                    await interceptor.quiet(0)
                ops = (("authorization", f"Bearer {OPS}"),)
                code, details, metadata = await _refusal(stub.ListModels(pb.ListModelsRequest(), metadata=ops))
                assert (code, metadata["tenclip-reason"]) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
                # Beyond the limit, which would be another error were the message read.
                large = pb.PredictRequest(video=pb.Video(data=bytes(3 << 20)))
                assert (await _refusal(stub.Predict(large, metadata=ops)))[0] == "PERMISSION_DENIED"
                alice = (("authorization", f"Bearer {ALICE}"),)
                assert (await _refusal(stub.Predict(large, metadata=alice)))[0] == "RESOURCE_EXHAUSTED"
                assert await stub.ListModels(pb.ListModelsRequest(), metadata=alice) == pb.ListModelsResponse()
                none: Any = channel.unary_unary("/tenclip.v1.VideoRecognition/None")
                assert (await _refusal(none(b"")))[0] == "UNIMPLEMENTED"
        finally:
            await server.stop(None)

        def requests(code: str, method: str = "ListModels") -> float | None:
            labels = {"method": method, "code": code, "transport": "grpc"}
            return metrics.registry.get_sample_value("tenclip_requests_total", labels)

        assert (requests("UNAUTHENTICATED"), requests("PERMISSION_DENIED"), requests("OK")) == (1, 1, 1)
        assert requests("UNAUTHENTICATED", "None") is None  # callers cannot make up labels

    asyncio.run(test())
