"""The committed locks against constraints.txt, pyproject.toml and what the installed packages say they need."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from tenclip_image import locks
from tenclip_image.locks import ARCHITECTURES, EXTRAS, LOCKS, TOOLS, LockedPackage, best_wheel, read_lock, write_lock
from tests.conftest import PROJECT

NAMES = (*EXTRAS, *TOOLS)
PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
}


@cache
def read(name: str) -> dict[str, LockedPackage]:
    return {canonicalize_name(package.name): package for package in read_lock(LOCKS / f"{name}.lock")}


def marker_environment(machine: str) -> dict[str, str]:
    return {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "os_name": "posix",
        "python_version": locks.PYTHON,
        "python_full_version": f"{locks.PYTHON}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def closure(wanted: list[str], machine: str) -> set[str]:
    """Names of all that requirements bring, by the metadata of what is installed here."""
    found: set[str] = set()
    todo = [(Requirement(text), "") for text in wanted]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({**marker_environment(machine), "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        # The images' one stands in for the other; pip installs one of them here.
        name = canonicalize_name("onnxruntime") if name == "onnxruntime-gpu" else name
        if name != "tenclip":
            found.add(name)
        for inner in ("", *requirement.extras):
            if (name, inner) not in seen:
                seen.add((name, inner))
                todo += [(Requirement(text), inner) for text in needs(name)]
    return found


def needs(name: str) -> list[str]:
    if name == "tenclip":
        extras = PROJECT_TABLE["optional-dependencies"]
        return [*PROJECT_TABLE["dependencies"], *(with_extra(r, extra) for extra in extras for r in extras[extra])]
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return (requires("onnxruntime-gpu") or []) if name == "onnxruntime" else []


def with_extra(requirement: str, extra: str) -> str:
    text, _, marker = requirement.partition(";")
    return f"{text}; extra == '{extra}'" + (f" and ({marker.strip()})" if marker else "")


def test_every_lock_is_there_and_nothing_else() -> None:
    assert {path.name for path in LOCKS.iterdir()} == {f"{name}.lock" for name in NAMES}
    assert set(EXTRAS) <= set(PROJECT_TABLE["optional-dependencies"])


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_of_the_constraints(name: str) -> None:
    assert read(name)
    assert {key: package.version for key, package in read(name).items()} == {
        key: PINS.get(canonicalize_name(key)) for key in read(name)
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_a_lock_has_all_that_its_extra_needs_and_nothing_else(name: str, machine: str) -> None:
    wanted = list(TOOLS.get(name, [f"tenclip[{name}]"]))
    locked = {key for key, package in read(name).items() if machine in package.architectures}
    assert locked == closure(wanted, machine), "make image-locks"


@pytest.mark.parametrize("name", NAMES)
def test_each_architecture_has_one_wheel(name: str) -> None:
    for package in read(name).values():
        for machine in package.architectures:
            fitting = [file for file in package.wheels if fits(file, machine)]
            assert len(fitting) == 1, f"{package.name} on {machine}: {sorted(package.wheels)}"
        assert len(set(package.wheels.values())) == len(package.wheels)
        assert all(parse_wheel_filename(file)[0] == canonicalize_name(package.name) for file in package.wheels)


def fits(file: str, machine: str) -> bool:
    return any(tag.platform == "any" or tag.platform.endswith(machine) for tag in parse_wheel_filename(file)[3])


@pytest.mark.parametrize("name", NAMES)
def test_locks_name_no_index_and_nothing_unwanted(name: str) -> None:
    assert not re.search(
        r"://|--index|--extra-index|--find-links|pypi|\.(org|com|io)\b", (LOCKS / f"{name}.lock").read_text()
    )
    assert not {"torch", "onnxruntime-gpu", "tensorrt"} & set(read(name))


def test_all_that_serve_and_batch_need_has_wheels_for_both_architectures() -> None:
    for name in ("serve", "batch", "jobs"):
        assert all(package.architectures == ARCHITECTURES for package in read(name).values())


def test_the_wheel_that_pip_takes_is_chosen() -> None:
    files = [
        "protobuf-7.0-py3-none-any.whl",
        "protobuf-7.0-cp310-abi3-manylinux2014_x86_64.whl",
        "protobuf-7.0-cp310-abi3-manylinux2014_aarch64.whl",
        "protobuf-7.0-cp311-cp311-manylinux_2_99_x86_64.whl",  # needs a newer glibc
    ]
    assert best_wheel(files, "x86_64") == files[1]
    assert best_wheel(files, "aarch64") == files[2]
    assert best_wheel(files[:1], "aarch64") == files[0]
    two = ["cv-1-cp37-abi3-manylinux_2_17_x86_64.whl", "cv-1-cp37-abi3-manylinux_2_28_x86_64.whl"]
    assert best_wheel(two, "x86_64") == two[1]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    packages = [
        LockedPackage(name="a", version="1", architectures=ARCHITECTURES, wheels={"a-1-py3-none-any.whl": "0" * 64}),
        LockedPackage(name="b-c", version="2.1", architectures=("aarch64",), wheels={"b": "1" * 64, "c": "2" * 64}),
    ]
    write_lock(tmp_path / "x.lock", "x", packages)
    assert read_lock(tmp_path / "x.lock") == packages


@pytest.mark.parametrize("line", ["a==1", "a>=1 --hash=sha256:" + "0" * 64, "a==1 --hash=sha256:12"])
def test_a_line_without_version_or_hash_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.lock"
    path.write_text(f"# head\n\n# a-1-py3-none-any.whl\n{line}\n")
    with pytest.raises(ValueError, match=r"x\.lock: not a package with a hash .*make image-locks"):
        read_lock(path)
