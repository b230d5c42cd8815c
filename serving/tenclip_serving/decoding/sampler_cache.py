"""Samplers in decode workers: their files are sent once to each worker, and opened once.

Both ends keep the same few digests, by the same rule and from the same requests, so the server knows what a worker has
without asking.
"""

from __future__ import annotations

from collections import OrderedDict

from tenclip_video.salience import LearnedScorer, SamplerFiles

# Samplers that a worker keeps: a server has few models, and not all have one. Each is at most 8 MiB of files.
KEPT_SAMPLERS = 4


class KnownSamplers:
    """The server's end: which samplers a worker has by now."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, None] = OrderedDict()

    def to_send(self, files: SamplerFiles) -> SamplerFiles:
        """What goes with a request for `files`: them, or only their digest."""
        known = files.digest in self._digests
        self._digests[files.digest] = None
        self._digests.move_to_end(files.digest)
        while len(self._digests) > KEPT_SAMPLERS:
            self._digests.popitem(last=False)
        return files.without_bytes if known else files


class SamplerCache:
    """The worker's end: the files that it was sent, and the scorers made of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, SamplerFiles | LearnedScorer] = OrderedDict()

    def _keep(self, files: SamplerFiles) -> None:
        """Note a request for `files`, whatever comes of it."""
        if files.picture:
            self._kept.setdefault(files.digest, files)
        self._kept.move_to_end(files.digest)
        while len(self._kept) > KEPT_SAMPLERS:
            self._kept.popitem(last=False)

    def scorer(self, files: SamplerFiles) -> LearnedScorer:
        """The scorer of a request. Raises what `load_sampler` raises, again for every request."""
        self._keep(files)
        kept = self._kept[files.digest]
        if isinstance(kept, SamplerFiles):
            kept = self._kept[files.digest] = kept.scorer()
        return kept
