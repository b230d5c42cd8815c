from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest
import typer
from rich.console import Console

from tenclip_api.errors import MissingDependency
from tenclip_client import commands
from tenclip_client.cli.catalog import GROUP, load_catalog, print_catalog

ROWS: list[dict[str, Any]] = [
    {
        "architecture": "r3d_18", "preset": "authors-8f", "family": "authors", "parameters": 33_371_472, "gmacs": 40.5,
        "clip": "8x112x112", "protocol": "ten-clip", "published": "top-1 [videos] 63.2", "source": "example.org/r3d",
    },
    {
        "architecture": "tiny", "preset": None, "family": "ours", "parameters": 12, "gmacs": 0.1, "clip": "2x4x4",
        "protocol": None, "published": None, "source": None,
    },
]  # fmt: skip


def entry(monkeypatch: pytest.MonkeyPatch, function: Any, extras: str = "[train]") -> EntryPoint:
    module = types.ModuleType("some_package")
    module.rows = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_package", module)
    return EntryPoint("zoo", f"some_package:rows {extras}", GROUP)


def test_rows_of_every_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_catalog([entry(monkeypatch, lambda: ROWS)] * 2) == [*ROWS, *ROWS]
    assert load_catalog([]) == []


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> list[dict[str, Any]]:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(MissingDependency, match=r"the catalog needs torch, .*: pip install 'tenclip\[train\]'"):
        load_catalog([entry(monkeypatch, rows)])

    def broken() -> list[dict[str, Any]]:
        raise ModuleNotFoundError("No module named 'tenclip_training.gone'", name="tenclip_training.gone")

    with pytest.raises(ModuleNotFoundError, match="gone"):
        load_catalog([entry(monkeypatch, broken)])


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_catalog(Console(width=120), ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["r3d_18", "authors-8f", "33,371,472", "40.5", "8x112x112", "ten-clip"]
    assert lines[2].split() == ["tiny", "12", "0.1", "2x4x4"]
    assert lines[-1].strip() == "authors-8f, ten-clip: top-1 [videos] 63.2  (example.org/r3d)"


def test_table_of_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_catalog(Console(width=80), ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["r3d_18", "authors-8f", "33.4M", "40.5", "8x112x112"]


def test_the_zoo_is_registered() -> None:
    (zoo,) = entry_points(group=GROUP, name="zoo")
    assert zoo.extras == ["train"]
    assert zoo.value.startswith("tenclip_training.loaders.catalog:catalog_rows")


def test_no_name_beside_it() -> None:
    with pytest.raises(typer.BadParameter, match="leave the name out"):
        commands.models(name="actions", catalog=True)
