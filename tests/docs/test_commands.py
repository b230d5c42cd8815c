"""Every command and option that a page shows exists, and so does everything else that it names."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from secrets import token_bytes
from typing import Any

import pytest
from typer.exceptions import TyperException

from tenclip_api.errors import InvalidRequest
from tenclip_client.cli.main import GROUP, build_command
from tenclip_serving.config import ServerConfig
from tenclip_serving.security.auth import read_tokens
from tenclip_settings.loading import load_settings
from tests.conftest import PROJECT

from .pages import PAGES, Command, blocks, commands, options

# Options of other programs that pages name by themselves.
FOREIGN = {"--logdir", "--max-restarts", "--no-python", "--nproc-per-node"}


@cache
def command(name: str) -> Any:
    registered = {e.name: e for e in entry_points(group=GROUP)}
    return build_command(registered, name).commands[name]


@cache
def names() -> tuple[str, ...]:
    return tuple(e.name for e in entry_points(group=GROUP))


def with_sub_commands(found: Any) -> Iterator[Any]:
    yield found
    for sub_command in getattr(found, "commands", {}).values():
        yield from with_sub_commands(sub_command)


@cache
def every_option() -> frozenset[str]:
    parameters = [p for name in names() for c in with_sub_commands(command(name)) for p in c.params]
    return frozenset(o for p in parameters for o in (*p.opts, *p.secondary_opts) if o.startswith("-"))


def problem(shown: Command) -> str | None:
    """What is wrong with a command that a page shows; None where it parses."""
    name, *arguments = shown.words
    if name.startswith("-"):
        return None if name in ("--help", "--version", "--traceback") else f"no option {name}"
    if name not in names():
        return f"no command {name}"
    if "--help" in arguments:
        return None
    found = command(name)
    while sub_commands := getattr(found, "commands", {}):
        if not arguments:
            return f"{name} needs a sub-command" if shown.whole else None
        name, *arguments = arguments
        if name not in sub_commands:
            return f"no sub-command {name}"
        found = sub_commands[name]
    try:
        found.make_context(name, list(arguments))
    except TyperException as err:
        # In prose a command may be named without its arguments, and its last option without a value.
        unfinished = type(err).__name__ == "MissingParameter" or "requires an argument" in str(err)
        return None if unfinished and not shown.whole else str(err)
    return None


SHOWN = [shown for page in PAGES for shown in commands(page)]


def test_pages_show_commands() -> None:
    assert len([shown for shown in SHOWN if shown.whole]) > 40
    assert {shown.words[0] for shown in SHOWN} >= {"export", "serve", "predict", "features", "probe", "train"}


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_a_command_that_is_shown_exists(shown: Command) -> None:
    assert problem(shown) is None, f"{shown}: {problem(shown)}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("serv", "models"), "no command serv"),
        (("serve", "models", "--max-clip", "3"), "--max-clip"),
        (("export", "--name", "x"), "Missing parameter: checkpoint"),
        (("predict", "a.mp4", "--top-k", "many"), "valid integer"),
        (("--verbose",), "no option --verbose"),
        (("labels",), "labels needs a sub-command"),
        (("labels", "mtach", "a", "b"), "no sub-command mtach"),
        (("labels", "match", "a", "b", "--tag", "c", "--out", "d"), "--tag"),
    ],
)
def test_what_would_be_found(words: tuple[str, ...], says: str) -> None:
    found = problem(Command(page=PAGES[0], line=1, words=words, whole=True))
    assert found is not None
    assert says in found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_options_in_prose_exist(page: Path) -> None:
    unknown = [f"line {line}: {o}" for line, o in options(page) if o not in every_option() | FOREIGN]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_extras_exist(page: Path) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = page.read_text(encoding="utf-8")
    shown = {extra for group in re.findall(r"tenclip\[([a-z,]+)\]", text) for extra in group.split(",")}
    assert shown <= set(project["optional-dependencies"])


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_every_extra_is_listed(page: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (PROJECT / page).read_text(encoding="utf-8")
    # Parts of others, and what developers need.
    extras = set(project["optional-dependencies"]) - {"video", "onnxruntime", "dev"}
    assert [extra for extra in sorted(extras) if f"`{extra}`" not in text and f"tenclip[{extra}]" not in text] == []


def test_the_first_page_leads_to_every_guide() -> None:
    text = (PROJECT / "docs" / "index.md").read_text(encoding="utf-8")
    guides = {path.name for path in (PROJECT / "docs").glob("*.md")} - {"index.md"}
    assert [guide for guide in sorted(guides) if f"]({guide})" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_python_names_what_exists(page: Path) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"line {block.line}: {node.module} has no {alias.name}"


def test_settings_and_tokens_are_read(tmp_path: Path) -> None:
    """The TOML of the operators' page: the server's settings, and a file of tokens."""
    found = [b for b in blocks(PROJECT / "docs" / "operate.md") if b.language == "toml"]
    assert len(found) == 2
    for block in found:
        path = tmp_path / "file.toml"
        path.write_text(block.text)
        if "permissions" in block.text:
            # As it stands it opens nothing: whoever copies it has to put hashes of their own in.
            with pytest.raises(InvalidRequest, match="sha256"):
                read_tokens(path)
            path.write_text(re.sub(r"<output of: .*>", lambda _: token_bytes(32).hex(), block.text))
            assert {caller.name for caller in read_tokens(path)} == {"search", "deploy"}
        else:
            path.write_text(block.text.replace('"/', f'"{tmp_path}/'))
            for name in ("models", "data/videos", "tls", "tokens"):
                (tmp_path / name).mkdir(parents=True)
            loaded = load_settings(ServerConfig, file=path, environment={}, flags={})
            assert loaded.settings.host == "0.0.0.0"


def test_links_of_the_readme_lead_somewhere() -> None:
    """mkdocs checks those of the pages."""
    for readme in PAGES[:2]:
        for target in re.findall(r"\]\(([^)#]+)\)", readme.read_text(encoding="utf-8")):
            assert target.startswith("http") or (readme.parent / target).exists(), f"{readme}: {target}"
