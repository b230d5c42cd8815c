"""The bill of materials of an image, as CycloneDX JSON: `python -m tenclip_image.sbom /opt/tenclip --out FILE`.

cyclonedx-bom reads what is installed in the environment. Added are the SHA-256 of the wheel that each package came
from, where a lock knows it, the Python that runs it, and Debian's packages, where dpkg knows any. The result is
validated against the published schema, strictly. Equal contents give equal files: no serial number, no time of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from tenclip_image.locks import ARCHITECTURES, LOCKS, read_lock

SPECIFICATION = "1.6"
Component = dict[str, Any]


def normalise(name: str) -> str:
    """As the index compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_environment(python: Path) -> dict[str, Any]:
    # fmt: off
    command = [
        sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--spec-version", SPECIFICATION,
        "--output-format", "JSON", "--output-file", "-", str(python),
    ]
    # fmt: on
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)  # type: ignore[no-any-return]


def locked_hashes(machine: str) -> dict[tuple[str, str], list[str]]:
    """SHA-256 of the wheels that pip may have taken on this machine, by name and version."""
    others = tuple(name for name in ARCHITECTURES if name != machine)
    return {
        (normalise(package.name), package.version): [
            digest for file, digest in package.wheels.items() if not file.removesuffix(".whl").endswith(others)
        ]
        for lock in sorted(LOCKS.glob("*.lock"))
        for package in read_lock(lock)
    }


def add_hashes(component: Component, hashes: dict[tuple[str, str], list[str]]) -> None:
    found = hashes.get((normalise(component["name"]), component["version"]), [])
    if found:
        component["hashes"] = [{"alg": "SHA-256", "content": digest} for digest in found]


def add_licence(component: Component, site_packages: list[str]) -> None:
    """The free text of `License`, where cyclonedx-bom found neither an expression nor a classifier."""
    if not component.get("licenses"):
        found = distributions(name=component["name"], path=site_packages)
        text = next((d.metadata["License"] for d in found if "License" in d.metadata), "")
        if text and text != "UNKNOWN":
            name = text.strip().splitlines()[0]
            component["licenses"] = [{"license": {"name": name, "acknowledgement": "declared"}}]


def interpreter(python: Path) -> Component:
    """The Python of an environment."""
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {
        "type": "platform",
        "bom-ref": f"python=={version}",
        "name": "python",
        "version": version,
        "purl": f"pkg:generic/python@{version}",
        "licenses": [{"license": {"id": "PSF-2.0"}}],
    }


def debian_packages() -> Iterator[Component]:
    """Of the base image; none where there is no dpkg. dpkg does not know licences: /usr/share/doc has them."""
    try:
        listing = subprocess.run(
            ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    except FileNotFoundError:
        return
    release = platform.freedesktop_os_release()
    distribution = f"{release.get('ID', 'debian')}-{release.get('VERSION_ID', 'unknown')}"
    for line in sorted(listing.splitlines()):
        status, name, version, architecture = line.split("\t")
        if status.startswith("ii"):
            quoted = version.replace("+", "%2B").replace(":", "%3A")
            purl = f"pkg:deb/{release.get('ID', 'debian')}/{name}@{quoted}?arch={architecture}&distro={distribution}"
            yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def describe(environment: Path) -> dict[str, Any]:
    """The whole bill, as a JSON object."""
    python = environment / "bin" / "python"
    bill = {"components": [], "dependencies": [], **read_environment(python)}
    hashes = locked_hashes(platform.machine())
    site_packages = [str(path) for path in environment.glob("lib/python*/site-packages")]
    for component in bill["components"]:
        add_hashes(component, hashes)
        add_licence(component, site_packages)
    bill["components"] += [interpreter(python), *debian_packages()]
    ours = next((c for c in bill["components"] if c["name"] == "tenclip"), None)
    if ours is None:
        raise SystemExit(f"{environment} has no package tenclip: not an environment of an image")
    ours.setdefault("purl", f"pkg:generic/tenclip@{ours['version']}")  # built here, from no index
    image = {"type": "container", "bom-ref": "image", "name": "tenclip", "version": ours["version"]}
    bill["metadata"]["component"] = image
    bill["dependencies"].append({"ref": "image", "dependsOn": sorted(c["bom-ref"] for c in bill["components"])})
    return bill


def validate(text: str) -> None:
    """Raises SystemExit, with what the schema says, where the text is not CycloneDX."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.from_version(SPECIFICATION)).validate_str(text)
    if error is not None:
        raise SystemExit(f"not CycloneDX {SPECIFICATION}: {error}")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tenclip_image.sbom", description=__doc__.partition("\n")[0])
    parser.add_argument("environment", type=Path, help="e.g. /opt/tenclip")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    text = json.dumps(describe(options.environment), indent=1, sort_keys=True) + "\n"
    validate(text)
    options.out.write_text(text)
    print(f"{options.out}: {len(json.loads(text)['components'])} components")


if __name__ == "__main__":
    main(sys.argv[1:])
