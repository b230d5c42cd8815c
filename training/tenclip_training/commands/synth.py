"""`tenclip synth`: action videos and stills from the command line."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.options import usage_errors
from tenclip_training.commands.synth_options import (
    ClassOptions,
    NounOptions,
    SceneOptions,
    UntrimmedOptions,
    WeakSupervisionOptions,
)


@with_option_groups
def synth(
    *,
    out: Annotated[
        Path, typer.Argument(help="Folder for videos/ or images/, manifest.csv and synth.json; made if need be.")
    ],
    classes: ClassOptions,
    nouns: NounOptions,
    scene: SceneOptions,
    untrimmed: UntrimmedOptions,
    supervision: WeakSupervisionOptions,
    seed: Annotated[int, typer.Option(help="The same seed and options make the same videos.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. (default: one a core)")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Make action videos, or stills of their objects: real files whose classes only motion tells apart.

    A class is a motion, the verb. What moves, a shape with a texture, is the
    noun. Unless --overlap says otherwise, every verb has the same distribution
    of single frames, so a network must look at motion to tell them. The
    manifest has verb, noun and true label of each file, its speed, background,
    scenes and more.
    A run that was stopped goes on where it was when started again with the same options.

    \b
    Examples:
      tenclip synth videos
      tenclip synth videos --num-classes 16 --videos-per-class 200 --size 160x120
      tenclip synth weak --untrimmed --noisy-tags --long-tail 50
      tenclip synth web --images 2000 --overlap 0.5 --wrong 0.3 --off-topic 0.3
      tenclip synth raw --untrimmed --seconds 12 --scenes 4 --action 0.1-0.2
      tenclip synth pairs --label pair --num-classes 4 --held-out-nouns 4 --site phone
      tenclip synth some --classes move_left,move_right,shake
      tenclip synth videos --classes list      (also --nouns list, --site list)
    """
    import time

    from tenclip_training.console import reporting
    from tenclip_training.synth import CLASSES, NOUNS, SITES, SynthConfig, generate
    from tenclip_training.synth.summary import in_words, summarise

    for asked, names in ((classes.classes, CLASSES), (nouns.nouns, NOUNS), (scene.site, tuple(SITES))):
        if asked == "list":
            typer.echo(json_module.dumps(names) if json else "\n".join(names))
            return
    with usage_errors():
        config = SynthConfig(
            **classes.settings(),
            **nouns.settings(),
            **scene.settings(untrimmed=untrimmed.untrimmed),
            **untrimmed.settings(),
            **supervision.settings(),
            seed=seed,
        )
    began = time.perf_counter()
    with reporting() as reporter:
        manifest = generate(
            config, out, workers=workers, progress=lambda done, total: reporter.update(config.kind, done, total)
        )
    summary = summarise(manifest, time.perf_counter() - began)
    typer.echo(json_module.dumps(summary, indent=2) if json else in_words(summary))
