"""What the installed tritonclient says about Triton's protocol, without importing it.

Our stubs and Triton's have the same package, and one process can register only one of the two. So its descriptors are
fetched by another process and read into a pool of their own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_PRINT = "import importlib, sys; sys.stdout.buffer.write(importlib.import_module(sys.argv[1]).DESCRIPTOR.serialized_pb)"


@cache
def triton_file(module: str) -> descriptor_pb2.FileDescriptorProto:
    """`module`: "service_pb2" or "model_config_pb2"."""
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("pip install tritonclient")
    command = [sys.executable, "-c", _PRINT, f"tritonclient.grpc.{module}"]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return descriptor_pb2.FileDescriptorProto.FromString(printed)


def triton_messages(module: str) -> Any:
    """A namespace like the generated module, for one that imports no other."""
    file = triton_file(module)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    names = SimpleNamespace()
    for message in file.message_type:
        descriptor = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        setattr(names, message.name, message_factory.GetMessageClass(descriptor))
    for enum in file.enum_type:
        wrapper = EnumTypeWrapper(pool.FindEnumTypeByName(f"{file.package}.{enum.name}"))
        setattr(names, enum.name, wrapper)
        vars(names).update(wrapper.items())
    return names
