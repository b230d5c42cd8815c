"""The Open Inference Protocol against Triton's own client and Triton's own descriptors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tenclip_api.inference import open_inference_pb2 as pb
from tests.conftest import PROJECT
from tests.triton_protocol import triton_file

HERE = Path(__file__).resolve().parent
Message = descriptor_pb2.DescriptorProto


def test_tritonclient() -> None:
    """conformance_triton.py, in a process that never imports our stubs; its own report is shown when it fails."""
    pytest.importorskip("tritonclient", reason="pip install tritonclient")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "conformance_triton.py")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def ours() -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)


def differences(ours: Message, theirs: Message) -> list[str]:
    """Fields of ours that theirs has not with that number, type and cardinality; nested messages too."""
    known = {f.name: f for f in theirs.field}
    found = []
    for field in ours.field:
        their = known.get(field.name)
        if their is None:
            found.append(f"{ours.name}.{field.name} is none of theirs")
        elif (field.number, field.type, field.label, field.type_name) != (
            their.number,
            their.type,
            their.label,
            their.type_name,
        ):
            found.append(f"{ours.name}.{field.name}: {field} is not {their}")
    nested = {m.name: m for m in theirs.nested_type}
    for message in ours.nested_type:
        found += differences(message, nested[message.name]) if message.name in nested else [f"no {message.name}"]
    return found


def test_names_and_numbers_are_tritons() -> None:
    service, config = triton_file("service_pb2"), triton_file("model_config_pb2")
    theirs = {m.name: m for m in (*service.message_type, *config.message_type)}
    assert ours().package == service.package == "inference"
    for message in ours().message_type:
        assert differences(message, theirs[message.name]) == []
    enums = {e.name: {v.name: v.number for v in e.value} for e in config.enum_type}
    for enum in ours().enum_type:
        assert {v.name: v.number for v in enum.value}.items() <= enums[enum.name].items()


def test_differences_are_found() -> None:
    """The comparison itself: a field with another number, and one that is not there."""
    (theirs,) = (m for m in ours().message_type if m.name == "ModelInferRequest")
    changed = Message.FromString(theirs.SerializeToString())
    changed.field[0].number += 1
    changed.nested_type[0].field[1].name = "other"
    assert len(differences(changed, theirs)) == 2


def test_methods_are_tritons() -> None:
    """Their generated module names none of them; these are the paths that its client calls."""
    (service,) = ours().service
    assert service.name == "GRPCInferenceService"
    source = triton_methods()
    for method in service.method:
        assert f"/inference.GRPCInferenceService/{method.name}'" in source
        streams = (method.client_streaming, method.server_streaming)
        assert streams == ((True, True) if method.name == "ModelStreamInfer" else (False, False))


def triton_methods() -> str:
    command = [sys.executable, "-c", "import tritonclient.grpc.service_pb2_grpc as m; print(m.__file__)"]
    file = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    return Path(file).read_text(encoding="utf-8")
