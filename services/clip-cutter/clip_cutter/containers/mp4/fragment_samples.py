"""Collects the samples of consecutive fragments, and selects those that a window needs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clip_cutter.containers.model import ROUNDING_SECONDS, Damage, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.fragments import Fragment, FragmentedTrack, Header, TrackFragment

AUDIO_BEFORE_SECONDS, AUDIO_AFTER_SECONDS = 0.25, 0.1
MAX_SAMPLES = 250_000  # of a track, around a window
MAX_LAG_SECONDS = 5.0  # a track may be later by this than the other tracks beside it in the file


class FragmentSamples:
    """Collects the samples of consecutive fragments.

    Args:
        header: the file's header.
        zero: start of the VOD, in seconds of the movie.
        file_size: in bytes; samples after the end of the file are left out.
    """

    def __init__(self, header: Header, zero: float, file_size: int) -> None:
        self._zero, self._file_size = zero, file_size
        self._tracks = {track.number: track for track in header.tracks}
        self._samples: dict[int, list[Sample]] = {number: [] for number in self._tracks}
        self._ends = dict.fromkeys(self._tracks, float("-inf"))
        self._damages: list[Damage] = []

    def has_passed(self, seconds: float, fragment: Fragment, shift: float) -> bool:
        """Return whether the next fragment, and all fragments after it, begin after a time of the VOD.

        A track that has fragments of its own may be later in the file than the other tracks.

        Args:
            seconds: the time, in seconds of the VOD.
            fragment: the next fragment.
            shift: seconds to add to the fragment's times.
        """
        starts = {traf.track: self._tracks[traf.track].seconds(traf.start) + shift for traf in fragment.trafs}
        if not starts or min(starts.values()) < seconds:
            return False
        waiting = {number for number, end in self._ends.items() if end < seconds}
        return waiting <= starts.keys() or min(starts.values()) > seconds + MAX_LAG_SECONDS

    def add_damage(self, why: str) -> None:
        """Add a damage at the end of the samples so far."""
        self._damages.append(Damage(max(0.0, *self._ends.values()), why))

    def add(self, fragment: Fragment, shift: float) -> None:
        """Append the samples of a fragment; ``shift`` is the number of seconds to add to its times.

        Raises:
            UnsupportedMedia: a track has more than 250,000 samples.
        """
        for traf in fragment.trafs:
            self._add(traf, shift)

    def _add(self, traf: TrackFragment, shift: float) -> None:
        track, samples = self._tracks[traf.track], self._samples[traf.track]
        ticks = round((shift + self._zero) * track.timescale)
        last = samples[-1].decoded if samples else None
        added = [
            each._replace(decoded=each.decoded + ticks, shown=each.shown + ticks)
            for each in traf.samples
            if each.size and each.offset + each.size <= self._file_size
            if last is None or each.decoded + ticks >= last
        ]
        if not added:
            return
        if samples:
            samples[-1] = _lasting_until(samples[-1], added[0], track.kind)
        samples += _moved_to_end(samples[-1], added) if samples and track.kind is TrackKind.AUDIO else added
        if len(samples) > MAX_SAMPLES:
            raise UnsupportedMedia(f"moof: more than {MAX_SAMPLES} samples around the window")
        end = added[-1].decoded + added[-1].length
        self._ends[traf.track] = track.seconds(end) - self._zero

    def tracks(self, start: float, end: float) -> list[Track]:
        """Return the samples of each track that a window needs, video first; offsets are those in the VOD.

        A track without samples in the window is left out.
        """
        found = [self._track(track, start, end) for track in self._tracks.values()]
        return [track for track in found if track.samples]

    def _track(self, track: FragmentedTrack, start: float, end: float) -> Track:
        every = Track(
            track.kind,
            track.timescale,
            track.formats,
            self._samples[track.number],
            Path(),
            track.origin - self._zero,
            display=track.display,
        )
        choose = _needed_video if track.kind is TrackKind.VIDEO else _needed_audio
        samples = choose(every, start, end)
        used = sorted({sample.format for sample in samples})
        since = every.seconds(samples[0].shown) if samples else end
        return replace(
            every,
            formats=tuple(track.formats[number] for number in used),
            samples=[each._replace(format=used.index(each.format)) for each in samples],
            damages=tuple(damage for damage in self._damages if since <= damage.seconds < end),
        )


def _moved_to_end(last: Sample, added: Sequence[Sample]) -> list[Sample]:
    """Move audio samples of length 0 to the end of the sample before them.

    ffmpeg writes samples of length 0, with the time of the next sample, if each picture is a fragment.
    """
    placed: list[Sample] = []
    for sample in added:
        end = last.decoded + last.length
        if not sample.length and end < sample.decoded:
            late = sample.decoded - end
            sample = sample._replace(decoded=end, shown=sample.shown - late, length=late)  # noqa: PLW2901
        placed.append(last := sample)
    return placed


def _lasting_until(sample: Sample, after: Sample, kind: TrackKind) -> Sample:
    """Return a fragment's last sample with a length up to the next sample; audio becomes shorter only."""
    step = after.decoded - sample.decoded
    return sample._replace(length=step if kind is TrackKind.VIDEO else min(step, sample.length))


def _needed_video(track: Track, start: float, end: float) -> Sequence[Sample]:
    """Return the samples from the keyframe before a window to the last sample shown before its end."""
    keyframes = [at for at, sample in enumerate(track.samples) if sample.is_keyframe]
    if not keyframes:
        return ()
    from_, to = track.ticks(start + ROUNDING_SECONDS), track.ticks(end)
    before = [at for at in keyframes if track.samples[at].shown <= from_]
    last = max((at for at, sample in enumerate(track.samples) if sample.shown < to), default=-1)
    return track.samples[before[-1] if before else keyframes[0] : last + 1]


def _needed_audio(track: Track, start: float, end: float) -> Sequence[Sample]:
    from_, to = track.ticks(start - AUDIO_BEFORE_SECONDS), track.ticks(end + AUDIO_AFTER_SECONDS)
    found = [sample for sample in track.samples if sample.shown + sample.length > from_ and sample.shown < to]
    inside = track.ticks(start), track.ticks(end)
    # Samples before and after the window alone do not count as audio in the window.
    if not any(each.shown + each.length > inside[0] and each.shown < inside[1] for each in found):
        return ()
    return found
