"""The learned sampler of a bundle, read and proven when the bundle is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from tenclip_api.errors import BundleError
from tenclip_video.bundle import Bundle, BundleSampler
from tenclip_video.salience import (
    LearnedScorer,
    Sampler,
    SamplerFiles,
    SamplerSpec,
    StoppingRule,
    check_clips,
    read_sampler_files,
)
from tenclip_video.salience.stopping import all_rules
from tenclip_video.salience.windows import input_dtype
from tenclip_video.spec import ClipSpec

# Windows of the run that proves a sampler.
_NUM_WINDOWS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedSampler:
    """files: as decode processes get them. scorer: the same, opened.

    stopping: of adaptive prediction where no error bound is asked for; other_stopping: of other bounds.
    """

    files: SamplerFiles
    scorer: LearnedScorer
    stopping: StoppingRule | None = None
    other_stopping: tuple[StoppingRule, ...] = ()

    @property
    def rules(self) -> tuple[StoppingRule, ...]:
        """All stopping rules, the strictest bound first."""
        return all_rules(self.stopping, self.other_stopping)

    @property
    def spec(self) -> SamplerSpec:
        """Of the sampler that looks."""
        return self.scorer.picture.spec

    @property
    def audio_clips(self) -> int:
        """How many of the chosen clips are the best by sound, at most."""
        return self.scorer.audio_clips if self.scorer.sound is not None else 0

    def check_clips(self, model_spec: ClipSpec) -> None:
        """Raises BundleError where the clips of a model are not those that the sampler was trained for."""
        for sampler in _samplers(self.scorer):
            check_clips(sampler, model_spec)


def load_served_sampler(bundle: Bundle) -> ServedSampler | None:
    """The sampler of a bundle, which has run on windows of zeros; None where the bundle has none.

    Raises BundleError that names the file at fault, MissingDependency without ONNX Runtime.
    """
    described = bundle.info.sampler
    if described is None:
        return None
    files = read_sampler_files(
        bundle.path / described.path,
        None if described.audio_path is None else bundle.path / described.audio_path,
        audio_clips=described.audio_clips,
        model_spec=bundle.info.clip_spec,
    )
    _check_hashes(bundle, described, files)
    scorer = files.scorer()
    for sampler in _samplers(scorer):
        spec = sampler.spec
        scores = sampler.scores(np.zeros((_NUM_WINDOWS, *spec.input_shape), input_dtype(spec)))
        if not np.isfinite(scores).all():
            raise BundleError(f"{sampler.file}: the sampler gives {scores.tolist()} for black windows: no numbers")
    return ServedSampler(
        files=files, scorer=scorer, stopping=described.stopping, other_stopping=described.other_stopping
    )


def _check_hashes(bundle: Bundle, described: BundleSampler, files: SamplerFiles) -> None:
    """Of the bytes that are used, which were read after the files were checked."""
    for path, data in ((described.path, files.picture), (described.audio_path, files.sound)):
        if path is None or data is None:
            continue
        actual, expected = hashlib.sha256(data).hexdigest(), described.files.get(path)
        if actual != expected:
            says = "does not list it" if expected is None else f"says {expected[:12]}..."
            raise BundleError(f"{bundle.path / path}: SHA-256 is {actual[:12]}..., bundle.json {says}")


def _samplers(scorer: LearnedScorer) -> tuple[Sampler, ...]:
    return (scorer.picture,) if scorer.sound is None else (scorer.picture, scorer.sound)
