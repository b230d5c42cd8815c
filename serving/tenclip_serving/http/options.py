"""What a caller asks for, by flat names: options of the query, fields of a form, members of a JSON object.

Their names and types are those of the messages of tenclip.v1, a level deep: `PredictRequest.clips.num_clips` is
`num_clips`, the model is `model` and `version`, and a video that does not come with the request is `path` or `uri`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from tenclip_api.errors import InvalidRequest
from tenclip_api.v1 import tenclip_pb2 as pb

AnyRequest: TypeAlias = pb.PredictRequest | pb.ExtractFeaturesRequest
R = TypeVar("R", pb.PredictRequest, pb.ExtractFeaturesRequest)

# The file itself: a part of a form, or the body. In JSON it has no place.
VIDEO = "video"
_RENAMED: Mapping[tuple[str, ...], str] = {("model", "name"): "model", ("model", "version"): "version"}
_LEFT_OUT = {("video", "data")}
_WHOLE = {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_INT32}
_NUMBERS = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option. place: fields of the request that lead to it."""

    name: str
    place: tuple[str, ...]
    field: FieldDescriptor

    @property
    def kind(self) -> str:
        """A type of JSON Schema: boolean, integer, number or string."""
        if self.field.type == FieldDescriptor.TYPE_BOOL:
            return "boolean"
        if self.field.type in _WHOLE:
            return "integer"
        return "number" if self.field.type in _NUMBERS else "string"

    @property
    def choices(self) -> tuple[str, ...]:
        """Of an enum, in small letters; empty where it is none."""
        kind = self.field.enum_type
        return () if kind is None else tuple(_choices(kind))


def options_of(kind: type[AnyRequest]) -> Mapping[str, Option]:
    """By name, in the order of the messages."""
    return _options_of(kind.DESCRIPTOR.name)


@cache
def _options_of(message: str) -> Mapping[str, Option]:
    found: dict[str, Option] = {}
    for field in pb.DESCRIPTOR.message_types_by_name[message].fields:
        inner = field.message_type
        fields = [(field,)] if inner is None else [(field, below) for below in inner.fields]
        for path in fields:
            place = tuple(f.name for f in path)
            if place not in _LEFT_OUT:
                name = _RENAMED.get(place, place[-1])
                found[name] = Option(name=name, place=place, field=path[-1])
    return found


class Options:
    """Collects the options of one request and makes its message."""

    def __init__(self, kind: type[AnyRequest]) -> None:
        self._known = options_of(kind)
        self._request: AnyRequest = kind()
        self._given: set[str] = set()

    def add_texts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Of a query or a form. Raises InvalidRequest for what is unknown, there twice, or no such value."""
        for name, text in pairs:
            option = self._take(name)
            self._set(option, _from_text(option, text))

    def add_json(self, body: bytes) -> None:
        """A JSON object. Raises InvalidRequest."""
        try:
            members = json.loads(body, object_pairs_hook=_Members, parse_constant=_no_constant)
        except (ValueError, RecursionError) as err:
            raise InvalidRequest(f"the body is not valid JSON: {_reason(err)}") from err
        if not isinstance(members, _Members):
            raise InvalidRequest('the body must be a JSON object, as {"uri": "https://...", "top_k": 3}')
        for name, value in members:
            option = self._take(name)
            self._set(option, _from_json(option, value))

    def request(self) -> AnyRequest:
        """The message. Raises InvalidRequest for a path and a URI."""
        if {"path", "uri"} <= self._given:
            raise InvalidRequest("path and uri are both set; a request is of one video")
        return self._request

    def _take(self, name: str) -> Option:
        option = self._known.get(name)
        if option is None:
            known = ", ".join(self._known)
            raise InvalidRequest(f"unknown option {_shown(name)}; there are {known}, and the file itself as {VIDEO}")
        if name in self._given:
            raise InvalidRequest(f"the option {name} is there twice")
        self._given.add(name)
        return option

    def _set(self, option: Option, value: Any) -> None:
        message: Any = self._request
        for name in option.place[:-1]:
            message = getattr(message, name)
        try:
            setattr(message, option.place[-1], value)
        except (ValueError, TypeError) as err:  # out of its range, or text that is no UTF-8
            raise _unfit(option, value) from err


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object, those with equal names included."""


def _choices(kind: EnumDescriptor) -> dict[str, int]:
    return {value.name.lower(): value.number for value in kind.values if value.number}


def _from_text(option: Option, text: str) -> Any:
    text = text if option.kind == "string" else text.strip().lower()
    if option.kind == "boolean" and text in (*_TRUE, *_FALSE):
        return text in _TRUE
    if option.kind == "integer" and text.isascii() and text.isdecimal() and len(text) <= 20:
        return int(text)
    if option.kind == "number":
        try:
            return float(text)
        except ValueError:
            raise _unfit(option, text) from None
    return _named(option, text)


def _from_json(option: Option, value: Any) -> Any:
    if option.kind == "boolean" and isinstance(value, bool):
        return value
    if option.kind == "integer" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if option.kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < 2.0**1023 else math.inf
    return _named(option, value)


def _named(option: Option, value: Any) -> Any:
    """Text, or the number of an enum's value."""
    if option.kind != "string" or not isinstance(value, str):
        raise _unfit(option, value)
    if option.field.enum_type is None:
        return value
    number = _choices(option.field.enum_type).get(value.lower())
    if number is None:
        raise _unfit(option, value)
    return number


def _unfit(option: Option, value: Any) -> InvalidRequest:
    nouns = {"boolean": "true or false", "integer": "a whole number from 0 on", "number": "a number", "string": "text"}
    must = f"one of {', '.join(option.choices)}" if option.choices else nouns[option.kind]
    return InvalidRequest(f"the option {option.name} must be {must}; got {_shown(value)}")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else "an object" if isinstance(value, _Members) else json.dumps(value)
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _reason(err: Exception) -> str:
    return str(err) if isinstance(err, json.JSONDecodeError) else "nested too deeply, or no number of JSON"
