"""H.264 in MP4 (ISO/IEC 14496-15): what kind of keyframe a sample is."""

IDR, NON_IDR = 5, 1  # kinds of NAL units that hold pictures (ITU-T H.264, table 7-1)
KIND = 0x1F


def is_refresh(description: bytes, sample: bytes) -> bool:
    """Whether decoding can begin with a sample whatever came before it: an IDR picture.

    A keyframe in an open GOP is none. ffmpeg decodes from it all the same; Chromium's decoder gives up when
    pictures after it speak of others before it.

    Args:
        description: the box that describes the format (``stsd``), with its ``avcC``.
        sample: one sample: NAL units, each after its length.
    """
    configuration = description.find(b"avcC")
    if configuration < 0:
        return False
    size = (description[configuration + 8] & 3) + 1
    at = 0
    while at + size < len(sample):
        kind = sample[at + size] & KIND
        if kind in (IDR, NON_IDR):
            return kind == IDR
        at += size + int.from_bytes(sample[at : at + size])
    return False
