"""One seed, stage by stage: videos, network, bundle, scores, samplers, salience, seconds, server.

OUT/videos/       generated videos, a folder for each set
OUT/training/     the run of the heavy network
OUT/models/       its bundle
OUT/scores/       its scores of all windows, and every scorer's
OUT/samplers/     trained samplers
OUT/served/       the bundle with the first of them
OUT/state.json    what is done, for the next run
OUT/seed.json     what was found
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from tenclip_demo.console import StageConsole
from tenclip_demo.fitting import train_or_resume
from tenclip_demo.stages import Result, Stages
from tenclip_findings.salience import arms
from tenclip_findings.salience.config import BASELINE, FEW_UNIFORM, MODEL_NAME, MOTION_ENERGY, UNIFORM, SeedConfig
from tenclip_findings.salience.costs import Timer, graph_macs
from tenclip_findings.salience.judge import CALIBRATION_SET, QUICK_ERROR_BOUNDS, Judge, Rules
from tenclip_findings.salience.network import (
    export_network,
    is_bundle,
    network_macs,
    open_runtime,
    open_runtimes,
)
from tenclip_findings.salience.results import ScorerResult, SecondsResult, SeedResult, write_seed
from tenclip_findings.salience.samplers import (
    SAMPLERS,
    SamplerPlan,
    SamplerTraining,
    TrainedScorer,
    slug,
)
from tenclip_findings.salience.scoring import Salience, ScoredSet, score_salience, score_set
from tenclip_findings.salience.served import bundle_with_sampler, check_server, expected
from tenclip_findings.salience.videos import Sets, TrueVideo, make_videos
from tenclip_video.bundle import Bundle, read_bundle
from tenclip_video.salience import ERROR_BOUNDS

Arrays = TypeVar("Arrays", ScoredSet, Salience)
TIMED_VIDEOS, QUICK_TIMED_VIDEOS = 12, 2
SERVED_VIDEOS, QUICK_SERVED_VIDEOS = 6, 2
QUICK_SAMPLERS = 2


class SeedRun:
    """The stages of one seed in the folder `out`; what an earlier run finished is taken over. Raises TenclipError."""

    def __init__(self, config: SeedConfig, out: Path, console: StageConsole) -> None:
        self._config, self._out = config, out
        self._stages = Stages(out, console, what="seed of this experiment")
        self._update = console.update
        self._title = f"seed {config.seed}"

    def run(self) -> SeedResult:
        sets = self._videos()
        checkpoint, top1 = self._network(sets)
        bundle = self._bundle(checkpoint)
        scored = self._scores(sets.judged, bundle)
        samplers = self._samplers(sets, bundle)
        salience = {s.name: self._salience(s, sets, bundle) for s in samplers}
        seconds = self._seconds(sets, bundle, samplers)
        macs = {s.name: 0 if s.path is None else graph_macs(s.path) for s in samplers}
        judge = Judge(
            scored=scored,
            salience=salience,
            clip_macs=network_macs(checkpoint),
            macs=macs,
            error_bounds=QUICK_ERROR_BOUNDS if self._config.quick else ERROR_BOUNDS,
        )
        rules = judge.rules()
        served = self._served(sets, bundle, samplers[0], judge, rules)
        result = SeedResult(
            seed=self._config.seed,
            quick=self._config.quick,
            classes=self._config.classes,
            architecture=bundle.info.architecture,
            clip_macs=judge.clip_macs,
            trimmed_val_top1=top1,
            sets=tuple(judge.judge(name, rules) for name in scored),
            scorers=tuple(self._scorer(s, macs[s.name]) for s in samplers),
            stopping=tuple(judge.stopping(name, rule) for name in rules for rule in rules[name].values()),
            temperature=judge.temperature(),
            seconds=seconds,
            served=served,
            stage_seconds={t.name: t.seconds for t in self._stages.times},
        )
        write_seed(self._out / "seed.json", result)
        return result

    def baseline(self) -> str:
        """Top-1 of the heavy network and of the baseline alone, on calibration videos: what difficulty is set by."""
        sets = self._videos()
        checkpoint, top1 = self._network(sets)
        name = CALIBRATION_SET
        scored = self._scores({name: sets.judged[name]}, self._bundle(checkpoint))[name]
        correct = arms.uniform(scored, BASELINE).correct(arms.truth_of(scored))
        return f"trimmed: {top1:.1%}; {BASELINE} uniform clips, untrimmed: {correct.mean():.1%} of {len(correct)}"

    def _stage(
        self,
        name: str,
        title: str,
        settings: dict[str, Any],
        work: Callable[[bool], Result],
        intact: Callable[[Result], bool],
    ) -> Result:
        return self._stages.run(name, f"{self._title}: {title}", settings, work, intact=intact)

    def _videos(self) -> Sets:
        folder = self._out / "videos"
        settings = {"tenclip": version("tenclip"), "synth": {n: s.to_dict() for n, s in self._config.synth.items()}}

        def make(_: bool) -> Result:
            make_videos(self._config, folder, self._update)
            return {}

        there = [folder / name / "manifest.csv" for name in self._config.synth]
        self._stage("videos", "generating videos", settings, make, lambda _: all(p.is_file() for p in there))
        return make_videos(self._config, folder, lambda done, total: None)  # all there: this only reads

    def _network(self, sets: Sets) -> tuple[Path, float]:
        """(checkpoint, top-1 on trimmed validation videos)."""
        folder = self._out / "training"
        config = self._config.training(sets.trimmed, folder)

        def fit(resumed: bool) -> Result:
            trained = train_or_resume(config, self._update, resumed=resumed)
            return {"checkpoint": trained.last.name, "top1": trained.history[-1].val_video_top1}

        settings = {k: v for k, v in config.to_dict().items() if k not in ("manifest", "out")}
        found = self._stage(
            "network", "training the heavy network", settings, fit, lambda r: (folder / r["checkpoint"]).is_file()
        )
        return folder / found["checkpoint"], found["top1"]

    def _bundle(self, checkpoint: Path) -> Bundle:
        models = self._out / "models"

        def write(_: bool) -> Result:
            export_network(checkpoint, models)
            return {}

        path = models / MODEL_NAME / "1"
        self._stage("export", "exporting it", {}, write, lambda _: is_bundle(path))
        bundle = read_bundle(path)
        assert bundle.labels == self._config.classes, f"classes in another order: {bundle.labels}"
        return bundle

    def _scores(self, judged: Mapping[str, Sequence[TrueVideo]], bundle: Bundle) -> dict[str, ScoredSet]:
        """The heavy network's scores of each set."""

        def score(name: str, videos: Sequence[TrueVideo]) -> ScoredSet:
            uniform = UNIFORM if name == "test" else FEW_UNIFORM
            return score_set(videos, open_runtimes(bundle), bundle.info.clip_spec, uniform, self._update)

        return {
            name: self._arrays(f"scores-{name}", f"all windows of {name}", ScoredSet, partial(score, name, videos))
            for name, videos in judged.items()
        }

    def _samplers(self, sets: Sets, bundle: Bundle) -> tuple[TrainedScorer, ...]:
        """The trained ones, then motion energy."""
        training = SamplerTraining(bundle, sets.untrimmed, self._out / "samplers", labels=sets.labels)
        epochs, tolerance = self._config.sampler_epochs, self._config.sampler_tolerance
        found = []
        for plan in SAMPLERS[:QUICK_SAMPLERS] if self._config.quick else SAMPLERS:

            def train(_: bool, plan: SamplerPlan = plan) -> Result:
                report = training.train(
                    plan, seed=self._config.seed, epochs=epochs, tolerance=tolerance, progress=self._say
                )
                return {"metrics": dict(report.spec.metrics)}

            def is_there(_: Result, plan: SamplerPlan = plan) -> bool:
                return training.is_trained(plan)

            settings = {"kind": plan.kind, "loss": plan.loss, "epochs": epochs}
            result = self._stage(f"sampler-{slug(plan.name)}", f"training {plan.name}", settings, train, is_there)
            seconds = self._stages.times[-1].seconds
            found.append(
                TrainedScorer(
                    name=plan.name, path=training.path(plan), training_seconds=seconds, metrics=result["metrics"]
                )
            )
        training.remove_cache()
        return (*found, TrainedScorer(name=MOTION_ENERGY))

    def _say(self, what: str, done: int, total: int) -> None:
        self._update(done, total, what)

    def _salience(self, sampler: TrainedScorer, sets: Sets, bundle: Bundle) -> dict[str, Salience]:
        """What one scorer says of each set."""

        def score(videos: Sequence[TrueVideo]) -> Salience:
            return score_salience(videos, sampler.open(), bundle.info.clip_spec, self._update)

        return {
            name: self._arrays(
                f"salience-{sampler.slug}-{name}",
                f"salience of {name} ({sampler.name})",
                Salience,
                partial(score, videos),
            )
            for name, videos in sets.judged.items()
        }

    def _arrays(self, name: str, title: str, kind: type[Arrays], make: Callable[[], Arrays]) -> Arrays:
        """A stage that makes arrays, kept in a file of their own."""
        path = self._out / "scores" / f"{name}.npz"

        def work(_: bool) -> Result:
            path.parent.mkdir(parents=True, exist_ok=True)
            make().save(path)
            return {}

        self._stage(name, title, {}, work, lambda _: _loads(kind.load, path))
        return kind.load(path)

    def _scorer(self, sampler: TrainedScorer, macs: int) -> ScorerResult:
        return ScorerResult(
            name=sampler.name,
            macs_per_window=macs,
            training_seconds=sampler.training_seconds,
            metrics=sampler.metrics,
        )

    def _seconds(self, sets: Sets, bundle: Bundle, samplers: Sequence[TrainedScorer]) -> tuple[SecondsResult, ...]:
        videos = sets.judged["test"][: QUICK_TIMED_VIDEOS if self._config.quick else TIMED_VIDEOS]

        def measure(_: bool) -> Result:
            scorers = {s.name: s.open() for s in samplers}
            timer = Timer(videos, open_runtime(bundle), bundle.info.clip_spec)
            found = timer.measure(scorers)
            return {"seconds": [{**dataclasses.asdict(s), "load": os.getloadavg()[0]} for s in found]}

        found = self._stage("seconds", "seconds of predictions", {"videos": len(videos)}, measure, lambda _: True)
        return tuple(SecondsResult(**s) for s in found["seconds"])

    def _served(
        self, sets: Sets, bundle: Bundle, sampler: TrainedScorer, judge: Judge, rules: Mapping[str, Rules]
    ) -> dict[str, Any]:
        """The first sampler and its rules in the bundle of a real server."""
        count = QUICK_SERVED_VIDEOS if self._config.quick else SERVED_VIDEOS
        assert sampler.path is not None, "the first scorer is a trained one"
        path, models = sampler.path, self._out / "served"

        def check(_: bool) -> Result:
            bundle_with_sampler(bundle, path, rules[sampler.name], models)
            scored, orders = judge.scored["test"], judge.orders(sampler.name, "test")
            adaptive = {bound: arms.adaptive(scored, orders, rule) for bound, rule in rules[sampler.name].items()}
            wanted = expected(sets.judged["test"], scored.videos, orders, adaptive, count)
            found = check_server(models, self._out / "server.log", wanted)
            return {**dataclasses.asdict(found), "agrees": found.agrees}

        settings = {
            "videos": count,
            "rules": {f"{bound:g}": dataclasses.asdict(rule) for bound, rule in rules[sampler.name].items()},
        }
        return self._stage("served", "the same through a server", settings, check, lambda _: True)


def _loads(load: Callable[[Path], object], path: Path) -> bool:
    try:
        load(path)
    except (OSError, ValueError, KeyError):
        return False
    return True
