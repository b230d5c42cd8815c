"""Windows as sound: log-mel spectrograms of what is heard around the middle of each window.

16 kHz mono, windows of 25 ms every 10 ms, mel bands of Slaney's formula without its normalisation of areas; the natural
logarithm of the power. It is written with NumPy: none of the libraries that tenclip needs anyway computes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from tenclip_video.salience.sampler_spec import SamplerSpec
from tenclip_video.salience.windows import WindowInputs, windows_at_once
from tenclip_video.sampling import Clip, clip_seconds
from tenclip_video.video import Video

RATE = 16_000
STEP, WINDOW, FFT = 160, 400, 512
# Added to the power before the logarithm: that of silence.
FLOOR = 1e-6
SILENCE = float(np.log(FLOOR))
NO_SOUND = "this video has no sound: windows are ranked by pictures alone"
BAD_SOUND = "the sound of this video cannot be decoded: windows are ranked by pictures alone"
# Times of sound that differ from the count of samples by more than this are believed: a gap, or a jump.
_GAP_SECONDS = 0.1
# Samples that are turned into a spectrogram at once: 10 s.
_CHUNK = 10 * RATE


def iter_audio(video: Video, clips: Sequence[Clip], spec: SamplerSpec) -> Iterator[WindowInputs]:
    """float32 [M,T,bands,1,1] of windows: T steps of 10 ms around the middle of each. `SILENCE` outside of the sound.

    One group without inputs, and a note, where there is no sound.
    """
    if not video.info.has_audio:
        yield WindowInputs(None, (NO_SOUND,))
        return
    seconds = np.array([clip_seconds(c, video.times, video.info.duration_seconds) for c in clips])
    starts = np.round(seconds.mean(axis=1) * RATE / STEP).astype(np.int64) - spec.samples // 2
    spectrogram = _Spectrogram(read_sound(video, float(seconds.max()) + spec.samples * STEP / RATE), spec.height)
    step = windows_at_once(spec)
    for at in range(0, len(clips), step):
        group = starts[at : at + step]
        parts = [spectrogram.get(int(start), spec.samples) for start in group]
        if not spectrogram.has_sound:
            yield WindowInputs(None, (BAD_SOUND,))
            return
        yield WindowInputs(np.stack(parts)[..., None, None])


def log_mel(samples: NDArray[np.float32], bands: int) -> NDArray[np.float32]:
    """float32 [M, bands] of sound [N] at 16 kHz: M = (N - 400) // 160 + 1 windows, none for less than one."""
    if len(samples) < WINDOW:
        return np.empty((0, bands), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]
    spectrum = np.fft.rfft(frames * _hann(), FFT)
    power = spectrum.real**2 + spectrum.imag**2
    # Not `@`: OpenBLAS takes tens of MiB for its first product, and ends the process if it does not get them.
    mel = np.einsum("mf,bf->mb", power, mel_filters(bands))
    result: NDArray[np.float32] = np.log(mel + FLOOR).astype(np.float32)
    return result


@cache
def mel_filters(bands: int) -> NDArray[np.float64]:
    """[bands, 257] triangles, evenly spaced in mel (2595 log10(1 + f/700)) from 0 to 8 kHz, with peaks of 1."""
    edges = 700 * (10 ** (np.linspace(0, _mel(RATE / 2), bands + 2) / 2595) - 1)
    frequencies = np.arange(FFT // 2 + 1) * RATE / FFT
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float64)


def _mel(frequency: float) -> float:
    return float(2595 * np.log10(1 + frequency / 700))


@cache
def _hann() -> NDArray[np.float32]:
    # Periodic, scaled so that a full-scale sine has a power of about one.
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return np.asarray(window * 2 / window.sum(), np.float32)


def read_sound(video: Video, until: float) -> Iterator[NDArray[np.float32]]:
    """The sound of a video, 16 kHz mono in -1 to 1, a chunk at a time, from the time of the first picture on.

    until: seconds after the first picture. Gaps are silent; damaged packets are left out. Ends without a chunk where
    nothing can be decoded.
    """
    decoder = video.decoder
    decoder.reopen()
    stream = next((s for s in decoder.container.streams.audio if getattr(s, "codec_context", None)), None)
    if stream is None:
        return
    origin = float(int(video.index.pts[0]) * video.index.time_base)
    if not video.index.timed:
        origin = float((decoder.stream.start_time or 0) * (decoder.stream.time_base or 0))
    written, most = 0, int(until * RATE)
    try:
        for seconds, samples in _resampled(_decoded(decoder.container, stream)):
            start = written
            # Times that begin anew on the way say nothing.
            if seconds is not None and (video.index.timed or not written):
                at = round((seconds - origin) * RATE)
                if abs(at - written) > _GAP_SECONDS * RATE or not written:
                    start = at
            if start < written:  # before the first picture, or there already
                samples = samples[min(written - start, len(samples)) :]
            elif start > written:
                yield from _silence(min(start, most) - written)
                written = min(start, most)
            samples = samples[: most - written]
            written += len(samples)
            if len(samples):
                yield samples
            if written >= most:
                return
    finally:
        if not decoder.closed:
            decoder.reopen()


def _silence(count: int) -> Iterator[NDArray[np.float32]]:
    for at in range(0, count, _CHUNK):
        yield np.zeros(min(_CHUNK, count - at), np.float32)


def _decoded(container: av.container.InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """What can be decoded, in order."""
    demuxer = container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except (StopIteration, IndexError, av.FFmpegError, OSError):
            return
        try:
            yield from stream.codec_context.decode(packet)
        except (av.FFmpegError, EOFError):
            continue


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
    """(seconds or None, samples) of each frame. Where the format changes, a new resampler begins."""
    resampler = AudioResampler(format="flt", layout="mono", rate=RATE)
    for frame in frames:
        try:
            pieces = resampler.resample(frame)
        except (ValueError, av.FFmpegError):
            resampler = AudioResampler(format="flt", layout="mono", rate=RATE)
            try:
                pieces = resampler.resample(frame)
            except (ValueError, av.FFmpegError):
                continue
        for piece in pieces:
            yield piece.time, np.nan_to_num(piece.to_ndarray().reshape(-1)).astype(np.float32)
    try:
        for piece in resampler.resample(None):
            yield piece.time, piece.to_ndarray().reshape(-1).astype(np.float32)
    except (ValueError, av.FFmpegError):
        return


class _Spectrogram:
    """The log-mel spectrogram of streamed sound; what no later window needs is forgotten."""

    def __init__(self, sound: Iterator[NDArray[np.float32]], bands: int) -> None:
        self._sound, self._bands = sound, bands
        self._samples = np.empty(0, np.float32)
        self._steps = np.empty((0, bands), np.float32)
        self._first = 0  # of the steps that are kept
        self.has_sound = False
        self._ended = False

    def get(self, start: int, count: int) -> NDArray[np.float32]:
        """Steps [count, bands] from `start` on, which may lie before the beginning; starts must ascend."""
        while not self._ended and self._first + len(self._steps) < start + count:
            self._grow()
        drop = min(max(start - self._first, 0), len(self._steps))
        self._steps, self._first = self._steps[drop:], self._first + drop
        result = np.full((count, self._bands), SILENCE, np.float32)
        low, high = max(start, self._first), min(start + count, self._first + len(self._steps))
        if high > low:
            result[low - start : high - start] = self._steps[low - self._first : high - self._first]
        return result

    def _grow(self) -> None:
        """One chunk more."""
        parts = [self._samples]
        size = len(self._samples)
        while size < _CHUNK:
            part = next(self._sound, None)
            if part is None:
                self._ended = True
                break
            self.has_sound = True
            parts.append(part)
            size += len(part)
        samples = np.concatenate(parts)
        steps = log_mel(samples, self._bands)
        self._samples = samples[len(steps) * STEP :]
        self._steps = np.concatenate([self._steps, steps])
