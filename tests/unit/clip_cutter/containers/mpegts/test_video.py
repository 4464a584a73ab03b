"""Pictures out of PES packets: size and number are limited."""

from io import BytesIO

import pytest

from clip_cutter.containers import stream
from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.containers.mpegts.pes import PesPacket
from clip_cutter.containers.mpegts.video import MAX_PICTURE_BYTES, TransportVideoSamples
from tests.unit.clip_cutter.containers.mpegts.builders import AUD, INTER, keyframe, units


def picture(number: int) -> PesPacket:
    data = keyframe() if number == 0 else units(AUD, INTER)
    return PesPacket(data, number, 3000 * number, 3000 * number, is_random_access=number == 0)


def test_a_picture_that_does_not_end_is_refused() -> None:
    video = TransportVideoSamples(BytesIO(), dict)
    video.add(picture(0))
    more = PesPacket(bytes(1 << 20), 1, None, None, is_random_access=False)
    for _ in range((MAX_PICTURE_BYTES >> 20) - 1):
        video.add(more)
    with pytest.raises(UnsupportedMedia, match="does not end"):
        video.add(more)


def test_pictures_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_SAMPLES", 10)
    video = TransportVideoSamples(BytesIO(), dict)
    for number in range(11):
        video.add(picture(number))
    with pytest.raises(UnsupportedMedia, match="10 samples around a window"):
        video.add(picture(11))
