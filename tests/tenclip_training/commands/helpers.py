"""Running the commands of training in this process."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner, Result

SMALL = ["-a", "r2plus1d_10", "--width", "4", "--frames", "4", "--crop", "16", "--resize", "24x32"]
QUICK = [*SMALL, "--batch-size", "6", "--precision", "fp32", "--val-protocol", "center-clip", "--device", "cpu"]


def run(name: str, *arguments: str | Path) -> Result:
    """`tenclip NAME ARGUMENTS`."""
    app = typer.Typer()
    module = name.replace("-", "_")
    app.command()(getattr(importlib.import_module(f"tenclip_training.commands.{module}"), module))
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


def error_of(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


def output_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.exception
    values: dict[str, Any] = json.loads(result.stdout)
    return values
