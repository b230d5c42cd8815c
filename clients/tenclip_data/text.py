"""Text files as people save them: encodings, ends of lines, and the columns of delimited text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from tenclip_api.errors import DatasetError

# Longest first: the UTF-32 mark begins with the UTF-16 one.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_NO_TEXT = "cannot be read as text: it holds zero bytes, so it is another kind of file"


def read_text(path: Path) -> str:
    """Read UTF-8, or UTF-16 and UTF-32 as Windows programs write them; a byte-order mark is no part of the text.

    Raises DatasetError that names the file and the first line that cannot be decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise DatasetError(f"{path}: cannot be read as text: {err.strerror or err}") from err
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as err:
        if b"\0" in data:
            raise DatasetError(f"{path}: {_NO_TEXT}") from err
        line = data.count(b"\n", 0, err.start) + 1
        raise DatasetError(
            f"{path}, line {line}: cannot be read as text in {encoding.upper()} (byte 0x{data[err.start]:02x}); "
            "save the file as UTF-8"
        ) from err
    if "\0" in text:
        raise DatasetError(f"{path}: {_NO_TEXT}")
    return text


def lines_of(text: str) -> list[str]:
    """Split at line feeds, carriage returns and both together, and at nothing else (names may hold odd blanks)."""
    return re.split(r"\r\n|\r|\n", text)


def is_excel_delimiter(line: str) -> bool:
    """True for `sep=;`, which tells Excel the delimiter and is not data."""
    return re.fullmatch(r"\s*\"?sep=.?\"?,?\s*", line, re.IGNORECASE) is not None


def unquoted(text: str) -> str:
    """Without blanks around it, and without the quotes that it stands in.

    >>> unquoted(" 'archery' "), unquoted("archer's")
    ('archery', "archer's")
    """
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _encoding(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    # UTF-16 without a mark: every second byte of Latin text is zero.
    start = data[:512]
    if len(start) >= 4 and start[1::2].count(0) > len(start) // 3 and not start[::2].count(0):
        return "utf-16-le"
    if len(start) >= 4 and start[::2].count(0) > len(start) // 3 and not start[1::2].count(0):
        return "utf-16-be"
    return "utf-8"
