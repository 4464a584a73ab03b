"""Mutations of a file: some ignore its container, others keep its structure to reach more code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
NUMBERS = (*BYTES, 0xFFFF, 0x7FFF, 0x8000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
FEW = (1, 1, 1, 2, 3, 6)  # changes to one input
LARGEST_CHUNK = 4096

# Boxes that contain boxes.
PARENTS = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"mvex", b"moof", b"traf", b"mfra"}
)
MEDIA = frozenset({b"mdat", b"free"})
BOX_HEAD = 8

PACKET, SYNC = 188, 0x47
TABLES = frozenset({0, 0x1000, 0x100})  # the PIDs that ffmpeg gives them, and one of a track
POLYNOMIAL = 0x04C11DB7

FLV_HEAD, TAG_HEAD, SIZE_BEHIND = 13, 11, 4

Mutation = Callable[[Random, bytes], bytes]


@dataclass(frozen=True)
class MutatedFile:
    """A mutated file, its changes, and whether its samples still have their own times."""

    data: bytes
    changes: tuple[str, ...] = ()
    keeps_times: bool = True


def mutate(random: Random, data: bytes, suffix: str, others: Sequence[bytes]) -> MutatedFile:
    """Change a file a few times; ``others`` are files whose parts may be inserted."""
    changes = []
    for _ in range(random.choice(FEW)):
        if others and random.random() < 0.03:
            data, name = splice(random, data, random.choice(others)), splice.__name__
        else:
            mutation = random.choice(STRUCTURED.get(suffix, GENERAL) if random.random() < 0.7 else GENERAL)
            data, name = mutation(random, data), mutation.__name__
        changes.append(name)
    return MutatedFile(data, tuple(changes), all(each in KEEPING for each in changes))


def truncate(random: Random, data: bytes) -> bytes:
    return data[: random.randint(0, len(data))]


def change_bytes(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 4, 32))) if data else ():
        changed[random.randrange(len(data))] = random.choice((random.choice(BYTES), random.randrange(256)))
    return bytes(changed)


def flip_a_bit(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def change_head(random: Random, data: bytes) -> bytes:
    """Change bytes near the start, which describe the rest of the file."""
    size = min(len(data), 1024)
    return change_bytes(random, data[:size]) + data[size:]


def change_number(random: Random, data: bytes) -> bytes:
    at = random.randrange(max(len(data) - 4, 1))
    return _number_changed(random, data, at)


def drop_chunk(random: Random, data: bytes) -> bytes:
    at, end = _chunk(random, data)
    return data[:at] + data[end:]


def repeat_chunk(random: Random, data: bytes) -> bytes:
    at, end = _chunk(random, data)
    return data[:end] + data[at:end] * random.choice((1, 1, 3)) + data[end:]


def blank_chunk(random: Random, data: bytes) -> bytes:
    at, end = _chunk(random, data)
    return data[:at] + bytes([random.choice(BYTES)]) * (end - at) + data[end:]


def insert_bytes(random: Random, data: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.choice((1, 2, 7, 100, 1000))) + data[at:]


def splice(random: Random, data: bytes, other: bytes) -> bytes:
    at, end = _chunk(random, other)
    place = random.randint(0, len(data))
    return data[:place] + other[at:end] + data[place:]


def _chunk(random: Random, data: bytes) -> tuple[int, int]:
    at = random.randint(0, len(data))
    return at, min(at + random.randint(0, random.choice((16, 188, LARGEST_CHUNK))), len(data))


def _number_changed(random: Random, data: bytes, at: int) -> bytes:
    size = random.choice((1, 2, 4, 4, 4, 8))
    old = int.from_bytes(data[at : at + size])
    near = (old + 1, old - 1, old * 2, old // 2, -old)
    new = random.choice((random.choice(NUMBERS), random.choice(near), random.getrandbits(8 * size)))
    return data[:at] + (new & (1 << 8 * size) - 1).to_bytes(size) + data[at + size :]


@dataclass(frozen=True)
class _Box:
    """A box; ``parents`` are the offsets of the boxes around it, from the outermost on."""

    kind: bytes
    start: int
    end: int
    parents: tuple[int, ...]


def _boxes(data: bytes, start: int, end: int, parents: tuple[int, ...] = ()) -> Iterator[_Box]:
    while start + BOX_HEAD <= end:
        size, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        if not BOX_HEAD <= size <= end - start:
            return
        yield _Box(kind, start, start + size, parents)
        if kind in PARENTS:
            yield from _boxes(data, start + BOX_HEAD, start + size, (*parents, start))
        start += size


def _any_box(random: Random, data: bytes, *, leaf: bool) -> _Box | None:
    boxes = [
        box
        for box in _boxes(data, 0, len(data))
        if box.kind not in MEDIA and not (leaf and box.kind in PARENTS)
    ]
    return random.choice(boxes) if boxes else None


def change_in_box(random: Random, data: bytes) -> bytes:
    """Change a number in a box without children: usually among its first numbers, which have most effect."""
    if (box := _any_box(random, data, leaf=True)) is None or box.end - box.start < 2 * BOX_HEAD:
        return data
    last = min(box.end, box.start + random.choice((24, 64, 2**20))) - 4
    return _number_changed(random, data, random.randrange(box.start + BOX_HEAD, max(last, box.start + 9)))


def change_box_head(random: Random, data: bytes) -> bytes:
    if (box := _any_box(random, data, leaf=False)) is None:
        return data
    if random.random() < 0.5:
        return _number_changed(random, data, box.start)
    kind = bytes(random.choice((b"free", b"moov", b"trak", b"moof", b"stsz", b"co64", b"ctts", b"sidx")))
    return data[: box.start + 4] + kind + data[box.start + 8 :]


def drop_box(random: Random, data: bytes) -> bytes:
    box = _any_box(random, data, leaf=False)
    return data if box is None else _replaced(data, box, b"")


def repeat_box(random: Random, data: bytes) -> bytes:
    box = _any_box(random, data, leaf=False)
    return data if box is None else _replaced(data, box, data[box.start : box.end] * random.choice((2, 3)))


def resize_table(random: Random, data: bytes) -> bytes:
    """Cut off rows of a table, or add some, and leave its count as it is."""
    if (box := _any_box(random, data, leaf=True)) is None:
        return data
    content = data[box.start + BOX_HEAD : box.end]
    rows = content[: random.randint(0, len(content))] + random.randbytes(random.choice((0, 0, 4, 12, 64)))
    return _replaced(data, box, (BOX_HEAD + len(rows)).to_bytes(4) + box.kind + rows)


def _replaced(data: bytes, box: _Box, new: bytes) -> bytes:
    """Replace a box with other bytes, and correct the sizes of the boxes around it."""
    grown = len(new) - (box.end - box.start)
    changed = bytearray(data[: box.start] + new + data[box.end :])
    for start in box.parents:
        size = int.from_bytes(data[start : start + 4]) + grown
        changed[start : start + 4] = (size % 2**32).to_bytes(4)
    return bytes(changed)


def _packets(data: bytes) -> list[bytes]:
    return [data[at : at + PACKET] for at in range(0, len(data), PACKET)]


def lose_packets(random: Random, data: bytes) -> bytes:
    packets = _packets(data)
    at = random.randrange(len(packets) or 1)
    return b"".join(packets[:at] + packets[at + random.choice((1, 1, 3, 20)) :])


def repeat_packets(random: Random, data: bytes) -> bytes:
    packets = _packets(data)
    at, count = random.randrange(len(packets) or 1), random.choice((1, 2, 30))
    return b"".join(packets[: at + count] + packets[at : at + count] + packets[at + count :])


def swap_packets(random: Random, data: bytes) -> bytes:
    packets = _packets(data)
    if len(packets) > 1:
        one, other = random.randrange(len(packets)), random.randrange(len(packets))
        packets[one], packets[other] = packets[other], packets[one]
    return b"".join(packets)


def change_packet_head(random: Random, data: bytes) -> bytes:
    at = random.randrange(max(len(data) // PACKET, 1)) * PACKET
    return data[:at] + change_bytes(random, data[at : at + 8]) + data[at + 8 :]


def change_table(random: Random, data: bytes) -> bytes:
    """Change a section of tables, and make its checksum right again (ISO/IEC 13818-1 §2.4.4)."""
    places = [at for at in range(0, len(data) - PACKET, PACKET) if _starts_section(data[at : at + PACKET])]
    if not places:
        return data
    at = random.choice(places)
    packet = bytearray(data[at : at + PACKET])
    size = 3 + ((packet[6] & 15) << 8 | packet[7])
    if not 8 <= size <= PACKET - 5:
        return data
    for _ in range(random.choice((1, 2))):
        packet[random.randrange(5, 5 + size - 4)] = random.choice(
            (random.randrange(256), 0, 0x0F, 0x1B, 0xFF)
        )
    packet[5 + size - 4 : 5 + size] = _crc(bytes(packet[5 : 5 + size - 4])).to_bytes(4)
    return data[:at] + bytes(packet) + data[at + PACKET :]


def change_stamps(random: Random, data: bytes) -> bytes:
    """Move the time stamps of some PES packets (§2.4.3.7)."""
    changed = bytearray(data)
    places = [at for at in range(0, len(data) - PACKET, PACKET) if data[at + 1] & 0x40]
    for at in random.sample(places, min(len(places), random.choice((1, 2, 50)))):
        if (start := data.find(b"\0\0\1", at, at + PACKET)) >= 0:
            place = min(start + random.randrange(9, 19), len(changed) - 1)
            changed[place] = random.randrange(256)
    return bytes(changed)


def _starts_section(packet: bytes) -> bool:
    pid = (packet[1] & 0x1F) << 8 | packet[2]
    return packet[0] == SYNC and pid in TABLES and packet[1] & 0x40 > 0 and packet[4] == 0


def _crc(section: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in section:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (POLYNOMIAL if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def _tags(data: bytes) -> list[bytes]:
    """Split an FLV into its head, and its tags with the size after each tag."""
    parts, at = [data[:FLV_HEAD]], FLV_HEAD
    while at < len(data):
        end = at + TAG_HEAD + int.from_bytes(data[at + 1 : at + 4]) + SIZE_BEHIND
        parts.append(data[at:end])
        at = end
    return parts


def lose_tags(random: Random, data: bytes) -> bytes:
    tags = _tags(data)
    at = random.randint(1, len(tags))
    return b"".join(tags[:at] + tags[at + random.choice((1, 1, 3, 20)) :])


def repeat_tags(random: Random, data: bytes) -> bytes:
    tags = _tags(data)
    at, count = random.randint(1, len(tags)), random.choice((1, 2, 30))
    return b"".join(tags[: at + count] + tags[at : at + count] + tags[at + count :])


def swap_tags(random: Random, data: bytes) -> bytes:
    tags = _tags(data)
    one, other = random.randrange(len(tags)), random.randrange(len(tags))
    tags[one], tags[other] = tags[other], tags[one]
    return b"".join(tags)


def change_tag_head(random: Random, data: bytes) -> bytes:
    """Change a tag's type, size or time, or the first bytes of its body."""
    tags = _tags(data)
    at = random.randrange(len(tags))
    tags[at] = _number_changed(random, tags[at], random.randrange(TAG_HEAD + 8))
    return b"".join(tags)


def move_tags(random: Random, data: bytes) -> bytes:
    """Shift the times of all tags after some tag, as a publisher does that reconnects."""
    tags = _tags(data)
    first, shift = random.randrange(len(tags)), random.choice((-(2**31), -5000, -100, 100, 20_000, 2**31))
    for at in range(first, len(tags)):
        time = int.from_bytes(tags[at][4:7]) | (tags[at] + bytes(8))[7] << 24
        time = (time + shift) % 2**32
        tags[at] = tags[at][:4] + (time & 0xFFFFFF).to_bytes(3) + bytes([time >> 24]) + tags[at][8:]
    return b"".join(tags)


GENERAL: Sequence[Mutation] = (
    truncate,
    change_bytes,
    flip_a_bit,
    change_head,
    change_number,
    drop_chunk,
    repeat_chunk,
    blank_chunk,
    insert_bytes,
)
STRUCTURED: Mapping[str, Sequence[Mutation]] = {
    ".mp4": (
        change_in_box,
        change_in_box,
        change_in_box,
        change_box_head,
        drop_box,
        repeat_box,
        resize_table,
    ),
    ".ts": (lose_packets, repeat_packets, swap_packets, change_packet_head, change_table, change_stamps),
    ".flv": (lose_tags, repeat_tags, swap_tags, change_tag_head, move_tags),
}
# Mutations after which the remaining samples still have their own times.
KEEPING = frozenset({truncate.__name__, lose_packets.__name__, lose_tags.__name__})
