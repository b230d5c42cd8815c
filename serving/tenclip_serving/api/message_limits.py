"""Limits on protobuf messages: their parts are counted on the encoded bytes, before they are parsed.

An empty part of a message is two bytes on the wire and some hundred in memory, so a request within the limit of its
bytes can become gigabytes, while everyone waits for the parser.
"""

from __future__ import annotations

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tenclip_api.errors import InvalidRequest

# The most parts of one request. Honest ones have a few dozen: tensors are one part each, however large.
MAX_PARTS = 10_000
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def request_type(path: str) -> Descriptor | None:
    """Type of the requests of the method `/package.Service/Method`; None for an unknown method."""
    service, _, method = path.removeprefix("/").partition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return None
    return found.methods_by_name[method].input_type if method in found.methods_by_name else None


def check_parts(raw: bytes, message: Descriptor, *, most: int = MAX_PARTS) -> None:
    """Raises InvalidRequest for a message of more fields than are allowed, those of its sub-messages included.

    Ends quietly where the bytes are no message: that is for the parser to say.
    """
    view, left = memoryview(raw), most
    # Ranges of bytes that are messages still to be looked at.
    messages: list[tuple[int, int, Descriptor]] = [(0, len(raw), message)]
    while messages:
        position, end, kind = messages.pop()
        while position < end:
            left -= 1
            if left < 0:
                raise InvalidRequest(
                    f"the request has more than {most} parts; tensors belong into raw_input_contents, or into "
                    "contents as packed numbers"
                )
            try:
                tag, position = _varint(view, position, end)
                wire_type = tag & 7
                if wire_type == _VARINT:
                    _, position = _varint(view, position, end)
                elif wire_type == _LENGTH:
                    length, position = _varint(view, position, end)
                    field = kind.fields_by_number.get(tag >> 3)
                    if field is not None and field.type == FieldDescriptor.TYPE_MESSAGE:
                        assert field.message_type is not None
                        messages.append((position, min(position + length, end), field.message_type))
                    position += length
                elif wire_type == _FIXED64:
                    position += 8
                elif wire_type == _FIXED32:
                    position += 4
                else:  # the beginning or end of a group; no message here has any
                    continue
            except ValueError:
                return


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """(value, where it ends). Raises ValueError where none is."""
    value = shift = 0
    while position < end and shift < 70:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("not a varint")
