"""Every variant of a bundle on every installed runtime that reads it, at every crop: parity, and speed if wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenclip_api.errors import BundleError, ParityError, TenclipError
from tenclip_export import speed
from tenclip_export.parity import Reference, Row, compare
from tenclip_export.variants import Refused, Source, Wanted, make_variant, with_measured_tolerance
from tenclip_serving.runtimes import available_runtimes, create_runtime, reads
from tenclip_video.bundle import Speed, Tolerance, Variant

# Called with a line that says what is about to happen, e.g. "checking openvino".
Progress = Callable[[str], None]


def runtimes_to_check(names: Sequence[str] | None, formats: Sequence[str]) -> tuple[str, ...]:
    """`names`, or every installed runtime for None; torch only where its programs are wanted.

    Raises BundleError where there is none: an export that nothing has checked is not finished.
    """
    if names is None:
        names = available_runtimes()
        if "torch" in formats:
            names = (*names, "torch")
    if not names:
        raise BundleError("no runtime is installed, so nothing can be checked: pip install 'tenclip[export]'")
    return tuple(names)


@dataclass(kw_only=True)
class RuntimeChecks:
    """The checks of one export. `rows` is the parity table and `speeds` the measured speeds; both grow.

    stage: where the variants lie. references: golden clips with torch's outputs, one for each crop. timer: None
    measures no speed. on_row: called with each new row of the table.
    """

    stage: Path
    references: Sequence[Reference]
    names: Sequence[str]
    progress: Progress
    on_row: Callable[[Row], None]
    timer: speed.Timer | None
    rows: list[Row] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)

    def check(self, variant: Variant, tolerance: Tolerance) -> list[Row]:
        """One row for each runtime and crop. A runtime that cannot load a variant of reduced precision gives none."""
        found: list[Row] = []
        for name in self.names:
            if reads(name, variant.format, variant.path):
                found += self._check_on(name, variant, tolerance)
        return found

    def require(self, variant: Variant, tolerance: Tolerance) -> None:
        """Check the variant that must be right on every runtime. Raises ParityError where it is not."""
        rows = self.check(variant, tolerance)
        failed = [row for row in rows if not row.passed]
        if failed:
            worst = max(failed, key=lambda row: max(row.relative_l2, row.features_relative_l2))
            raise ParityError(
                f"{len(failed)} of {len(rows)} checks are beyond the tolerance; the worst is {worst.runtime} at crop "
                f"{worst.crop}: logits {worst.relative_l2:.2e} (allowed {tolerance.logits:.2e}), features "
                f"{worst.features_relative_l2:.2e} (allowed {tolerance.features:.2e}). Nothing was written"
            )

    def _check_on(self, name: str, variant: Variant, tolerance: Tolerance) -> list[Row]:
        self.progress(f"checking {variant.name} on {name}" if variant.name != "fp32" else f"checking {name}")
        try:
            runtime = create_runtime(name, self.stage / variant.path)
        except TenclipError:
            if variant.tolerance is None:
                raise
            return []  # reduced precision that this runtime has no kernels for
        rows = [compare(r, runtime.run, tolerance, variant=variant.name, runtime=name) for r in self.references]
        for row in rows:
            self.rows.append(row)
            self.on_row(row)
        if self.timer is not None and all(row.passed for row in rows):
            self.progress(f"timing {variant.name} on {name}")
            self.speeds.append(self.timer.measure(runtime, self.references[0].clips, variant=variant.name))
        return rows


@dataclass(frozen=True, kw_only=True)
class FurtherVariants:
    """Variants beside the float32 graph. `refused`: names and reasons of those that are left out, for provenance."""

    kept: tuple[Variant, ...]
    refused: tuple[dict[str, str], ...]


def make_further_variants(
    wanted: Sequence[Wanted], source: Source, checks: RuntimeChecks, tolerance: Tolerance
) -> FurtherVariants:
    """Make and check every variant that is wanted, and keep those within their bound on some runtime.

    The files of a variant that is left out are removed.
    """
    kept: list[Variant] = []
    refused: list[dict[str, str]] = []
    for one in wanted:
        checks.progress(f"making {one.name}")
        before = set(source.stage.rglob("*"))
        try:
            variant = make_variant(one, source)
            rows = checks.check(variant, variant.tolerance or tolerance)
            _require_a_runtime(variant, rows, checks.names)
        except Refused as reason:
            refused.append({"variant": one.name, "reason": str(reason)})
            _remove_files(set(source.stage.rglob("*")) - before)
            continue
        kept.append(with_measured_tolerance(variant, rows))
    return FurtherVariants(kept=tuple(kept), refused=tuple(refused))


def _remove_files(paths: set[Path]) -> None:
    for path in paths:
        if path.is_file():
            path.unlink()


def _require_a_runtime(variant: Variant, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Raises Refused unless some runtime passes at every crop."""
    passing = {row.runtime for row in rows} - {row.runtime for row in rows if not row.passed}
    if passing:
        return
    if not rows:
        raise Refused(f"none of {', '.join(names)} executes it here")
    bound = variant.tolerance or Tolerance()
    figures = "; ".join(
        f"{r.runtime} at crop {r.crop}: logits {r.relative_l2:.2e}, features {r.features_relative_l2:.2e}" for r in rows
    )
    raise Refused(
        f"golden clips are too far off (allowed: logits {bound.logits}, features {bound.features}): {figures}"
    )
