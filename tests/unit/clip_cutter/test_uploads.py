"""When the parts of an upload are taken back, and what each part reads."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from clip_cutter import uploads
from clip_cutter.uploads import FileSection, UploadTarget, begin
from clip_shared.errors import TransientError


class FakeMultipartS3:
    """Takes parts; ``completion`` is what becomes of the request that puts them together."""

    def __init__(self, completion: Exception | None = None) -> None:
        self.completion = completion
        self.parts: dict[int, bytes] = {}
        self.calls: list[str] = []

    def create_multipart_upload(self, **_: Any) -> dict[str, Any]:
        self.calls.append("create")
        return {"UploadId": "u"}

    def upload_part(self, **part: Any) -> dict[str, Any]:
        self.parts[part["PartNumber"]] = part["Body"].read()
        return {"ETag": str(part["PartNumber"])}

    def complete_multipart_upload(self, **whole: Any) -> dict[str, Any]:
        self.calls.append("complete")
        assert [each["PartNumber"] for each in whole["MultipartUpload"]["Parts"]] == sorted(self.parts)
        if self.completion is not None:
            raise self.completion
        return {"ETag": "whole"}

    def abort_multipart_upload(self, **_: Any) -> dict[str, Any]:
        self.calls.append("abort")
        return {}


def refusal(status: int) -> ClientError:
    about: Any = {"Error": {"Code": "No"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(about, "CompleteMultipartUpload")


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video of five small parts."""
    monkeypatch.setattr(uploads, "LARGE_BYTES", 10)
    monkeypatch.setattr(uploads, "MIN_PART_BYTES", 10)
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(range(45)))
    return path


def target(s3: FakeMultipartS3) -> UploadTarget:
    return UploadTarget(cast("Any", s3), "clips", "clips/a", {})


async def test_a_file_is_put_together_of_its_parts(video: Path) -> None:
    s3 = FakeMultipartS3()
    async with begin(target(s3), video) as transfer:
        await transfer.finish()
    assert b"".join(s3.parts[number] for number in sorted(s3.parts)) == bytes(range(45))
    assert s3.calls == ["create", "complete"]


@pytest.mark.parametrize(
    ("completion", "is_taken_back"),
    [
        (refusal(400), True),
        (refusal(403), True),
        # It may have been done, or be done later.
        (refusal(500), False),
        (ReadTimeoutError(endpoint_url="http://s3"), False),
    ],
)
async def test_parts_that_may_belong_to_an_object_stay(
    video: Path, completion: Exception, is_taken_back: bool
) -> None:
    s3 = FakeMultipartS3(completion)
    with pytest.raises(TransientError):
        async with begin(target(s3), video) as transfer:
            await transfer.finish()
    assert s3.calls == ["create", "complete"] + ["abort"] * is_taken_back


async def test_an_upload_that_is_cancelled_while_it_is_put_together_stays(video: Path) -> None:
    s3 = FakeMultipartS3()
    asked, answer = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def complete(**_: Any) -> dict[str, Any]:
        loop.call_soon_threadsafe(asked.set)
        asyncio.run_coroutine_threadsafe(answer.wait(), loop).result(10)
        return {"ETag": "whole"}

    s3.complete_multipart_upload = complete  # type: ignore[method-assign]

    async def upload() -> None:
        async with begin(target(s3), video) as transfer:
            await transfer.finish()

    job = asyncio.create_task(upload())
    await asked.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    answer.set()
    assert s3.calls == ["create"]


async def test_what_cannot_be_taken_back_hides_no_other_failure(video: Path) -> None:
    class Stubborn(FakeMultipartS3):
        def abort_multipart_upload(self, **_: Any) -> dict[str, Any]:
            raise refusal(403)

    with pytest.raises(ValueError, match="no clip"):
        async with begin(target(Stubborn()), video):
            raise ValueError("no clip")


def test_a_section_is_read_as_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        part = FileSection(file, 3, 5)
        assert (part.read(2), part.tell(), part.read(), part.read()) == (b"34", 2, b"567", b"")
        assert (part.seek(0, 2), part.seek(-2, 1), part.read()) == (5, 3, b"67")
        part.seek(0)
        other = FileSection(file, 8, 2)
        assert (other.read(1), part.read(1), other.read(1)) == (b"8", b"3", b"9")
    with pytest.raises(ValueError, match="closed"):
        part.read()
    with pytest.raises(ValueError, match="closed"):
        part.seek(0)
