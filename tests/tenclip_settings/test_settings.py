"""Settings of made-up dataclasses from a file, the environment and flags."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tenclip_settings import (
    Loaded,
    Setting,
    check_all,
    describe,
    fields_of,
    flag_values,
    load_settings,
    numbers,
    to_toml,
    with_options_of,
)


@dataclass(frozen=True, kw_only=True)
class Made:
    place: Annotated[Path, Setting("Where.", option="PLACE")]
    count: Annotated[int, Setting("How many.", lowest=0, highest=9)] = 1
    share: Annotated[float, Setting("Part.", above=0)] = 0.5
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    name: str | None = None
    hosts: tuple[str, ...] = ()
    roots: Annotated[tuple[Path, ...], Setting("Roots.", option="--root")] = ()
    password: Annotated[str, Setting("Hush.", secret=True)] = ""


@dataclass(frozen=True, kw_only=True)
class Inner:
    span: Annotated[tuple[float, float] | None, Setting("Span.", form=numbers("-", 2, "0.6-1"))] = None
    low: Annotated[float, Setting("Low.", lowest=0, below=1)] = 0.25

    def __post_init__(self) -> None:
        check_all(self)


@dataclass(frozen=True, kw_only=True)
class Outer:
    """With what `Made` lacks: an inner dataclass, a table, a type of its own, a path as text, a hidden field."""

    source: Annotated[str, Setting("Where from.", option="--from", aliases=("-f",), is_path=True)]
    inner: Inner = field(default_factory=lambda: Inner(low=0.5))
    values: Annotated[dict[str, Any], Setting("Values.", option="--value")] = field(default_factory=dict)
    hidden: Annotated[object, Setting("Nobody's.", exposed=False)] = None

    def __post_init__(self) -> None:
        check_all(self)


@dataclass(frozen=True)
class Odd:
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Twice:
    inner: Inner = field(default_factory=Inner)
    low: int = 0


def load(tmp_path: Path, text: str = "", flags: dict[str, Any] | None = None, **environment: str) -> Loaded[Made]:
    file = tmp_path / "made.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(
        Made, file=file, environment=environment, others=("TENCLIP_OTHER", "TENCLIP_TEST_"), flags=flags or {}
    )


FILE = """
place = "here"
count = 2
share = 1
fast = true
kind = "b"
name = "x"
hosts = ["one", "two"]
roots = ["r", "/s"]
"""


def test_a_file_sets_everything_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    loaded = load(tmp_path, FILE)
    assert loaded.settings == Made(
        place=tmp_path / "here", count=2, share=1.0, fast=True, kind="b", name="x", hosts=("one", "two"),
        roots=(tmp_path / "r", Path("/s")),
    )  # fmt: skip
    assert type(loaded.settings.share) is float
    assert set(loaded.origins.values()) == {str(tmp_path / "made.toml")}


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        FILE,
        {"count": 4, "fast": None, "roots": []},
        TENCLIP_COUNT="3",
        TENCLIP_SHARE="0.25",
        TENCLIP_ROOTS=os.pathsep.join(["/x", "/y"]),
        TENCLIP_HOSTS="three, four",
        TENCLIP_FAST="no",
        TENCLIP_KIND="",
        TENCLIP_OTHER="not ours",
        TENCLIP_TEST_DATA="not ours either",
    )
    made = loaded.settings
    assert (made.count, made.share, made.fast, made.kind, made.name) == (4, 0.25, False, "b", "x")
    assert made.roots == (Path("/x"), Path("/y"))
    assert made.hosts == ("three", "four")
    assert loaded.origins["count"] == "--count"
    assert loaded.origins["roots"] == "TENCLIP_ROOTS"
    assert loaded.origins["kind"] == str(tmp_path / "made.toml")
    assert "fast" not in loaded.origins  # the default again


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("counts = 2", "no setting is called counts; did you mean count?"),
        ("count = true", "count must be a whole number, got True"),
        ("count = 2.0", "count must be a whole number, got 2.0"),
        ('count = "2"', "count must be a whole number, got '2'"),
        ("share = true", "share must be a number, got True"),
        ("fast = 1", "fast must be true or false, got 1"),
        ("place = 3", "place must be a path, got 3"),
        ('hosts = "one"', "hosts must be a list, each a string, got 'one'"),
        ("hosts = [1]", r"hosts must be a list, each a string, got \[1\]"),
        ('kind = "c"', "kind 'c' is not one of a, b"),
        ("kind = 1", "kind must be one of a, b, got 1"),
        ("count = 10", "count must be from 0 to 9, got 10"),
        ("share = 0", "share must be above 0, got 0.0"),
        ("share = nan", "share must be above 0, got nan"),
        ("[count]\nx = 1", "count must be a whole number, got"),
        ("count = ", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "made.toml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("TENCLIP_CUONT", "2", "no setting is called so; did you mean TENCLIP_COUNT?"),
        ("TENCLIP_COUNT", "2.0", "TENCLIP_COUNT must be a whole number, got '2.0'"),
        ("TENCLIP_COUNT", "tcp://10.0.0.1:7411", "TENCLIP_COUNT must be a whole number"),
        ("TENCLIP_COUNT", "12", "TENCLIP_COUNT: count must be from 0 to 9, got 12"),
        ("TENCLIP_FAST", "maybe", "TENCLIP_FAST must be true or false, got 'maybe'"),
        ("TENCLIP_SHARE", "much", "TENCLIP_SHARE must be a number"),
        ("TENCLIP_SHARE", "nan", "TENCLIP_SHARE: share must be above 0"),
        ("TENCLIP_KIND", "c", "TENCLIP_KIND: kind 'c' is not one of a, b"),
    ],
)
def test_what_is_wrong_in_the_environment_names_the_variable(
    tmp_path: Path, variable: str, text: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        load(tmp_path, 'place = "x"', {}, **{variable: text})


def test_a_file_that_is_not_there_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.toml: No such file"):
        load_settings(Made, file=tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"binary\.toml is not TOML"):
        load_settings(Made, file=tmp_path / "binary.toml")


def test_what_has_no_default_must_be_set() -> None:
    with pytest.raises(ValueError, match="place is not set: use PLACE, TENCLIP_PLACE or a file"):
        load_settings(Made)


def test_secrets_are_masked_wherever_settings_are_shown(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'place = "x"', TENCLIP_PASSWORD="hunter2-hunter2")
    shown = describe(loaded.settings, loaded.origins) + to_toml(loaded) + describe(loaded.settings)
    assert "hunter2" not in shown
    assert "password=*** [TENCLIP_PASSWORD]" in shown
    with pytest.raises(ValueError, match=r"password must be a string, got \*\*\*"):
        load(tmp_path, 'password = ["hunter2"]')


def test_a_field_of_another_type_is_a_bug_of_ours() -> None:
    with pytest.raises(TypeError, match="a setting cannot be of the type of counts"):
        fields_of(Odd)


def test_two_fields_of_one_name_are_a_bug_of_ours() -> None:
    with pytest.raises(TypeError, match="two settings of Twice are called low"):
        fields_of(Twice)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@hypothesis_settings(deadline=None)
@given(
    count=st.integers(0, 9),
    share=st.floats(min_value=1e-300, max_value=1e300),
    fast=st.booleans(),
    name=st.none() | TEXT,
    hosts=st.lists(TEXT, max_size=3).map(tuple),
)
def test_what_is_printed_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, count: int, share: float, fast: bool, name: str | None, hosts: Any
) -> None:
    made = Made(place=Path("/p"), count=count, share=share, fast=fast, name=name, hosts=hosts)
    file = tmp_path_factory.getbasetemp() / "printed.toml"
    file.write_text(to_toml(Loaded(settings=made, origins={"count": "--count"})), encoding="utf-8")
    assert load_settings(Made, file=file).settings == made


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {}),
        (["here"], {"place": Path("here")}),
        (["--count", "3", "--share", "0.1"], {"count": 3, "share": 0.1}),
        (["--fast", "--kind", "b"], {"fast": True, "kind": "b"}),
        (["--no-fast"], {"fast": False}),
        (["--root", "/a", "--root", "/b", "--hosts", "h"], {"roots": [Path("/a"), Path("/b")], "hosts": ["h"]}),
    ],
)
def test_flags_are_those_of_the_fields(arguments: list[str], given: dict[str, Any]) -> None:
    seen: dict[str, Any] = {}

    @with_options_of(Made)
    def command(own: bool = False, **settings: Any) -> None:
        seen.update(settings)

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert {k: v for k, v in seen.items() if v is not None} == given
    assert set(seen) == set(fields_of(Made))


# -- inner dataclasses, tables and types of their own -----------------------------------------------------------------


def outer(*arguments: str) -> Outer:
    """`Outer` as a command gets it."""
    seen: list[Outer] = []

    @with_options_of(Outer)
    def command(**settings: Any) -> None:
        seen.append(load_settings(Outer, flags=settings).settings)

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    (made,) = seen
    return made


def test_fields_of_an_inner_dataclass_are_options_and_keep_its_defaults() -> None:
    assert outer("-f", "x") == Outer(source="x", inner=Inner(low=0.5))
    assert outer("--from", "x", "--span", "0.5-0.9") == Outer(source="x", inner=Inner(span=(0.5, 0.9), low=0.5))
    assert outer("-f", "x", "--low", "0").inner == Inner(low=0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"source": Path("x")}, "source must be a string, got PosixPath"),
        ({"source": "x", "values": [1]}, r"values must be a table, got \[1\]"),
        ({"source": None}, "source must be a string, got None"),
    ],
)
def test_values_of_another_type_are_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Outer(**values)


@pytest.mark.parametrize("low", ["0.5", True, None])
def test_text_and_truth_are_no_numbers(low: Any) -> None:
    with pytest.raises(ValueError, match=f"low must be a number, got {low!r}"):
        Inner(low=low)


def test_numbers_of_numpy_are_numbers() -> None:
    assert Inner(low=np.float32(0.5)).low == 0.5  # type: ignore[arg-type]


def test_a_table_is_written_a_pair_at_a_time() -> None:
    made = outer("-f", "x", "--value", "eps=1e-5", "--value", "head=global", "--value", "stages=[1, 2]")
    assert made.values == {"eps": 1e-5, "head": "global", "stages": [1, 2]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--span", "wide"], r"--span 'wide': write two numbers, e\.g\. 0\.6-1"),
        (["--span", "1-2-3"], "write two numbers"),
        (["--value", "x"], "--value 'x': write NAME=VALUE"),
        (["--low", "1"], r"--low: low must be at least 0 and below 1, got 1\.0"),
        ([], "source is not set: use --from"),
    ],
)
def test_flags_that_cannot_be_are_named(arguments: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        outer(*arguments, *(["-f", "x"] if arguments else []))


def test_files_hold_them_too(tmp_path: Path) -> None:
    file = tmp_path / "outer.toml"
    file.write_text('source = "x"\nspan = "0.5-1"\nvalues = { eps = 1e-5, stages = [1, 2] }\n')
    loaded = load_settings(Outer, file=file)
    assert loaded.settings == Outer(
        source="x", inner=Inner(span=(0.5, 1.0), low=0.5), values={"eps": 1e-5, "stages": [1, 2]}
    )
    printed = tmp_path / "printed.toml"
    printed.write_text(to_toml(loaded))
    assert load_settings(Outer, file=printed).settings == loaded.settings
    assert "span=0.5-1" in describe(loaded.settings)
    file.write_text('source = "x"\nspan = "big"\n')
    with pytest.raises(ValueError, match=r"outer\.toml: span 'big': write two numbers"):
        load_settings(Outer, file=file)


def test_help_has_headings_defaults_and_further_names() -> None:
    app = typer.Typer()

    @app.command()
    @with_options_of(Outer)
    def command(**settings: Any) -> None:
        pass

    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"})
    assert "--from" in result.output
    assert "-f" in result.output
    assert "Low. Default: 0.5." in result.output
    assert "hidden" not in result.output


@dataclass(frozen=True)
class ManyPaths:
    lists: Annotated[tuple[str, ...], Setting("Files.", option="--list", is_path=True)] = ()


def test_paths_that_may_be_repeated_are_text() -> None:
    assert flag_values(ManyPaths, {"lists": [Path("a.csv"), Path("b.csv")]}) == {"lists": ("a.csv", "b.csv")}
