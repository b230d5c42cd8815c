"""The extension that makes Markdown of our docstrings."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    pytest.importorskip("griffe", reason="pip install 'tenclip[docs]'")
    path: Path = PROJECT / "docs" / "hooks" / "docstrings.py"
    spec = importlib.util.spec_from_file_location("docstrings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("One line.", "One line."),
        ("Doubles.\n\n>>> double(2)\n4\n\nThe rest.", "Doubles.\n\n```pycon\n>>> double(2)\n4\n```\n\nThe rest."),
        (
            "Use it::\n\n    from a import b\n    b()\n\nThe rest.",
            "Use it:\n\n```python\nfrom a import b\nb()\n```\n\nThe rest.",
        ),
        ("::\n\n    Base\n    `-- Derived", "\n\n```text\nBase\n`-- Derived\n```\n"),
        ("float32 [B,K] and [K][K]; `x[0]`", r"float32 \[B,K\] and \[K\]\[K\]; `x[0]`"),
        ("`<bytes>`, <bytes>, N*V", r"`<bytes>`, \<bytes>, N\*V"),
    ],
)
def test_markdown_of_docstrings(docstrings: ModuleType, docstring: str, markdown: str) -> None:
    assert docstrings.as_markdown(docstring) == markdown


def test_parameters_become_a_list(docstrings: ModuleType) -> None:
    docstring = "Reads.\n\nstart, end: seconds [0, 1)\n    of the video.\nname: a file's. Raises: none\n\nother: prose"
    assert docstrings.as_markdown(docstring, names=["start", "end", "name"]) == (
        "Reads.\n\n\n- `start`, `end`: seconds \\[0, 1)\n    of the video.\n- `name`: a file's. Raises: none\n\n"
        "other: prose"
    )
