"""A generated VOD for demos and tests: every frame shows its number, for programs and for people.

A frame is a mosaic of 32 x 18 blocks, drawn here and scaled up by ffmpeg, so no font is needed::

    rows 0-1     the frame's number in binary, the lowest bit on the left, white is 1
    rows 6-10    the time as minutes:seconds:frame
    row 14       a bar that grows through each second
    rows 16-17   light up during the beep of each second

A block is 40 pixels wide: the number can still be read from a scaled-down or re-encoded frame.
"""

from pathlib import Path

from local_stack.processes.ffmpeg import find_tools, run_tool

FRAMES_PER_SECOND = 30
BEEP_SECONDS = 0.1
COLUMNS, ROWS = 32, 18
_BITS = 16
_WIDTH, _HEIGHT = 1280, 720

_Colour = tuple[int, int, int]
_GREY = 127
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_NIGHT, _BLUE, _AMBER = (24, 32, 56), (88, 150, 255), (255, 176, 32)

# Digits of 3 x 5 blocks, row by row.
_GLYPHS = {
    "0": "XXX X.X X.X X.X XXX",
    "1": ".X. XX. .X. .X. XXX",
    "2": "XXX ..X XXX X.. XXX",
    "3": "XXX ..X XXX ..X XXX",
    "4": "X.X X.X XXX ..X ..X",
    "5": "XXX X.. XXX ..X XXX",
    "6": "XXX X.. XXX X.X XXX",
    "7": "XXX ..X ..X ..X ..X",
    "8": "XXX X.X XXX X.X XXX",
    "9": "XXX X.X XXX ..X XXX",
    ":": "... .X. ... .X. ...",
}


def generate_vod(
    path: Path, *, seconds: int = 60, frames_per_second: int = FRAMES_PER_SECOND, b_frames: int = 0
) -> None:
    """Write a VOD: 720p H.264 with 2-second GOPs, and AAC with a short beep at each full second.

    The suffix selects the container: .mp4, .mkv, .ts or .flv.

    Raises:
        FfmpegFailed: ffmpeg failed.
    """
    frames = b"".join(_draw(number, frames_per_second) for number in range(seconds * frames_per_second))
    raw_video = f"-f rawvideo -pix_fmt rgb24 -s {COLUMNS}x{ROWS} -r {frames_per_second} -i pipe:0"
    tone = f"sine=frequency=880:sample_rate=48000:duration={seconds}"
    video = f"-c:v libx264 -preset ultrafast -bf {b_frames} -g {2 * frames_per_second} -sc_threshold 0"
    run_tool(
        find_tools().ffmpeg,
        [
            *("-hide_banner", "-loglevel", "error", "-y", *raw_video.split()),
            *("-f", "lavfi", "-i", f"{tone},volume=0:enable='gte(mod(t,1),{BEEP_SECONDS})'"),
            *("-vf", f"scale={_WIDTH}:{_HEIGHT}:flags=neighbor,format=yuv420p"),
            *(*video.split(), "-c:a", "aac", "-b:a", "96k"),
            *(["-movflags", "+faststart"] if path.suffix == ".mp4" else []),
            path,
        ],
        stdin=frames,
    )


def read_frame_number(grey: bytes, width: int = COLUMNS) -> int:
    """Return the number in a grey frame that is scaled to a width that is a multiple of ``COLUMNS``."""
    block = width // COLUMNS
    middle = block // 2 * width + block // 2
    return sum(1 << bit for bit in range(_BITS) if grey[middle + 2 * bit * block] > _GREY)


def _draw(number: int, frames_per_second: int) -> bytes:
    second, frame = divmod(number, frames_per_second)
    mosaic = _Mosaic()
    for bit in range(_BITS):
        mosaic.fill(2 * bit, 0, (2, 2), _WHITE if number >> bit & 1 else _BLACK)
    for place, character in enumerate(f"{second // 60:02}:{second % 60:02}:{frame:02}"):
        mosaic.write(4 * place, 6, character)
    mosaic.fill(0, 14, ((frame + 1) * COLUMNS // frames_per_second, 1), _BLUE)
    if frame < BEEP_SECONDS * frames_per_second:
        mosaic.fill(0, 16, (COLUMNS, 2), _AMBER)
    return mosaic.rgb()


class _Mosaic:
    def __init__(self) -> None:
        self._blocks = [_NIGHT] * (COLUMNS * ROWS)

    def fill(self, left: int, top: int, size: tuple[int, int], colour: _Colour) -> None:
        width, height = size
        for row in range(top, top + height):
            start = row * COLUMNS + left
            self._blocks[start : start + width] = [colour] * width

    def write(self, left: int, top: int, character: str) -> None:
        for row, dots in enumerate(_GLYPHS[character].split()):
            for column, dot in enumerate(dots):
                if dot == "X":
                    self.fill(left + column, top + row, (1, 1), _WHITE)

    def rgb(self) -> bytes:
        return bytes(channel for block in self._blocks for channel in block)
