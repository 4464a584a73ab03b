"""What refusals of source storage mean: only the storage's own words are facts about a VOD."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import AnyHttpUrl, SecretStr

from clip_cutter.containers.model import ByteRange
from clip_cutter.domain.policy import Skipped
from clip_cutter.settings import SourceProfile
from clip_cutter.vods.source_storage import SourceRefused, SourceStorage
from clip_shared.contracts.events import SkipReason, SourceObject
from clip_shared.errors import PermanentError, TransientError

VOD = SourceObject(profile="archive", bucket="vods", key="vod.mp4")
OTHER = SourceObject(profile="archive", bucket="vods", key="other.mp4")


class StorageAnswer(NamedTuple):
    """A status and a body."""

    status: int
    body: str = ""


def s3(status: int, code: str) -> StorageAnswer:
    """A refusal in the words of S3."""
    return StorageAnswer(
        status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>"
    )


def listing(*keys: str) -> StorageAnswer:
    """A list of a bucket."""
    found = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    truncated = "<IsTruncated>false</IsTruncated>"
    return StorageAnswer(200, f"<?xml version='1.0'?><ListBucketResult>{truncated}{found}</ListBucketResult>")


PAGE = "<html><body>Blocked by your administrator</body></html>"
DENIED = s3(403, "AccessDenied")


class RefusingStorage(ThreadingHTTPServer):
    """Answers requests for VODs by key, for the bucket (is it elsewhere?), and for lists."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RefusingStorageHandler)
        self.vods: dict[str, StorageAnswer] = {"vods": StorageAnswer(200), OTHER.key: StorageAnswer(200, "x")}
        self.list = DENIED


class RefusingStorageHandler(BaseHTTPRequestHandler):
    server: RefusingStorage

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Be quiet."""

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, *, body: bool = True) -> None:
        parts = urlsplit(self.path)
        is_list = "list-type" in parse_qs(parts.query)
        status, text = self.server.list if is_list else self.server.vods[Path(parts.path).name]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        if body:
            self.wfile.write(text.encode())


@pytest.fixture
def server() -> Iterator[RefusingStorage]:
    server = RefusingStorage()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def sources(server: RefusingStorage) -> SourceStorage:
    profile = SourceProfile(
        endpoint=AnyHttpUrl(f"http://127.0.0.1:{server.server_address[1]}"),
        access_key="any",
        secret_key=SecretStr("any"),
        buckets=frozenset({"vods"}),
    )
    return SourceStorage({"archive": profile}, url_seconds=60, on_pulled=lambda _: None)


OUTAGES = {
    "a proxy that knows no such host": StorageAnswer(404, PAGE),
    "a 404 without a word": StorageAnswer(404),
    "no such bucket": s3(404, "NoSuchBucket"),
    "a firewall": StorageAnswer(403, PAGE),
    "a 403 without a word": StorageAnswer(403),
    "a policy": DENIED,
    "a key that is disabled": s3(400, "KMS.DisabledException"),
    "an expired token": s3(400, "ExpiredToken"),
    "a clock that is wrong": s3(403, "RequestTimeTooSkewed"),
    "a proxy that wants a sign-in": StorageAnswer(407, PAGE),
    "no sign-in": StorageAnswer(401, PAGE),
    "too many requests": StorageAnswer(429),
    "a timeout": s3(400, "RequestTimeout"),
    "a login page in the place of a list": DENIED,
}


@pytest.mark.parametrize("name", OUTAGES)
async def test_what_speaks_of_us_or_of_the_way_is_an_outage(
    server: RefusingStorage, sources: SourceStorage, name: str
) -> None:
    server.vods[VOD.key] = OUTAGES[name]
    server.list = StorageAnswer(200, PAGE) if "login page" in name else DENIED
    with pytest.raises(TransientError):
        await sources.locate(VOD)
    with pytest.raises(TransientError):
        await sources.confirm(VOD)


MISSING = "The VOD is no longer in storage, so no clip can be cut from it."


async def test_a_vod_is_missing_when_the_storage_says_so(
    server: RefusingStorage, sources: SourceStorage
) -> None:
    server.vods[VOD.key] = s3(404, "NoSuchKey")
    with pytest.raises(Skipped, match=MISSING) as skip:
        await sources.locate(VOD)
    assert skip.value.reason is SkipReason.SOURCE_MISSING


async def test_what_is_denied_is_missing_only_when_it_is_not_in_the_list(
    server: RefusingStorage, sources: SourceStorage
) -> None:
    server.vods[VOD.key], server.list = DENIED, listing("vod.mp4.bak")
    with pytest.raises(Skipped, match=MISSING):
        await sources.locate(VOD)
    server.list = listing(VOD.key)
    with pytest.raises(TransientError):
        await sources.locate(VOD)


async def test_without_a_list_what_is_denied_is_missing_only_while_another_vod_is_not(
    server: RefusingStorage, sources: SourceStorage
) -> None:
    server.vods[VOD.key] = DENIED
    await sources.locate(OTHER)
    with pytest.raises(Skipped, match=MISSING):
        await sources.locate(VOD)
    server.vods[OTHER.key] = DENIED
    with pytest.raises(TransientError):
        await sources.locate(VOD)


async def test_a_bucket_that_denies_its_list_degrades_until_the_right_is_granted(
    server: RefusingStorage, sources: SourceStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> str | None:
        with pytest.raises((Skipped, TransientError)):
            await sources.locate(VOD)
        return sources.check()

    server.vods[VOD.key] = DENIED
    for server.list in (s3(500, "InternalError"), StorageAnswer(403, PAGE), StorageAnswer(200, PAGE)):
        assert await look() is None
    for granted in (s3(404, "NoSuchKey"), DENIED):
        server.vods[VOD.key], server.list = DENIED, DENIED
        assert await look() == (
            "profile archive: grant s3:ListBucket on vods; without it, a missing VOD blocks its partition"
        )
        server.vods[VOD.key], server.list = granted, listing()
        assert await look() is None
    server.list = DENIED
    assert await look()
    monkeypatch.setattr("clip_cutter.vods.source_storage.DENIED_SECONDS", 0)  # nobody was since
    assert sources.check() is None


async def test_a_vod_that_is_denied_after_it_was_read_is_no_witness_of_itself(
    server: RefusingStorage, sources: SourceStorage
) -> None:
    server.vods[VOD.key] = StorageAnswer(200, "x")
    await sources.locate(VOD)
    server.vods[VOD.key] = DENIED
    with pytest.raises(TransientError):
        await sources.confirm(VOD)


async def test_an_archived_vod_is_said_to_be_archived(
    server: RefusingStorage, sources: SourceStorage
) -> None:
    server.vods[VOD.key] = StorageAnswer(200, "x")  # to a HEAD, it looks like any other
    vod = await sources.locate(VOD)
    server.vods[VOD.key] = s3(403, "InvalidObjectState")
    with pytest.raises(Skipped, match="archived") as skip:
        await vod.peek(ByteRange(0, 1))
    assert skip.value.reason is SkipReason.SOURCE_UNREADABLE


REFUSALS: dict[str, tuple[StorageAnswer, type[Exception]]] = {
    "a request that is wrong": (s3(400, "InvalidRequest"), SourceRefused),
    "a method": (s3(405, "MethodNotAllowed"), SourceRefused),
    "a status that nobody knows": (StorageAnswer(499), SourceRefused),
    "a key that is too long": (s3(400, "KeyTooLongError"), PermanentError),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_request_that_is_refused_is_not_repeated_without_end(
    server: RefusingStorage, sources: SourceStorage, name: str
) -> None:
    server.vods[VOD.key], error = REFUSALS[name]
    with pytest.raises(error) as outcome:
        await sources.locate(VOD)
    assert not isinstance(outcome.value, TransientError)


async def test_a_place_that_cannot_be_asked_for_is_refused_for_good(server: RefusingStorage) -> None:
    profile = SourceProfile(
        endpoint=AnyHttpUrl(f"http://127.0.0.1:{server.server_address[1]}"),
        access_key="any",
        secret_key=SecretStr("any"),
        buckets=frozenset({"vods"}),
    )
    sources = SourceStorage({"archive": profile}, url_seconds=60, on_pulled=lambda _: None)
    with pytest.raises(PermanentError):
        await sources.confirm(VOD.model_copy(update={"key": ""}))
