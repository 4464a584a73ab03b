"""Servers with a part of S3, and proxies that answer in the place of S3."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from clip_shared.errors import TransientError
from janitor import storage as storage_module
from janitor.storage import DELETES_AT_ONCE
from tests.integration.s3.conftest import Services, use
from tests.integration.s3.odd_server import HTML, Answer, OddS3, odd_server

KEYS = [f"clips/{number}" for number in range(3 * DELETES_AT_ONCE + 1)]


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[OddS3]:
    monkeypatch.setattr(storage_module, "FIRST_PAUSE_SECONDS", 0)
    with odd_server(OddS3(keys={*KEYS, "clips/stays"})) as server:
        use(monkeypatch, endpoint=server.url, access_key="key", secret_key="secret")
        yield server


async def test_a_server_that_demands_content_md5_deletes_in_bulk(services: Services, odd: OddS3) -> None:
    odd.demands_md5 = True
    assert await services.janitor.delete(KEYS) == {}
    assert odd.keys == {"clips/stays"}
    assert odd.deletions() == 0


@pytest.mark.parametrize(
    "answer",
    [(501, "NotImplemented"), (405, "MethodNotAllowed"), (405, HTML), (400, "MalformedXML"), (411, HTML)],
)
async def test_where_bulk_is_unknown_objects_go_one_by_one(
    services: Services, odd: OddS3, answer: Answer
) -> None:
    odd.bulk = answer
    janitor = services.janitor
    with capture_logs() as logs:
        assert await janitor.delete(KEYS[1:]) == {}
        assert await janitor.delete(KEYS[:1]) == {}
    assert odd.keys == {"clips/stays"}
    assert odd.deletions() == len(KEYS)
    assert sum(each.startswith("POST") for each in odd.requests) == 1  # the refusal is remembered
    assert len(logs) == 1  # and logged once


async def test_a_stuck_object_among_single_deletions_is_named(services: Services, odd: OddS3) -> None:
    odd.bulk = 501, "NotImplemented"
    odd.stuck = {KEYS[3]: "InvalidRequest", KEYS[4]: "NoSuchKey"}
    failures = await services.janitor.delete(KEYS)
    assert {key: failure.code for key, failure in failures.items()} == {KEYS[3]: "InvalidRequest"}


@pytest.mark.parametrize(
    "answer",
    [
        (403, "AccessDenied"),
        (403, HTML),
        (404, HTML),
        (404, "NoSuchBucket"),
        (400, "ExpiredToken"),
        (400, "RequestTimeout"),
    ],
)
async def test_an_outage_is_not_taken_for_a_server_without_bulk(
    services: Services, odd: OddS3, answer: Answer
) -> None:
    odd.bulk = answer
    janitor = services.janitor
    with pytest.raises(TransientError):
        await janitor.delete(KEYS)
    assert odd.deletions() == 0
    with pytest.raises(TransientError, match="refused us" if answer[1] == HTML else answer[1]):
        await janitor.check()
    odd.bulk = None
    assert await janitor.delete(KEYS) == {}
    assert await janitor.check() is None


@pytest.mark.parametrize("bulk", [None, (501, "NotImplemented")])
async def test_a_page_with_200_deletes_nothing_and_is_no_success(
    services: Services, odd: OddS3, bulk: Answer | None
) -> None:
    """A maintenance page can be parsed as an answer without failures: it must not count as deletion."""
    odd.bulk = bulk
    if bulk is None:
        odd.everything = 200, HTML
    else:
        odd.single = 200, HTML
    janitor = services.janitor
    with pytest.raises(TransientError, match="NoAnswer"):
        await janitor.delete(KEYS)
    odd.everything = None
    with pytest.raises(TransientError, match="NoAnswer"):
        await janitor.check()


async def test_a_page_with_200_is_no_empty_bucket(services: Services, odd: OddS3) -> None:
    odd.everything = 200, HTML
    with pytest.raises(TransientError, match="is not S3"):
        _ = [page async for page in services.janitor.pages("clips/")]


async def test_a_page_with_200_has_not_taken_a_clip(services: Services, odd: OddS3, tmp_path: Path) -> None:
    odd.everything = 200, HTML
    (tmp_path / "poster.jpg").write_bytes(b"poster")
    with pytest.raises(TransientError, match="not one of S3"):
        await services.cutter.put_poster(tmp_path / "poster.jpg", "clips/a")


async def test_where_nothing_can_be_deleted_bulk_is_asked_for_again(services: Services, odd: OddS3) -> None:
    odd.bulk = 501, "NotImplemented"
    odd.stuck = dict.fromkeys(KEYS, "InternalError")
    janitor = services.janitor
    with pytest.raises(TransientError):
        await janitor.delete(KEYS)
    odd.bulk, odd.stuck = None, {}
    before = odd.deletions()
    assert await janitor.delete(KEYS) == {}
    assert odd.deletions() == before


@pytest.mark.parametrize(
    "answer",
    [
        (501, "NotImplemented"),
        (501, "VersioningNotConfigured"),
        (501, HTML),
        (405, "MethodNotAllowed"),
        (403, "AccessDenied"),
        (400, "InvalidArgument"),
    ],
)
async def test_versioning_that_is_not_known_is_no_failure_and_said_once(
    services: Services, odd: OddS3, answer: Answer
) -> None:
    odd.versioning = answer
    janitor = services.janitor
    with capture_logs() as logs:
        assert await janitor.check() is None
        assert await janitor.check() is None
    assert [each["event"] for each in logs] == [
        "the storage does not say whether the clips' bucket is versioned (s3:GetBucketVersioning)"
    ]


@pytest.mark.parametrize("answer", [(404, HTML), (403, HTML), (502, HTML), (404, "NoSuchBucket")])
async def test_an_answer_that_is_not_of_the_bucket_is_a_failure(
    services: Services, odd: OddS3, answer: Answer
) -> None:
    odd.everything = answer
    assert await services.readiness() == {"cutter": "failing", "janitor": "failing"}


async def test_a_bucket_that_hides_what_is_missing_degrades_the_cutter(
    services: Services, odd: OddS3
) -> None:
    odd.everything = 403, "AccessDenied"
    assert "s3:ListBucket" in (await services.readiness())["cutter"]
    assert await services.cutter.find("clips/a") is None


@pytest.mark.parametrize("answer", [(403, HTML), (403, "SignatureDoesNotMatch")])
async def test_another_refusal_does_not_mean_that_a_clip_is_missing(
    services: Services, odd: OddS3, answer: Answer
) -> None:
    odd.everything = answer
    with pytest.raises(TransientError):
        await services.cutter.find("clips/a")
