from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_video.salience import audio, default_spec, read_windows, windows
from tenclip_video.salience.audio import BAD_SOUND, NO_SOUND, RATE, SILENCE, log_mel, mel_filters, read_sound
from tenclip_video.salience.inputs import iter_windows
from tenclip_video.spec import ClipSpec
from tenclip_video.video import open_video
from tests.tenclip_video.salience.panning import windows_of
from tests.videos import Recipe, make_video, numbered_frame

MODEL = ClipSpec(num_frames=16)
SAMPLER = default_spec("audio", MODEL)
Sound = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def burst(start: float, end: float, frequency: float = 1000.0) -> Sound:
    return lambda t: np.where((t >= start) & (t < end), np.sin(2 * np.pi * frequency * t), 0)


def video_with_sound(
    sound: Sound,
    *,
    seconds: float = 4.0,
    picture_start: float = 0.0,
    sound_start: float = 0.0,
    gap: tuple[float, float] | None = None,
    rate: int = 44_100,
    layout: str = "mono",
    codec: str = "pcm_s16le",
    container: str = "matroska",
) -> bytes:
    """25 frames a second from `picture_start`, and sound, a function of the time of the container, from `sound_start`.

    gap: packets between these times are left out.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        pictures, heard = out.add_stream("libx264", rate=25), out.add_stream(codec, rate=rate)
        assert isinstance(pictures, av.VideoStream)
        assert isinstance(heard, av.AudioStream)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.codec_context.thread_count = 1
        heard.codec_context.layout = layout
        for number in range(int(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, 48, 64), format="rgb24")
            frame.pts, frame.time_base = number + round(picture_start * 25), Fraction(1, 25)
            out.mux(pictures.encode(frame))
        out.mux(pictures.encode(None))
        step, first = 1024, round(sound_start * rate)
        for at in range(first, round((picture_start + seconds) * rate), step):
            if gap and gap[0] <= at / rate < gap[1]:
                continue
            wave = (16_000 * sound(np.arange(at, at + step) / rate)).astype(np.int16)
            channels = 2 if layout == "stereo" else 1
            samples = av.AudioFrame.from_ndarray(np.repeat(wave, channels)[None, :], format="s16", layout=layout)
            samples.sample_rate, samples.pts, samples.time_base = rate, at, Fraction(1, rate)
            out.mux(heard.encode(samples))
        out.mux(heard.encode(None))
    return file.getvalue()


def loud_seconds(data: bytes) -> tuple[float, float]:
    """(first, last) second, from the first picture on, at which the sound is loud."""
    with open_video(data) as video:
        samples = np.concatenate([np.empty(0, np.float32), *read_sound(video, video.info.duration_seconds)])
        assert samples.dtype == np.float32
        assert len(samples) <= video.info.duration_seconds * RATE + 1
    loud = np.flatnonzero(np.abs(samples) > 0.2)
    return float(loud[0] / RATE), float(loud[-1] / RATE)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, 0.0),
        ({"picture_start": 0.6}, 0.6),
        ({"sound_start": 0.8}, 0.0),
        ({"picture_start": 0.4, "sound_start": 0.8}, 0.4),
        ({"gap": (0.5, 1.2)}, 0.0),
        ({"rate": 16_000, "layout": "stereo"}, 0.0),
        ({"codec": "aac", "container": "mp4"}, 0.0),
        ({"codec": "aac", "container": "mpegts"}, 0.0),
    ],
    ids=lambda v: str(v),
)
def test_sound_is_heard_when_it_is_played(changes: dict[str, object], start: float) -> None:
    """Both streams have starts of their own, and the time of a window counts from the first picture."""
    first, last = loud_seconds(video_with_sound(burst(1.5, 2.0), **changes))  # type: ignore[arg-type]
    assert first == pytest.approx(1.5 - start, abs=0.05)
    assert last == pytest.approx(2.0 - start, abs=0.05)


def test_windows_hear_what_is_around_their_middle() -> None:
    with open_video(video_with_sound(burst(1.5, 2.0))) as video:
        clips = windows_of(video, SAMPLER, MODEL)
        found = read_windows(video, clips, SAMPLER)
        seconds = np.array([(min(c.frames) / 25, (max(c.frames) + 1) / 25) for c in clips])
    assert found.notes == ()
    assert found.inputs is not None
    assert found.inputs.shape == (len(clips), 64, 40, 1, 1)
    assert found.inputs.dtype == np.float32
    loud = (found.inputs.max(axis=(2, 3, 4)) > SILENCE + 5).mean(axis=1)
    overlap = np.clip(np.minimum(seconds[:, 1], 2.0) - np.maximum(seconds[:, 0], 1.5), 0, None) / 0.64
    np.testing.assert_allclose(loud, overlap, atol=0.08)
    assert loud.max() > 0.6
    assert (loud == 0).sum() >= 4


def test_steps_before_and_after_the_sound_are_silent() -> None:
    spec = default_spec("audio", MODEL, samples=1000)
    with open_video(video_with_sound(burst(0, 9))) as video:
        inputs = read_windows(video, windows_of(video, spec, MODEL)[:1], spec).inputs
    assert inputs is not None
    loud = np.flatnonzero(inputs[0].max(axis=(1, 2, 3)) > SILENCE + 5)
    # 10 s around 0.32 s.
    assert loud[0] == pytest.approx(468, abs=3)
    assert loud[-1] == pytest.approx(468 + 400, abs=5)


def test_a_tone_is_in_its_band() -> None:
    times = np.arange(RATE) / RATE
    for frequency in (200, 1000, 5000):
        bands = log_mel(np.sin(2 * np.pi * frequency * times).astype(np.float32), 40)
        assert bands.shape == (98, 40)
        peaks = mel_filters(40).argmax(axis=1) * RATE / 512
        assert abs(peaks[bands.mean(axis=0).argmax()] - frequency) <= max(35, 0.07 * frequency)


def test_the_spectrogram_is_what_its_definition_says() -> None:
    """Each step by the sum of a discrete Fourier transform, and each band by its triangle."""
    samples = np.random.default_rng(0).normal(0, 0.1, 720).astype(np.float32)
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 12)
    edges = 700 * (10 ** (mels / 2595) - 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    window *= 2 / window.sum()
    expected = np.zeros((3, 10))
    for step in range(3):
        part = samples[160 * step : 160 * step + 400] * window
        for k in range(257):
            power = abs(np.sum(part * np.exp(-2j * np.pi * k * np.arange(400) / 512))) ** 2
            hertz = k * 16_000 / 512
            for band, (left, peak, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
                weight = min((hertz - left) / (peak - left), (right - hertz) / (right - peak))
                expected[step, band] += max(0.0, weight) * power
    np.testing.assert_allclose(log_mel(samples, 10), np.log(expected + 1e-6), rtol=1e-4)


def test_silence_and_too_little_sound() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(800, np.float32), 40), SILENCE)
    assert log_mel(np.zeros(399, np.float32), 40).shape == (0, 40)


def test_chunks_and_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.sin(2 * np.pi * (300 * t + 200 * t**2)))

    with open_video(video_with_sound(noise)) as video:
        clips = windows_of(video, SAMPLER, MODEL)
        whole = read_windows(video, clips, SAMPLER).inputs
        monkeypatch.setattr(audio, "_CHUNK", 1700)
        monkeypatch.setattr(windows, "_MIN_GROUP", 2)
        monkeypatch.setattr(windows, "_MAX_GROUP", 2)
        groups = [g.inputs for g in iter_windows(video, clips, SAMPLER)]
    assert len(groups) > 4
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate([g for g in groups if g is not None]), whole)


def test_a_video_without_sound() -> None:
    with open_video(make_video(Recipe())) as video:
        found = read_windows(video, windows_of(video, SAMPLER, MODEL), SAMPLER)
    assert found.inputs is None
    assert found.notes == (NO_SOUND,)


def test_sound_that_cannot_be_decoded() -> None:
    """Its packets are there, and hold nonsense."""
    data = make_video(Recipe(container="matroska", audio=True))
    broken = bytearray(data)
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux(container.streams.audio[0]):
            at = data.find(bytes(packet)) if packet.size > 8 else -1
            if at >= 0:
                broken[at : at + packet.size] = b"\xff" * packet.size
    with open_video(bytes(broken)) as video:
        found = read_windows(video, windows_of(video, SAMPLER, MODEL), SAMPLER)
    assert found.inputs is None
    assert found.notes == (BAD_SOUND,)


def test_pictures_can_be_read_after_the_sound() -> None:
    with open_video(video_with_sound(burst(0, 1))) as video:
        clips = windows_of(video, SAMPLER, MODEL)
        rgb = default_spec("rgb", MODEL)
        expected = read_windows(video, clips, rgb).inputs
        read_windows(video, clips, SAMPLER)
        found = read_windows(video, clips, rgb).inputs
    assert expected is not None
    assert found is not None
    np.testing.assert_array_equal(found, expected)


def test_sound_ends_where_it_ends() -> None:
    with open_video(video_with_sound(burst(0, 9), seconds=2.0)) as video:
        assert sum(map(len, read_sound(video, 10.0))) == pytest.approx(2.0 * RATE, abs=1100)


@pytest.mark.parametrize(
    ("span", "fps", "expected"), [(16, None, 64), (32, 15.0, 213), (1, None, 32), (10_000, 1.0, 1000)]
)
def test_windows_of_sound_are_as_long_as_clips(span: int, fps: float | None, expected: int) -> None:
    assert default_spec("audio", ClipSpec(num_frames=span, target_fps=fps)).samples == expected
