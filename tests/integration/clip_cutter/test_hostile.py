"""What becomes of files that lie about themselves or are damaged, and of servers that refuse a first look.

Each has one outcome. Nothing of any job is left: see the fixture ``scratch``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import AnyHttpUrl, SecretStr

from clip_cutter.domain.policy import Skipped
from clip_cutter.scratch import Job
from clip_cutter.settings import SourceProfile
from clip_cutter.vods import source_storage
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared.contracts.events import SkipReason, SourceObject
from clip_shared.errors import TransientError
from tests.integration.clip_cutter import hostile
from tests.integration.clip_cutter.conftest import Cutting
from tests.integration.clip_cutter.hostile import HUNDRED_HOURS, Vod
from tests.integration.clip_cutter.media import DecodedFile
from tests.integration.clip_cutter.web import FaultyWebServer, running_web

SECONDS = 3.0
AT_FIFTY_HOURS = HUNDRED_HOURS / 2
UNREADABLE, OUTSIDE, TOO_SHORT = (
    SkipReason.SOURCE_UNREADABLE,
    SkipReason.WINDOW_OUTSIDE_SOURCE,
    SkipReason.TOO_SHORT,
)


class HostileCase(NamedTuple):
    """A file (its suffix is its format), where the window begins, and what comes of it: None is a clip."""

    name: str
    make: Callable[[Vod, Path], None]
    start: float
    outcome: SkipReason | None


TABLE = [
    HostileCase("one frame.mp4", hostile.one_frame, 0, TOO_SHORT),
    HostileCase("one frame.ts", hostile.one_frame, 0, TOO_SHORT),
    HostileCase("one frame.mkv", hostile.one_frame, 5.3, OUTSIDE),
    HostileCase("claims to last 0 seconds.mp4", hostile.claiming(0), 5.3, None),
    HostileCase("claims to last 0 seconds.mkv", hostile.claiming(0), 5.3, None),
    HostileCase("claims to last 100 hours.mp4", hostile.claiming(HUNDRED_HOURS), 5.3, None),
    HostileCase("claims to last 100 hours.mp4", hostile.claiming(HUNDRED_HOURS), AT_FIFTY_HOURS, OUTSIDE),
    HostileCase("claims to last 100 hours.mkv", hostile.claiming(HUNDRED_HOURS), 5.3, None),
    HostileCase("claims to last 100 hours.mkv", hostile.claiming(HUNDRED_HOURS), AT_FIFTY_HOURS, UNREADABLE),
    HostileCase("is 8192 by 4352.mp4", hostile.enormous, 0, UNREADABLE),
    HostileCase("is 8192 by 4352.ts", hostile.enormous, 0, UNREADABLE),
    HostileCase("claims to be 65535 by 65535.mp4", hostile.claiming_to_be_enormous, 5.3, None),
    HostileCase("flipped bits in the media.mp4", hostile.flipped_media, 5.3, None),
    HostileCase("flipped bits.mkv", hostile.flipped_media, 5.3, None),
    HostileCase("flipped bits in the index.mp4", hostile.flipped_index, 5.3, UNREADABLE),
    HostileCase("breaks off before the window.mp4", hostile.cut_short, 8.3, OUTSIDE),
    HostileCase("breaks off after the window.mp4", hostile.cut_short, 1.0, None),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.name} at {row.start:g} s")
async def test_a_file_that_cannot_be_trusted(
    vod: Vod, cut_stored: Cutting, tmp_path: Path, row: HostileCase
) -> None:
    path = tmp_path / f"vod{Path(row.name).suffix}"
    row.make(vod, path)
    if row.outcome is None:
        clip = await cut_stored(path, row.start, row.start + SECONDS)
        assert DecodedFile(clip.video).seconds == pytest.approx(SECONDS, abs=0.2)
        return
    with pytest.raises(Skipped) as skip:
        await cut_stored(path, row.start, row.start + SECONDS)
    assert skip.value.reason is row.outcome


@pytest.fixture
def web(vod: Vod) -> Iterator[FaultyWebServer]:
    with running_web() as web:
        web.serve("/vods/vod.mp4", vod("b-frames.mp4").path.read_bytes())
        web.sent_before_breaking = 100
        yield web


@pytest.fixture
def unreliable(web: FaultyWebServer, monkeypatch: pytest.MonkeyPatch) -> SourceStorage:
    """Storage on that server, given up soon."""
    monkeypatch.setattr(source_storage, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(source_storage, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(source_storage, "MAX_BREAKS", 2)
    profile = SourceProfile(
        endpoint=AnyHttpUrl(web.url("/").split("/?")[0]),
        access_key="any",
        secret_key=SecretStr("any"),
        buckets=frozenset({"vods"}),
    )
    return SourceStorage({"archive": profile}, url_seconds=60, on_pulled=lambda _: None)


BEHAVIOURS = ["403", "404", "429", "500", "503", "short", "reset", "stall"]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_server_that_cannot_be_trusted(
    unreliable: SourceStorage, vods: VodOpener, job: Job, web: FaultyWebServer, behaviour: str
) -> None:
    async def look() -> None:
        vod = await unreliable.locate(SourceObject(profile="archive", bucket="vods", key="vod.mp4"))
        await vods.open(vod, job)

    web.behaviour = behaviour
    with pytest.raises(TransientError) as outcome:
        await look()
    assert "127.0.0.1" not in str(outcome.value)
