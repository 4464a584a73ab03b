"""An opened VOD: what every way of reading one offers."""

from typing import Protocol

from clip_cutter.containers.model import Excerpt
from clip_cutter.domain.policy import Window
from clip_cutter.scratch import Job
from clip_cutter.vods.source import Source


class Vod(Protocol):
    """A VOD whose container is known. One class for each way of reading, chosen once when it is opened."""

    @property
    def seconds(self) -> float | None:
        """Return how far its video reaches, as a viewer of the file counts; None where nobody knows."""
        ...

    async def excerpt(self, source: Source, window: Window, job: Job) -> Excerpt:
        """Read what a window needs into the job's folder.

        ``source`` is the VOD that was opened, reached by what is valid now.

        Raises:
            UnsupportedMedia: this stretch is left to ffmpeg.
            Skipped: no clip can be made of it.
            TransientError: the storage, or the scratch disk, is out.
        """
        ...
