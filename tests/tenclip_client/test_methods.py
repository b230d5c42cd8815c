"""What users see of the methods that both clients share: signatures, docstrings, and kinds of results."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from tenclip_client import AsyncClient, Client, _methods

METHODS = sorted(name for name, value in vars(_methods.ClientMethods).items() if not name.startswith("_"))


def test_the_methods() -> None:
    assert METHODS == [
        "extract_features", "get_model", "list_indexes", "list_models", "live", "load_model", "predict",
        "predict_stream", "reload_models", "set_default_version", "similar", "unload_model",
    ]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_the_same_signature_and_docstring(name: str) -> None:
    blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)
    signature = inspect.signature(blocking)
    assert signature.parameters == inspect.signature(awaited).parameters
    assert "timeout" in signature.parameters
    assert blocking.__doc__ == awaited.__doc__
    assert len(blocking.__doc__.splitlines()[0]) > 40
    assert blocking.__qualname__ == f"ClientMethods.{name}"


@pytest.mark.parametrize("name", [m for m in METHODS if m not in ("live", "predict_stream")])
def test_one_answer_is_returned_or_awaited(name: str) -> None:
    assert inspect.isfunction(getattr(Client, name))
    assert not inspect.iscoroutinefunction(getattr(Client, name))
    assert inspect.iscoroutinefunction(getattr(AsyncClient, name))
    hint = inspect.signature(getattr(Client, name)).return_annotation
    assert hint == inspect.signature(getattr(AsyncClient, name)).return_annotation
    assert "Call" not in hint


def test_signatures_say_what_is_returned() -> None:
    assert inspect.signature(Client.predict).return_annotation == "Prediction"
    assert inspect.signature(Client.set_default_version).return_annotation == "None"
    assert inspect.signature(Client.predict_stream).return_annotation == "Iterator[ClipUpdate | Prediction]"
    assert inspect.signature(Client.live).return_annotation == "Iterator[LiveUpdate]"
    stream = inspect.signature(AsyncClient.predict_stream).return_annotation
    assert stream == "AsyncGenerator[ClipUpdate | Prediction, None]"


def test_clients_can_be_mocked_and_subclassed() -> None:
    mocked = create_autospec(Client, instance=True)
    mocked.predict("a.mp4", top_k=3)
    with pytest.raises(TypeError, match="topk"):
        mocked.predict("a.mp4", topk=3)
    assert inspect.iscoroutinefunction(create_autospec(AsyncClient, instance=True).predict)

    class Quiet(Client):
        def list_models(self, **arguments: object) -> object:  # type: ignore[override]
            return "none"

    with Quiet() as client:
        assert client.list_models() == "none"
        assert client.get_model.__func__ is Client.get_model  # type: ignore[attr-defined]


TYPED = """
from tenclip_client import AsyncClient, Client

def blocking(client: Client) -> None:
    reveal_type(client.predict("a.mp4", top_k=3))
    reveal_type(client.predict_stream("a.mp4"))
    reveal_type(client.list_models())
    client.predict("a.mp4", topk=3)
    client.predict("a.mp4", clips="random")
    client.predict()

async def awaited(client: AsyncClient) -> None:
    reveal_type(await client.predict("a.mp4"))
    async for update in client.predict_stream("a.mp4"):
        reveal_type(update)
    await client.get_model(3)
"""


def test_type_checkers_see_every_method(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(TYPED)
    checker = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={tmp_path}", str(path)]
    done = subprocess.run(checker, capture_output=True, text=True)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    expected = [
        ('note: Revealed type is "tenclip_client._types.Prediction"', ""),
        ("note: Revealed type is ", "Iterator[tenclip_client._types.ClipUpdate | tenclip_client._types.Prediction]"),
        ('note: Revealed type is "tenclip_client._types.ModelList"', ""),
        ('error: Unexpected keyword argument "topk"', ""),
        ('error: Argument "clips" has incompatible type', ""),
        ("error: Too few arguments", ""),
        ('note: Revealed type is "tenclip_client._types.Prediction"', ""),
        ("note: Revealed type is ", "tenclip_client._types.ClipUpdate | tenclip_client._types.Prediction"),
        ("error: Argument 1 has incompatible type", ""),
    ]
    for (start, middle), line in zip(expected, [x for x in lines if not x.startswith("note: def")], strict=True):
        assert line.startswith(start), lines
        assert middle in line.replace("typing.", "").replace("collections.abc.", ""), lines
