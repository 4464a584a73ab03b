"""The interface of an opened VOD."""

from typing import Protocol

from clip_cutter.containers.model import Excerpt
from clip_cutter.domain.policy import Window
from clip_cutter.scratch import Job
from clip_cutter.vods.source import Source


class Vod(Protocol):
    """An opened VOD. There is one class for each way to read VODs, chosen when the VOD is opened."""

    @property
    def seconds(self) -> float | None:
        """When its video ends, in seconds from the start that a viewer sees; None: unknown."""
        ...

    async def excerpt(self, source: Source, window: Window, job: Job) -> Excerpt:
        """Read the samples that a window needs into the job's folder.

        ``source`` is the VOD that was opened, with a URL that is valid now.

        Raises:
            UnsupportedMedia: this part of the VOD must be read by ffmpeg.
            Skipped: no clip can be made of this part of the VOD.
            TransientError: the storage or the scratch disk is unavailable.
        """
        ...
