"""Every knob of the cutter."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import NoDecode

from clip_cutter.domain.plan import ModeChoice
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import BucketName, Identifier
from clip_shared.http.settings import ServiceSettings
from clip_shared.settings import EnvironmentSettings
from clip_shared.storage import Addressing, FreeStorageSettings, require_both_keys

MEBIBYTE = 1024 * 1024

Text = Annotated[str, StringConstraints(min_length=1)]


class SourceProfile(BaseModel):
    """A place that VODs are read from, and the only buckets there that may be named.

    Without ``endpoint`` it is AWS; without keys boto3's own chain signs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: AnyHttpUrl | None = Field(default=None, description="S3 endpoint; unset: AWS.")
    region: Text = Field(default="us-east-1", description="S3 region for signatures.")
    addressing: Addressing = Field(
        default="path", description="Place of the bucket's name in URLs, as for FREE_STORAGE_ADDRESSING."
    )
    access_key: Text | None = Field(default=None, description="S3 access key; unset: the usual chain of AWS.")
    secret_key: SecretStr | None = Field(default=None, description="S3 secret key, with the access key.")
    buckets: Annotated[frozenset[BucketName], Field(min_length=1)] = Field(
        description="The buckets that highlights may name; any other is refused."
    )

    @model_validator(mode="after")
    def _both_keys_or_neither(self) -> Self:
        require_both_keys("source profile", self.access_key, self.secret_key)
        return self


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


# pydantic-settings would report bad JSON by an error of its own, apart from all other problems.
Profiles = Annotated[dict[Identifier, SourceProfile], NoDecode, BeforeValidator(_from_json)]


class CuttingSettings(EnvironmentSettings):
    """How clips are cut, wherever the VOD comes from."""

    cut_mode: ModeChoice = Field(
        default=ModeChoice.AUTO,
        description="auto: copy what every browser plays (H.264, AAC), re-encode the rest;"
        " copy: copy whatever MP4 can hold; exact: always re-encode.",
    )
    min_clip_seconds: float = Field(default=1, gt=0, description="Shorter highlights are skipped.")
    max_clip_seconds: float = Field(
        default=180, gt=0, le=3600, description="Longer ones are trimmed around their middle."
    )
    max_clips_per_vod: int | None = Field(
        default=None,
        ge=1,
        description="Highlights of a worse rank are skipped; unset: none. Unranked ones pass.",
    )
    job_deadline_seconds: float = Field(
        default=600, gt=0, description="Seconds after which a job is given up."
    )
    encoding_deadline_seconds: float = Field(
        default=1800, gt=0, description="Seconds after which a job that re-encodes video is given up."
    )
    scratch_dir: Path = Field(
        default=Path(tempfile.gettempdir()) / "clip-cutter",
        description="Where clips are worked on, and indexes of VODs kept; what dead cutters left there is"
        " removed at start.",
    )
    max_clip_mebibytes: int = Field(default=2048, ge=1, description="No file on scratch grows larger (MiB).")
    index_cache_mebibytes: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Most that indexes of the latest VODs take of that disk (MiB); they give way to jobs.",
    )
    ffmpeg_path: str | None = Field(
        default=None, description="ffmpeg 9.0; unset: the one that is installed with this package."
    )
    ffprobe_path: str | None = Field(
        default=None, description="ffprobe 8.1; unset: the one that is installed with this package."
    )
    ffmpeg_threads: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        ge=1,
        le=64,
        description="Threads that one ffmpeg may use; unset: one for each CPU.",
    )
    ffmpeg_memory_mebibytes: int = Field(
        default=4096, ge=256, description="Address space that one ffmpeg may use (MiB)."
    )

    @model_validator(mode="after")
    def _shortest_before_longest(self) -> Self:
        if self.min_clip_seconds > self.max_clip_seconds:
            raise ValueError("MIN_CLIP_SECONDS is greater than MAX_CLIP_SECONDS")
        return self


class CutterSettings(ServiceSettings, KafkaSettings, FreeStorageSettings, CuttingSettings):
    """Everything that ``serve`` needs."""

    skip_limit: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Most missing VODs, and highlights of unreadable VODs, that one process skips for a"
        " profile within the window; at more it holds highlights back.",
    )
    skip_window_seconds: float = Field(
        default=600, gt=0, le=86_400, description="The window of that limit, in seconds."
    )
    source_storage_profiles: Profiles = Field(
        default_factory=dict,
        description='Where VODs are, as JSON: {"name": {"buckets": ["vods"], "endpoint": "https://…", …}}.'
        " Highlights name a profile and one of its buckets.",
    )
