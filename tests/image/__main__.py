"""Builds images and reads their bills of materials: `make image`, `make image-base`, `make sbom`.

    python -m tests.image build --target batch --platform linux/amd64,linux/arm64
    python -m tests.image build --extra serve,http --tag registry.example.com/tenclip:0.1.0-http
    python -m tests.image build -- --volume /etc/ssl/certs:/etc/ssl/certs:ro       # words after -- go to the engine
    python -m tests.image base                                                     # where no registry can be reached
    python -m tests.image sbom --tag tenclip:0.1.0

PYTHON_IMAGE names another base, best by digest (python:3.11-slim-bookworm@sha256:...); RELEASE=1 insists on a digest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.conftest import PROJECT
from tests.image.base import TAG as BASE
from tests.image.base import make_base
from tests.image.engine import ENGINES, TARGETS, Build, NotPinned, find_engine, read_sbom, run_build


def default_tag(target: str, extra: str) -> str:
    """As k8s/ names them, e.g. tenclip:0.1.0, tenclip-batch:0.1.0, tenclip:0.1.0-gpu."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    if target != "server":
        return f"tenclip-{target}:{version}"
    if extra == "jobs":
        return f"tenclip-jobs:{version}"
    return f"tenclip:{version}" + (f"-{extra.replace(',', '-')}" if extra and extra != "serve" else "")


def build(options: argparse.Namespace) -> None:
    engine = find_engine(options.engine)
    tag = options.tag or default_tag(options.target, options.extra)
    wanted = Build(
        tag=tag,
        target=options.target,
        extra=options.extra,
        platforms=tuple(options.platform.split(",")) if options.platform else (),
        python_image=options.python_image,
        source=options.source,
        release=options.release,
        more=tuple(options.more),
    )
    try:
        run_build(engine, wanted)
    except NotPinned as error:
        raise SystemExit(f"RELEASE=1: {error}") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{engine} failed with exit code {error.returncode}; its messages are above") from error
    print(f"built {tag} with {engine}")


def base(options: argparse.Namespace) -> None:
    make_base(options.tag or BASE, tuple(options.platform.split(",")) if options.platform else ())
    print(f"made {options.tag or BASE}; build on it with PYTHON_IMAGE={options.tag or BASE}")


def sbom(options: argparse.Namespace) -> None:
    tag = options.tag or default_tag(options.target, options.extra)
    try:
        text = read_sbom(find_engine(options.engine), tag)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise SystemExit(f"no bill of materials from {tag}: {said.strip()}\n`make image` builds it") from error
    out = options.out or PROJECT / "results" / "image" / f"{tag.rpartition('/')[2].replace(':', '-')}.sbom.cdx.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"written to {out}")


def main(argv: list[str]) -> None:
    # Words of the engine's own come after --.
    ours, more = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(
        prog="tests.image", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["build", "base", "sbom"])
    parser.add_argument("--target", choices=TARGETS, default="server")
    parser.add_argument(
        "--extra", default="", help="of the server's image: serve (default), jobs, gpu, or serve,http,otel"
    )
    parser.add_argument(
        "--platform", default="", help="linux/amd64, linux/arm64 or both with a comma; this machine's own"
    )
    parser.add_argument("--tag", default="", help="by default as k8s/ names it")
    parser.add_argument("--engine", choices=list(ENGINES), default="", help="docker where its buildx is, else buildah")
    parser.add_argument("--python-image", default=os.environ.get("PYTHON_IMAGE", ""), help="the base image")
    parser.add_argument("--source", default="", help="address of the source, for the image's label")
    parser.add_argument("--release", action="store_true", default=os.environ.get("RELEASE") == "1")
    parser.add_argument("--out", type=Path, help="sbom: the file; by default in results/image")
    options = parser.parse_args(ours)
    options.more = more
    {"build": build, "base": base, "sbom": sbom}[options.action](options)


if __name__ == "__main__":
    main(sys.argv[1:])
