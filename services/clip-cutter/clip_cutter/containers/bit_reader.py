"""Bits, in the order in which the standards of MPEG write them: the most significant first."""

from clip_cutter.containers.model import UnsupportedMedia

MAX_ZEROS = 32  # before an exp-Golomb number: what it says fits 32 bits


class BitReader:
    """Reads bits one after the other. ``position`` counts them from the start of ``data``.

    Every method raises UnsupportedMedia where the data ends too early.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def left(self) -> int:
        """Return how many bits are still to come."""
        return len(self._data) * 8 - self.position

    def read(self, count: int) -> int:
        """Return the unsigned number that the next ``count`` bits write."""
        if count > self.left:
            raise UnsupportedMedia("a header that ends too early")
        first, end = self.position >> 3, (self.position + count + 7) >> 3
        number = int.from_bytes(self._data[first:end]) >> (-(self.position + count) & 7)
        self.position += count
        return number & ((1 << count) - 1)

    def flag(self) -> bool:
        """Return whether the next bit is set."""
        return bool(self.read(1))

    def exp_golomb(self) -> int:
        """Return an unsigned number in exp-Golomb code (ITU-T H.264 §9.1, ``ue(v)``)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > MAX_ZEROS:
                raise UnsupportedMedia("a number of more than 32 bits")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed_exp_golomb(self) -> int:
        """Return a signed number in exp-Golomb code (ITU-T H.264 §9.1.1, ``se(v)``)."""
        number = self.exp_golomb()
        return (number + 1) // 2 if number & 1 else -(number // 2)
