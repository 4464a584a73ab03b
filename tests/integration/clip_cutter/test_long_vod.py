"""A clip from late in a VOD of ten hours: what it costs grows with the clip, not with the VOD."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import AnyHttpUrl, SecretStr

from clip_cutter.cutter import Cutter, FinishedClip
from clip_cutter.domain.policy import Window
from clip_cutter.scratch import Job
from clip_cutter.settings import SourceProfile
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared.contracts.events import CutMode, SourceObject
from tests.integration.clip_cutter.disk import small_disk
from tests.integration.clip_cutter.long_vod import LOOP_SECONDS, LongVod, record_loop
from tests.integration.clip_cutter.media import DecodedFile
from tests.integration.clip_cutter.web import FaultyWebServer, running_web

VOD_BYTES = 20_000_000_000
TIMES = 4500
LATE = TIMES * LOOP_SECONDS * 0.95
START, SECONDS, FRAMES_PER_SECOND = 5.3, 30.0, 30
# Bytes read for each byte of the clip, besides the index.
MAX_PULLED = 1.15
# Scratch holds the index, what was read of the media, and the clip in up to two versions.
SCRATCH = "128m"

CutLate = Callable[[], Awaitable[FinishedClip]]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> DecodedFile:
    """The seconds that the VOD repeats."""
    return DecodedFile(record_loop(tmp_path_factory.mktemp("loop")))


@pytest.fixture(scope="module")
def long_vod(loop: DecodedFile) -> LongVod:
    """A VOD that would not fit on the disk."""
    made = LongVod(loop.path, TIMES)
    assert len(made) > VOD_BYTES
    return made


@pytest.fixture
def web(long_vod: LongVod) -> Iterator[FaultyWebServer]:
    with running_web() as web:
        web.serve("/vods/long.mp4", long_vod)
        yield web


@pytest.fixture
def source_profile(web: FaultyWebServer) -> SourceProfile:
    """The archive that has it."""
    return SourceProfile(
        endpoint=AnyHttpUrl(web.url("/").split("/?")[0]),
        access_key="any",
        secret_key=SecretStr("any"),
        buckets=frozenset({"vods"}),
    )


@pytest.fixture
def cut_late(
    make_cutter: Callable[..., Cutter], vods: VodOpener, sources: SourceStorage, job: Job
) -> CutLate:
    """Cut the clip, as the service does."""

    async def cut() -> FinishedClip:
        source = await sources.locate(SourceObject(profile="archive", bucket="vods", key="long.mp4"))
        vod = await vods.open(source, job)
        window = Window(LATE + START, LATE + START + SECONDS)
        return await make_cutter().make(await vod.excerpt(source, window, job), window, job)

    return cut


async def test_only_the_index_and_the_window_are_read_and_counted(
    cut_late: CutLate,
    long_vod: LongVod,
    web: FaultyWebServer,
    loop: DecodedFile,
    metrics_registry: CollectorRegistry,
) -> None:
    clip = await cut_late()
    assert clip.mode is CutMode.COPY
    pulled = sum(web.sent)
    assert (pulled - long_vod.index_bytes) / clip.size_bytes < MAX_PULLED
    assert metrics_registry.get_sample_value("clips_pulled_bytes_total") == pytest.approx(pulled, rel=0.01)

    first = round(START * FRAMES_PER_SECOND)
    wanted = [loop.hashes[number % len(loop.hashes)] for number in range(first, first + 900)]
    assert DecodedFile(clip.video).hashes == wanted


@pytest.fixture
def small_scratch(tmp_path: Path) -> Iterator[Path]:
    """Comes first among a test's fixtures: the scratch disk lies on it."""
    with small_disk(tmp_path / "scratch", SCRATCH) as disk:
        yield disk


@pytest.mark.usefixtures("small_scratch")
async def test_scratch_holds_the_index_and_the_window_and_no_more(cut_late: CutLate) -> None:
    assert (await cut_late()).seconds == pytest.approx(SECONDS, abs=0.01)
