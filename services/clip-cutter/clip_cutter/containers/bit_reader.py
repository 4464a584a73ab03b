"""Reads bits as the MPEG standards write them: the most significant bit first."""

from clip_cutter.containers.model import UnsupportedMedia

MAX_ZEROS = 32  # leading zero bits of an Exp-Golomb code: the number then fits into 32 bits


class BitReader:
    """Reads bits in order; ``position`` is the number of bits read so far.

    Raises:
        UnsupportedMedia: (every method) the data ends before the last bit that was asked for.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def left(self) -> int:
        """Return the number of bits that are not read yet."""
        return len(self._data) * 8 - self.position

    def read(self, count: int) -> int:
        """Read the next ``count`` bits as an unsigned number."""
        if count > self.left:
            raise UnsupportedMedia(f"header: {count} bits wanted, but only {self.left} are left")
        first, end = self.position >> 3, (self.position + count + 7) >> 3
        number = int.from_bytes(self._data[first:end]) >> (-(self.position + count) & 7)
        self.position += count
        return number & ((1 << count) - 1)

    def flag(self) -> bool:
        """Read the next bit; return whether it is set."""
        return bool(self.read(1))

    def exp_golomb(self) -> int:
        """Read an unsigned number in Exp-Golomb code (ITU-T H.264 §9.1, ``ue(v)``)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > MAX_ZEROS:
                raise UnsupportedMedia(f"Exp-Golomb code: more than {MAX_ZEROS} leading zero bits")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed_exp_golomb(self) -> int:
        """Read a signed number in Exp-Golomb code (ITU-T H.264 §9.1.1, ``se(v)``)."""
        number = self.exp_golomb()
        return (number + 1) // 2 if number & 1 else -(number // 2)
