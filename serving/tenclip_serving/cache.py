"""Answers kept for videos that are asked about again: the same bytes, model and protocol give the same answer."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray

from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.models.repository import ServedModel
from tenclip_serving.requests import Recognition
from tenclip_serving.resolve_salience import Salience

# Bytes of Python's objects, about: an answer besides its lists, one clip, one index of a frame, two times of a window,
# one picture besides its file.
_ANSWER_BYTES, _CLIP_BYTES, _FRAME_BYTES, _WINDOW_BYTES, _PICTURE_BYTES = 6000, 600, 40, 128, 256
_PIECE_BYTES = 1 << 20

CacheKey = Hashable


def cache_key(request: DecodeRequest, model: ServedModel, salience: Salience) -> CacheKey:
    """All that an answer depends on. Reads the whole video, so not on an event loop.

    A file that cannot be read gets a key of its own: decoding will say what is wrong with it.
    """
    identity = (model.name, model.version, model.variant, model.runtime.name, model.fingerprint)
    try:
        content = _digest(request.source)
    except OSError:
        return object()
    sampler = None if salience.sampler is None else salience.sampler.files.digest
    asked = request.protocol, request.timeline, request.thumbnails
    return content, identity, asked, sampler, salience.stopping


def _digest(source: str | bytes | int) -> bytes:
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    if isinstance(source, int):
        return _digest_of_descriptor(source)
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _digest_of_descriptor(descriptor: int) -> bytes:
    digest, done = hashlib.sha256(), 0
    while piece := os.pread(descriptor, _PIECE_BYTES, done):
        digest.update(piece)
        done += len(piece)
    return digest.digest()


class AnswerCache:
    """A least-recently-used cache of at most `max_bytes`. on_bytes(bytes) is called with its size at every change."""

    def __init__(self, max_bytes: int, *, on_bytes: Callable[[int], None] | None = None) -> None:
        self.max_bytes = max_bytes
        self._on_bytes = on_bytes or (lambda num_bytes: None)
        self._answers: OrderedDict[CacheKey, tuple[Recognition, int]] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: CacheKey) -> Recognition | None:
        found = self._answers.get(key)
        if found is None:
            return None
        self._answers.move_to_end(key)
        return found[0]

    def put(self, key: CacheKey, answer: Recognition) -> None:
        """An answer with warnings is not kept: they may name the file of another caller."""
        size = answer_bytes(answer)
        if key in self._answers or answer.report.warnings or size > self.max_bytes:
            return
        while self.num_bytes + size > self.max_bytes:
            _, (_, gone) = self._answers.popitem(last=False)
            self.num_bytes -= gone
        self._answers[key] = (answer, size)
        self.num_bytes += size
        self._on_bytes(self.num_bytes)


def answer_bytes(answer: Recognition) -> int:
    """Bytes that an answer takes in memory, about. Labels are the model's own."""
    arrays: list[NDArray[Any]] = [answer.probabilities, answer.features]
    arrays += [answer.clip_probabilities, answer.clip_features]
    if answer.calibrated is not None:
        arrays.append(answer.calibrated)
    windows = 0
    if answer.timeline is not None:
        arrays += [answer.timeline.scores, answer.timeline.selected]
        windows = len(answer.timeline.seconds)
    frames = sum(len(clip.frames) for clip in answer.clips)
    objects = _ANSWER_BYTES + _CLIP_BYTES * len(answer.clips) + _FRAME_BYTES * frames + _WINDOW_BYTES * windows
    pictures = sum(_PICTURE_BYTES + len(picture.jpeg) for picture in answer.thumbnails)
    return sum(a.nbytes for a in arrays) + objects + pictures
