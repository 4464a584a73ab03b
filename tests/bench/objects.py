"""Tiny objects, many of them: stored side by side, and deleted by the least that could delete them."""

import http.client
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clip_shared.storage import s3_client
from local_stack.stack import CLIPS_BUCKET, LocalStack

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WRITERS = 8
MAX_KEYS = 1000  # that one DeleteObjects takes
ACCOUNTS = 200


@dataclass(frozen=True)
class SeededClip:
    """A clip's object, named as the cutter names it."""

    clip_id: uuid.UUID
    account: str
    key: str


class Objects:
    """The clips' bucket, full of clips of one byte each."""

    def __init__(self, stack: LocalStack) -> None:
        self.client: S3Client = s3_client(
            endpoint=stack.environment["FREE_STORAGE_ENDPOINT"],
            region=stack.environment["FREE_STORAGE_REGION"],
            access_key=stack.environment["FREE_STORAGE_ACCESS_KEY"],
            secret_key=stack.environment["FREE_STORAGE_SECRET_KEY"],
            # A page of a listing looks at every folder that was emptied: a minute after a large purge.
            read_timeout_seconds=600,
        )
        self._connections = threading.local()

    def store(self, number: int, group: str) -> list[SeededClip]:
        """Put so many objects, of accounts of a group."""
        clips = [_clip(f"{group}-{place % ACCOUNTS}") for place in range(number)]
        with ThreadPoolExecutor(WRITERS) as writers:
            try:
                for _ in writers.map(self._put, clips):
                    pass
            except BaseException:  # interrupted: what waits need not be put
                writers.shutdown(wait=False, cancel_futures=True)
                raise
        return clips

    def _put(self, clip: SeededClip) -> None:
        # Presigned, over a plain connection: boto3's own client takes twice the time for it.
        place = {"Bucket": CLIPS_BUCKET, "Key": clip.key}
        url = urlsplit(self.client.generate_presigned_url("put_object", Params=place, ExpiresIn=3600))
        connection = self._connections.__dict__.setdefault("each", http.client.HTTPConnection(url.netloc))
        connection.request("PUT", f"{url.path}?{url.query}", body=b"x")
        response = connection.getresponse()
        response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the storage took no object: {response.status}")

    def delete(self, keys: Sequence[str]) -> float:
        """The bare loop: DeleteObjects, a thousand at a time. Returns seconds."""
        started = time.monotonic()
        for start in range(0, len(keys), MAX_KEYS):
            batch = keys[start : start + MAX_KEYS]
            answer = self.client.delete_objects(
                Bucket=CLIPS_BUCKET, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
            if answer.get("Errors"):
                raise RuntimeError(f"not deleted: {answer['Errors'][0]}")
        return time.monotonic() - started

    def left(self) -> int:
        """How many there are."""
        return sum(1 for _ in self._listed())

    def _listed(self) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=CLIPS_BUCKET, Prefix="clips/")
        for page in pages:
            for each in page.get("Contents", []):
                yield each["Key"]


def _clip(account: str) -> SeededClip:
    clip_id = uuid.uuid4()
    return SeededClip(clip_id, account, f"clips/{account}/{clip_id}/{uuid.uuid4()}.mp4")
