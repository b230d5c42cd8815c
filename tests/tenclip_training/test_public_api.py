from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import tenclip_training


@pytest.mark.parametrize("name", tenclip_training.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    value = getattr(tenclip_training, name)
    assert name in dir(tenclip_training)
    if inspect.isfunction(value) or inspect.isclass(value):
        assert inspect.getdoc(value), f"{name} has no docstring"


@pytest.mark.parametrize("name", ["load_checkpoint", "create_model", "normalise", "train", "evaluate", "TrainConfig"])
def test_what_users_call_shows_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(tenclip_training, name)) or ""
    assert ">>>" in text or "::" in text


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, tenclip_training; assert not {'torch', 'numpy', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_such_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fly'"):
        tenclip_training.fly  # noqa: B018
