"""A bundle as a `.mar`, the archive that TorchServe loads: a ZIP file of the bundle, a handler and its settings.

It is written here and not by torch-model-archiver, which empties a directory of the model's name in the system's
temporary folder, whoever that belongs to, and leaves half an archive behind when it is interrupted.

TorchServe's own settings lie in config.properties, outside of any archive. Its default `max_request_size` of 6.5 MB is
too small for most videos.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tenclip_api.errors import BundleError
from tenclip_export.torchserve.handler import BUNDLES, SETTINGS
from tenclip_serving.config import RuntimeChoice
from tenclip_video.bundle import Bundle

HANDLER = "tenclip_handler.py"
MODEL_CONFIG = "model-config.yaml"
# Two classes would be one too many: TorchServe takes the only class that the file itself defines.
HANDLER_SOURCE = '''"""The code is in tenclip, with the core that it calls: pip install 'tenclip[serve,torchserve]'."""

from tenclip_export.torchserve.handler import Handler


class TenclipHandler(Handler):
    pass
'''
# The oldest time that ZIP knows: equal bundles give equal archives.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
# Seconds that TorchServe allows beyond the core's own limit, so that the core's error comes first.
_GRACE_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class TorchServeSettings:
    """How TorchServe runs the model.

    workers: processes, each with the whole model. batch_size: requests that a worker gets at once; it waits up to
    max_batch_delay_ms for them, decodes them side by side and runs them one after the other.
    runtime, threads, decode_workers, max_clips: as `tenclip serve` has them.
    Raises ValueError for a number below 1 (0 for the delay, threads and decode_workers).
    """

    workers: int = 1
    batch_size: int = 1
    max_batch_delay_ms: int = 50
    runtime: RuntimeChoice = "auto"
    threads: int = 0
    decode_workers: int = 0
    max_clips: int = 512
    max_request_seconds: int = 600

    def __post_init__(self) -> None:
        lowest = {"max_batch_delay_ms": 0, "threads": 0, "decode_workers": 0}
        for name, value in vars(self).items():
            if name != "runtime" and value < lowest.get(name, 1):
                raise ValueError(f"{name} must be at least {lowest.get(name, 1)}, got {value}")

    def to_yaml(self) -> str:
        """The text of model-config.yaml."""
        return "\n".join(
            (
                f"minWorkers: {self.workers}",
                f"maxWorkers: {self.workers}",
                f"batchSize: {self.batch_size}",
                f"maxBatchDelay: {self.max_batch_delay_ms}",
                f"responseTimeout: {self.max_request_seconds + _GRACE_SECONDS}",
                f"{SETTINGS}:",
                f"  runtime: {self.runtime}",
                f"  threads: {self.threads}",
                f"  decode_workers: {self.decode_workers}",
                f"  max_clips: {self.max_clips}",
                f"  max_request_seconds: {self.max_request_seconds}",
                "",
            )
        )


def export_torchserve(
    bundle: Bundle,
    out_dir: Path | str,
    *,
    settings: TorchServeSettings | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `bundle` as `out_dir/NAME-VERSION.mar`; returns its path. It appears there whole or not at all.

    Raises BundleError for an archive that exists (unless `overwrite`) or cannot be written.
    """
    info = bundle.info
    target = Path(out_dir) / f"{info.name}-{info.version}.mar"
    if target.exists() and not overwrite:
        raise BundleError(f"{target} exists; --overwrite replaces it")
    stage = target.with_name(f".incomplete-{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with stage.open("wb") as file:
            _write(file, bundle, settings or TorchServeSettings())
            file.flush()
            os.fsync(file.fileno())
        stage.rename(target)
    except OSError as err:
        raise BundleError(f"{target}: cannot be written: {err}") from err
    finally:
        with contextlib.suppress(OSError):
            stage.unlink()
    return target


def manifest(bundle: Bundle) -> dict[str, object]:
    """The content of MAR-INF/MANIFEST.json, in the form that torch-model-archiver 0.12 writes."""
    info = bundle.info
    exported = info.provenance.get("exported_at")
    return {
        "createdOn": exported if isinstance(exported, str) else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "runtime": "python",
        "model": {
            "modelName": info.name,
            "handler": HANDLER,
            "modelVersion": info.version,
            "configFile": MODEL_CONFIG,
        },
        "archiverVersion": "0.12.0",
    }


def bundle_files(bundle: Bundle) -> list[str]:
    """Every file of a bundle, relative to it: what `read_bundle` reads, and no more."""
    variants = {name for variant in bundle.info.variants for name in variant.files}
    sampler = () if bundle.info.sampler is None else bundle.info.sampler.files
    return ["bundle.json", "labels.txt", "golden.npz", *sorted({*variants, *sampler})]


def _write(file: IO[bytes], bundle: Bundle, settings: TorchServeSettings) -> None:
    texts = {
        HANDLER: HANDLER_SOURCE,
        MODEL_CONFIG: settings.to_yaml(),
        "MAR-INF/MANIFEST.json": json.dumps(manifest(bundle), indent=2) + "\n",
    }
    # Stored, not deflated: weights do not compress, and TorchServe unpacks the archive at each start.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), text)
        for relative in bundle_files(bundle):
            source = bundle.path / relative
            entry = zipfile.ZipInfo(f"{BUNDLES}/{bundle.info.name}/{bundle.info.version}/{relative}", _ZIP_TIME)
            entry.file_size = source.stat().st_size  # says beforehand whether the entry needs ZIP64
            with source.open("rb") as content, archive.open(entry, "w") as out:
                while chunk := content.read(1 << 20):
                    out.write(chunk)
