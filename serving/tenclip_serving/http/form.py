"""A multipart form with one file, parsed as it comes: fields are kept, the file is handed on piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import PurePosixPath, PureWindowsPath

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tenclip_api.errors import InvalidRequest
from tenclip_serving.http.body import Body
from tenclip_serving.http.options import VIDEO, Options

MAX_PARTS = 64
# Of all fields together, file apart; and of the headers and boundaries around them.
MAX_FIELD_BYTES = 64 << 10
_MAX_HEADERS, _MAX_HEADER_BYTES = 8, 4 << 10
_MAX_NAME_CHARACTERS = 255
# What a form may add to its file, for a look at Content-Length.
MAX_OVERHEAD_BYTES = MAX_FIELD_BYTES + MAX_PARTS * (_MAX_HEADERS * _MAX_HEADER_BYTES)


@dataclass
class _Part:
    """A part of the form, so far. name, file_name: None where its headers have none."""

    headers: dict[str, bytes] = field(default_factory=dict)
    name: str | None = None
    file_name: str | None = None
    value: bytearray = field(default_factory=bytearray)

    @property
    def is_file(self) -> bool:
        return self.name == VIDEO


class Form:
    """The form in a body. Fields go into `options` as soon as they are there.

        if await form.find_file():          # fields before the file are there
            async for piece in form.file():
                ...
        # all fields are there

    file_name: of the file, without folders, or "". Raises InvalidRequest for what is no such form.
    """

    def __init__(self, body: Body, content_type: str, options: Options) -> None:
        self._options = options
        self._pieces = body.chunks()
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_are_here,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        self._part = _Part()
        self._field, self._value = bytearray(), bytearray()
        self._num_parts = self._num_field_bytes = 0
        self._has_file = self._finished = False
        self._ready: list[bytes] = []  # pieces of the file that are parsed and not handed on
        self.file_name = ""

    async def find_file(self) -> bool:
        """Reads till the file begins. False where the form ends without one."""
        async for piece in self._pieces:
            self._parse(piece)
            if self._has_file:
                return True
        self._check_end()
        return False

    async def file(self) -> AsyncIterator[bytes]:
        """The pieces of the file, and then, without any more, what follows it in the form."""
        while True:
            ready, self._ready = self._ready, []
            for piece in ready:
                yield piece
            piece_of_form = await anext(self._pieces, None)
            if piece_of_form is None:
                break
            self._parse(piece_of_form)
        self._check_end()

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as err:
            raise InvalidRequest(f"the body is no multipart form: {err}") from err

    def _check_end(self) -> None:
        if not self._finished:
            raise InvalidRequest("the form ends before its last boundary")

    # -- called by the parser -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._part.headers[self._field.decode("latin-1").lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _headers_are_here(self) -> None:
        part = self._part
        _, parameters = parse_options_header(part.headers.get("content-disposition"))
        part.name = _text(parameters.get(b"name"), "the name of a part")
        part.file_name = _text(parameters.get(b"filename"), "the name of a file")
        if part.name is None:
            raise InvalidRequest("a part of the form has no name")
        if part.is_file:
            if self._has_file:
                raise InvalidRequest(f"the form has two files {VIDEO}; a request is of one video")
            self._has_file, self.file_name = True, base_name(part.file_name or "")
        elif part.file_name is not None:
            raise InvalidRequest(
                f"the form has a file {part.name[:80]!r}; the file of the video must be called {VIDEO}: "
                f"curl -F {VIDEO}=@run.mp4"
            )

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._ready.append(data[start:end])
            return
        self._num_field_bytes += end - start
        if self._num_field_bytes > MAX_FIELD_BYTES:
            raise InvalidRequest(f"the fields of the form have more than {MAX_FIELD_BYTES} bytes")
        self._part.value += data[start:end]

    def _end(self) -> None:
        part = self._part
        if not part.is_file:
            assert part.name is not None
            self._options.add_texts([(part.name, _text(bytes(part.value), f"the field {part.name[:80]!r}") or "")])

    def _finish(self) -> None:
        self._finished = True


def base_name(name: str) -> str:
    """The name of a file without its folders, which are nobody's business.

    >>> base_name("C:\\\\clips\\\\run.mp4"), base_name("../run.mp4")
    ('run.mp4', 'run.mp4')
    """
    return PureWindowsPath(PurePosixPath(name).name).name[-_MAX_NAME_CHARACTERS:]


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not boundary or len(boundary) > 70 or not boundary.isascii():
        raise InvalidRequest("the Content-Type multipart/form-data names no boundary of 1 to 70 characters")
    return boundary.encode("ascii")


def _text(value: bytes | None, what: str) -> str | None:
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{what} is not UTF-8") from None
