"""The settings of the cutter, from environment variables. docs/reference/settings.md is made from them."""

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
    """An S3 server that VODs are read from, with the buckets that highlights may name.

    Without ``endpoint`` the server is AWS. Without keys, boto3 finds them as the AWS tools do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: AnyHttpUrl | None = Field(default=None, description="S3 endpoint; unset: AWS.")
    region: Text = Field(default="us-east-1", description="S3 region for signatures.")
    addressing: Addressing = Field(
        default="path", description="Place of the bucket's name in URLs, as for FREE_STORAGE_ADDRESSING."
    )
    access_key: Text | None = Field(
        default=None,
        description="S3 access key; unset: found as the AWS tools do (environment, profile, workload"
        " identity, instance metadata).",
    )
    secret_key: SecretStr | None = Field(
        default=None, description="S3 secret key, together with the access key."
    )
    buckets: Annotated[frozenset[BucketName], Field(min_length=1)] = Field(
        description="Buckets that highlights may name; a highlight that names another is dead-lettered."
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


# NoDecode: pydantic-settings would report invalid JSON in an error of its own, apart from the other problems.
Profiles = Annotated[dict[Identifier, SourceProfile], NoDecode, BeforeValidator(_from_json)]


class CuttingSettings(EnvironmentSettings):
    """How clips are cut: the settings that ``clip-cutter cut`` and the service share."""

    cut_mode: ModeChoice = Field(
        default=ModeChoice.AUTO,
        description="auto: copy what every browser plays (H.264, AAC), re-encode other formats;"
        " copy: copy every format that MP4 can hold; exact: always re-encode.",
    )
    min_clip_seconds: float = Field(
        default=1, gt=0, description="Shortest clip; shorter highlights are skipped."
    )
    max_clip_seconds: float = Field(
        default=180,
        gt=0,
        le=3600,
        description="Longest clip; longer highlights are trimmed at both ends by the same time.",
    )
    max_clips_per_vod: int | None = Field(
        default=None,
        ge=1,
        description="Most clips of a VOD: highlights with a rank beyond it are skipped; unset: no limit."
        " Highlights without a rank are never skipped for it.",
    )
    job_deadline_seconds: float = Field(
        default=600, gt=0, description="Longest time for one highlight in the lane for copies, in seconds."
    )
    encoding_deadline_seconds: float = Field(
        default=1800,
        gt=0,
        description="Longest time for one highlight in the lane for re-encodes, in seconds.",
    )
    scratch_dir: Path = Field(
        default=Path(tempfile.gettempdir()) / "clip-cutter",
        description="Folder for the files of running jobs and for cached indexes of VODs. At start, a cutter"
        " removes the folders that crashed cutters left there, and nothing else.",
    )
    max_clip_mebibytes: int = Field(
        default=2048, ge=1, description="Largest clip, and largest file that ffmpeg may write (MiB)."
    )
    index_cache_mebibytes: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Most space of SCRATCH_DIR for cached indexes of VODs (MiB); they are removed when a job"
        " lacks space.",
    )
    ffmpeg_path: str | None = Field(
        default=None,
        description="Path of ffmpeg 9.0; unset: the ffmpeg that is installed with this package.",
    )
    ffprobe_path: str | None = Field(
        default=None,
        description="Path of ffprobe 8.1; unset: the ffprobe that is installed with this package.",
    )
    ffmpeg_threads: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        ge=1,
        le=64,
        description="Threads of one ffmpeg process; unset: the number of CPUs.",
    )
    ffmpeg_memory_mebibytes: int = Field(
        default=4096, ge=256, description="Address space of one ffmpeg process (MiB)."
    )

    @model_validator(mode="after")
    def _shortest_before_longest(self) -> Self:
        if self.min_clip_seconds > self.max_clip_seconds:
            raise ValueError(
                f"MIN_CLIP_SECONDS ({self.min_clip_seconds:g}) is greater than"
                f" MAX_CLIP_SECONDS ({self.max_clip_seconds:g})"
            )
        return self


class CutterSettings(ServiceSettings, KafkaSettings, FreeStorageSettings, CuttingSettings):
    """The settings of ``clip-cutter serve``."""

    skip_limit: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Skip limit: how many missing VODs and highlights of unreadable VODs one process may"
        " announce for a source profile within SKIP_WINDOW_SECONDS. Beyond it, the topic is held back.",
    )
    skip_window_seconds: float = Field(
        default=600, gt=0, le=86_400, description="Time window of SKIP_LIMIT, in seconds."
    )
    source_storage_profiles: Profiles = Field(
        default_factory=dict,
        description='Source profiles, as JSON: {"name": {"buckets": ["vods"], "endpoint": "https://…", …}}.'
        " A highlight names a profile and one of its buckets.",
    )
