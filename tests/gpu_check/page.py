"""The tables of docs/gpu.md, written between its markers. Only Python's own modules are imported here.

`python -m tests.gpu_check.page results/gpu.json docs/gpu.md` does so with the JSON of a run elsewhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- gpu-check: begin -->", "<!-- gpu-check: end -->"


def write_page(path: Path, results: Mapping[str, Any]) -> None:
    """Put the tables of a run between the markers of a page, and leave the rest as it is.

    A page that is not there is made of the tables alone. Raises ValueError for a page without the two markers.
    """
    tables = f"{BEGIN}\n\n{render(results)}\n\n{END}"
    if path.exists():
        text = path.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{path} has no place for the tables: it needs the lines {BEGIN} and {END}")
        tables = before + tables + after
    else:
        tables = f"# GPU check\n\n{tables}\n"
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(tables, encoding="utf-8")
    aside.replace(path)


def render(results: Mapping[str, Any]) -> str:
    """A run as Markdown: when and where, the state of each step, and a table for each that has figures."""
    steps: Mapping[str, Any] = results["steps"]
    kind = "Dry run on a CPU at tiny sizes: no figure of it means anything" if results["dry_run"] else "Run"
    parts = [f"{kind}, {results['when']}, {results['machine']}.", _state(steps)]
    for name, section in SECTIONS.items():
        found = steps.get(name, {}).get("result")
        if found:
            parts.append(section(found))
    return "\n\n".join(part for part in parts if part)


def _state(steps: Mapping[str, Any]) -> str:
    rows = [
        (name, step["status"], f"{step['seconds']:.0f}", _last_line(step.get("error") or ""))
        for name, step in steps.items()
    ]
    return _table(("step", "state", "seconds", "why"), rows)


def _machine(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items() if value)
    rows = [(name.replace("_", " "), f"{value:,.1f}") for name, value in found["ceilings"].items()]
    device = ", ".join(f"{name} {value}" for name, value in found["device"].items() if value is not None)
    return f"### Machine\n\n{device}. {versions}.\n\n" + _table(("what it reaches", "figure"), rows)


def _speed(found: Mapping[str, Any]) -> str:
    rows = [
        (
            r["network"],
            r["way"] + (", CUDA graph" if r["graph"] else ""),
            str(r["batch"]),
            *(
                (r["error"], "", "", "")
                if "error" in r
                else (f"{r['ms']:.2f}", f"{r['clips_per_second']:,.0f}", f"{r['tflops']:.1f}", _percent(r["share"]))
            ),
            "yes" if r["right"] else "NO",
        )
        for r in found["rows"]
    ]
    goal = found.get("goal")
    words = ""
    if goal is not None:
        met = "met" if goal["met"] else "not met"
        words = f"The goal of 50% of the matrix product's rate is {met}: {_percent(goal['reached'])}.\n\n"
    head = ("network", "way", "batch", "ms", "clips/s", "TFLOP/s", "of the matrix product", "right")
    return f"### Speed in bfloat16\n\n{words}{_table(head, rows)}"


def _exactness(found: Mapping[str, Any]) -> str:
    rows = [
        (r["network"], r["form"], r["precision"], f"{r['logits']:.1e}", f"{r['features']:.1e}", f"{r['bound']:.1e}",
         _percent(r["top1"]), "yes" if r["passed"] else "NO")
        for r in found["rows"]
    ]  # fmt: skip
    graphs = ", ".join(
        f"{g['network']} {'equal' if g['equal'] else format(g['relative_l2'], '.1e')}" for g in found["graphs"]
    )
    head = ("network", "form", "precision", "logits", "features", "bound", "top-1 as float64", "passed")
    return f"### Exactness on golden clips\n\n{_table(head, rows)}\n\nCUDA graphs against eager: {graphs}."


def _layers(found: Mapping[str, Any]) -> str:
    rows = [
        (r["layer"], str(r["count"]), r["kernel"], r["channels"], r["map"], f"{r['ms']:.3f}", f"{r['floor_ms']:.3f}",
         _percent(r["of_floor"]), r["bound"], f"{r['tflops']:.0f}", f"{r['gb_per_s']:,.0f}")
        for r in found["rows"]
    ]  # fmt: skip
    floor = found["floor"]
    words = (
        f"{found['network']}, batch {found['batch']}. At its floor it reaches {_percent(floor['share'])} of the rate"
    )
    words += f" ({floor['clips_per_second']:,.0f} clips/s)."
    if "whole_ms" in found:
        lost = found["lost_ms"]
        words += (
            f" The network takes {found['whole_ms']:.2f} ms: {found['floors_ms']:.2f} ms are its layers' floors, "
            f"{lost['arithmetic']:.2f} ms are lost in layers that arithmetic holds, {lost['memory']:.2f} ms in those "
            f"that memory holds, {found['between_ms']:.2f} ms lie between layers."
        )
    head = ("layer", "times", "kernel", "channels", "map", "ms", "floor", "of floor", "held by", "TFLOP/s", "GB/s")
    return f"### Layers against their roofline\n\n{words}\n\n{_table(head, rows)}"


def _served(found: Mapping[str, Any]) -> str:
    rows = [
        (r["what"], f"{r['videos_per_second']:.1f}", f"{r['clips_per_second']:.0f}", f"{r['mean_batch']:.1f}")
        for r in (*found["rows"], *([found["decoding_alone"]] if "decoding_alone" in found else []))
    ]
    words = f"{found['videos']} videos of 10 seconds, ten clips each, {found['cores']} cores."
    if "limited_by" in found:
        words += (
            f" The GPU alone would do {found['gpu_alone_videos_per_second']:.1f} videos/s; the limit is "
            f"{found['limited_by']}, and {_percent(found['share_of_limit'])} of it is reached."
        )
    rates = ", ".join(f"{rate:,.0f} at {batch}" for batch, rate in found["gpu_clips_per_second"].items())
    words += f" Clips/s of the GPU alone by batch: {rates}."
    if "gpu_clips_per_second_searched" in found:
        words += f" With kernels that cuDNN found by trying: {found['gpu_clips_per_second_searched']:,.0f}."
    return f"### From file to answer\n\n{words}\n\n{_table(('runtime', 'videos/s', 'clips/s', 'mean batch'), rows)}"


def _training(found: Mapping[str, Any]) -> str:
    rows = [
        (r["way"], r["error"], "", "", "")
        if "error" in r
        else (r["way"], f"{r['steps_per_second']:.2f}", f"{r['clips_per_second']:.0f}", _number(r["peak_mib"]),
              f"{r['first_step_seconds']:.1f}")
        for r in found["rows"]
    ]  # fmt: skip
    words = f"{found['network']}, batches of {found['batch']}."
    if "loss" in found:
        loss = found["loss"]
        words += (
            f" Over {loss['steps']} steps the loss in bfloat16 is within {_percent(loss['relative_difference'])} of "
            f"that in float32 (bound {_percent(loss['bound'])}): {'passed' if loss['passed'] else 'NOT passed'}."
        )
    if "loader" in found:
        words += (
            f" The loader gives {found['loader']['clips_per_second']:.0f} clips/s with {found['loader']['workers']} "
            f"workers: {found['loader']['bound_by']} is what takes the time."
        )
    return f"### Training\n\n{words}\n\n{_table(('way', 'steps/s', 'clips/s', 'peak MiB', 'first step, s'), rows)}"


def _compile(found: Mapping[str, Any]) -> str:
    rows = [
        (r["network"], r["mode"], _number(r.get("compile_seconds")), _number(r.get("ms"), 2), _percent(r.get("share")),
         r.get("error", ""))
        for r in found["rows"]
    ]  # fmt: skip
    head = ("network", "mode", "compiling, s", "ms", "of the matrix product", "error")
    return f"### torch.compile\n\n{_table(head, rows)}"


def _as_list(title: str) -> Any:
    def section(found: Mapping[str, Any]) -> str:
        lines = [f"- {name.replace('_', ' ')}: {_flat(value)}" for name, value in found.items()]
        return f"### {title}\n\n" + "\n".join(lines)

    return section


SECTIONS: dict[str, Any] = {
    "machine": _machine,
    "speed": _speed,
    "exactness": _exactness,
    "layers": _layers,
    "served": _served,
    "memory": _as_list("A full GPU"),
    "training": _training,
    "nvdec": _as_list("NVDEC"),
    "compile": _compile,
    "libraries": _as_list("ONNX Runtime and TensorRT"),
}


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_flat(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return _escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in line)} |" for line in lines)


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else ""


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m tests.gpu_check.page RESULTS.json PAGE.md")
    write_page(Path(sys.argv[2]), json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
