"""What a confined process can no longer do: each in a process of its own, for nothing of it can be undone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tenclip_serving.decoding.sandbox import SandboxLimits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits differ between systems")


def confined(code: str, **changes: int) -> str:
    """What `code` prints in a sandbox."""
    enter = f"from tenclip_serving.decoding.sandbox import *\nenter_sandbox(SandboxLimits(**{changes!r}))"
    program = f"import os\n{enter}\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def attempt(code: str) -> str:
    return f"try:\n  {code}\n  print('done')\nexcept (OSError, MemoryError) as err:\n  print(type(err).__name__, err)"


def test_no_byte_reaches_a_file(tmp_path: object) -> None:
    path = f"{tmp_path}/file"
    assert "File too large" in confined(attempt(f"open({path!r}, 'wb', buffering=0).write(b'x')"))
    assert confined("print('pipes still work')") == "pipes still work"


def test_memory_ends_at_the_limit() -> None:
    assert confined(attempt("bytes(500 << 20)"), memory_bytes=400 << 20).startswith("MemoryError")
    assert confined(attempt("bytes(50 << 20)"), memory_bytes=400 << 20) == "done"
    assert confined(attempt("bytes(500 << 20)"), memory_bytes=0) == "done"


def test_few_files_are_open_at_once() -> None:
    assert "Too many open files" in confined(attempt("files = [open('/dev/null') for _ in range(70)]"))
    assert confined(attempt("files = [open('/dev/null') for _ in range(40)]")) == "done"


def test_no_core_no_new_rights_no_tracing_and_nice() -> None:
    code = (
        "import resource, ctypes\n"
        "status = open('/proc/self/status').read()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), 'NoNewPrivs:\\t1' in status)\n"
        "print('dumpable', ctypes.CDLL(None).prctl(3), 'nice', os.nice(0))"
    )
    niceness = min(19, os.nice(0) + 3)
    assert confined(code, nice=3) == f"(0, 0) True\ndumpable 0 nice {niceness}"


def test_the_kernel_takes_it_first_when_memory_runs_out() -> None:
    assert confined("print(open('/proc/self/oom_score_adj').read())") == "800"


def test_a_lower_limit_that_is_there_stays() -> None:
    again = "enter_sandbox(SandboxLimits(memory_bytes=3 << 40))"
    code = f"import resource\n{again}\nprint(resource.getrlimit(resource.RLIMIT_AS))"
    assert confined(code, memory_bytes=400 << 20) == f"({400 << 20}, {400 << 20})"


def test_arguments_go_there_and_back() -> None:
    wanted = SandboxLimits(memory_bytes=123, nice=4)
    assert SandboxLimits.from_arguments(wanted.to_arguments()) == wanted
