"""Bare ffmpeg: a minimal program that cuts a clip, to compare the cutter with.

The figures from before the cutter wrote MP4 itself were measured against the same arguments, so they can be
compared with the present ones.
"""

from dataclasses import dataclass
from pathlib import Path

from clip_cutter.domain.policy import Window
from clip_shared.contracts.events import CutMode

# MPEG-TS has no index: ffmpeg seeks too far, and the clip begins without video unless reading begins earlier.
LEADS = {".ts": 6.0}
QUIETLY = ("-hide_banner", "-loglevel", "level+verbose", "-nostdin", "-nostats")
TRACKS = ("-map", "0:0", "-map", "0:1")
COPY = ("-c", "copy")
# The cutter's options for encoding.
ENCODE = (
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"),
    *("-enc_time_base:v", "1/90000", "-c:a", "aac", "-b:a", "160k", "-ac", "2"),
)
MP4 = ("-f", "mp4", "-movflags", "+faststart", "-use_editlist", "1", "-movie_timescale", "90000")
WITHOUT = ("-dn", "-sn", "-map_metadata", "-1", "-map_chapters", "-1")


@dataclass(frozen=True)
class BareFfmpeg:
    """ffmpeg, and its output file."""

    program: str
    output: Path
    threads: int

    def command(self, url: str, suffix: str, window: Window, mode: CutMode) -> list[str]:
        """Return the command that cuts a window of the VOD at ``url``, a file with ``suffix``."""
        lead = LEADS.get(suffix, 0.0)
        threads = ("-threads", str(self.threads))
        reading = (*threads, "-ss", f"{window.start - lead:.6f}", "-i", url)
        codecs = ENCODE if mode is CutMode.EXACT else COPY
        writing = (*codecs, "-t", f"{window.seconds + lead:.6f}", *threads, *WITHOUT, *MP4, "-y")
        return [self.program, *QUIETLY, *reading, *TRACKS, *writing, str(self.output)]
