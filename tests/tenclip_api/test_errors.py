"""The error tree: its drawing, its names on the wire, its way across processes."""

from __future__ import annotations

import pickle
import re

import grpc
import pytest

from tenclip_api import errors
from tenclip_api.errors import TenclipError, VideoError, error_classes


def drawn() -> dict[str, tuple[str, int]]:
    """{class name: (status, depth)} as the module's docstring draws them."""
    assert errors.__doc__ is not None
    lines = re.findall(r"^    ([ |`-]*)(\w+)\s{2,}([A-Z_]{2,})(?:\s|$)", errors.__doc__, re.MULTILINE)
    return {name: (status, len(indent) // 4) for indent, name, status in lines}


def test_the_drawing_is_the_tree() -> None:
    found = {cls.__name__: (cls.grpc_status, len(cls.__mro__)) for cls in error_classes().values()}
    assert set(drawn()) == set(found)
    for name, (status, depth) in drawn().items():
        assert found[name][0] == status, name
        bases = [c for c in getattr(errors, name).__mro__ if issubclass(c, TenclipError)]
        assert len(bases) - 1 == depth, f"{name} is drawn at depth {depth}"


@pytest.mark.parametrize("cls", error_classes().values(), ids=lambda cls: cls.__name__)
def test_every_status_is_one_of_grpc(cls: type[TenclipError]) -> None:
    assert isinstance(grpc.StatusCode[cls.grpc_status], grpc.StatusCode)


def test_reasons_are_unique_and_readable() -> None:
    classes = error_classes()
    assert classes["EMPTY_VIDEO"] is errors.EmptyVideo
    assert classes["NOT_A_VIDEO"] is errors.NotAVideo
    assert classes["TENCLIP_ERROR"] is TenclipError
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", reason) for reason in classes)


@pytest.mark.parametrize("cls", error_classes().values(), ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling(cls: type[TenclipError]) -> None:
    error = cls("what went wrong", source="a.mp4") if issubclass(cls, VideoError) else cls("what went wrong")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.message == str(again) == "what went wrong"
    assert getattr(again, "source", None) == getattr(error, "source", None)


@pytest.mark.parametrize("cls", error_classes().values(), ids=lambda cls: cls.__name__)
def test_the_text_may_be_given_as_the_message(cls: type[TenclipError]) -> None:
    error = cls(message="what went wrong")
    assert error.args == ("what went wrong",)
    again = pickle.loads(pickle.dumps(error))
    assert error.message == again.message == str(again) == "what went wrong"


def test_callers_can_catch_bad_input_as_a_value_error() -> None:
    assert issubclass(errors.EmptyVideo, ValueError)
    assert issubclass(errors.InvalidRequest, ValueError)
    assert not issubclass(errors.ServerUnavailable, ValueError)
