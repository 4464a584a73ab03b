"""Many tiny objects: stored in parallel, and deleted by a minimal loop."""

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
MAX_KEYS = 1000  # the limit of DeleteObjects
ACCOUNTS = 200


@dataclass(frozen=True)
class SeededClip:
    """A clip's object, named as the cutter names it."""

    clip_id: uuid.UUID
    account: str
    key: str


class Objects:
    """The bucket for clips, filled with objects of one byte."""

    def __init__(self, stack: LocalStack) -> None:
        self.client: S3Client = s3_client(
            endpoint=stack.environment["FREE_STORAGE_ENDPOINT"],
            region=stack.environment["FREE_STORAGE_REGION"],
            access_key=stack.environment["FREE_STORAGE_ACCESS_KEY"],
            secret_key=stack.environment["FREE_STORAGE_SECRET_KEY"],
            # A listing reads every folder that was emptied: it takes a minute after a large purge.
            read_timeout_seconds=600,
        )
        self._connections = threading.local()

    def store(self, number: int, group: str) -> list[SeededClip]:
        """Store a number of objects for the accounts of a group."""
        clips = [_clip(f"{group}-{place % ACCOUNTS}") for place in range(number)]
        with ThreadPoolExecutor(WRITERS) as writers:
            try:
                for _ in writers.map(self._put, clips):
                    pass
            except BaseException:  # interrupted: the waiting uploads are not needed
                writers.shutdown(wait=False, cancel_futures=True)
                raise
        return clips

    def _put(self, clip: SeededClip) -> None:
        # Presigned, over a plain connection: boto3's client takes twice the time.
        place = {"Bucket": CLIPS_BUCKET, "Key": clip.key}
        url = urlsplit(self.client.generate_presigned_url("put_object", Params=place, ExpiresIn=3600))
        connection = self._connections.__dict__.setdefault("each", http.client.HTTPConnection(url.netloc))
        connection.request("PUT", f"{url.path}?{url.query}", body=b"x")
        response = connection.getresponse()
        response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the storage answered {response.status} in place of storing an object")

    def delete(self, keys: Sequence[str]) -> float:
        """Delete objects with DeleteObjects, a thousand at a time; return the seconds."""
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
        """Return the number of objects in the bucket."""
        return sum(1 for _ in self._listed())

    def _listed(self) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=CLIPS_BUCKET, Prefix="clips/")
        for page in pages:
            for each in page.get("Contents", []):
                yield each["Key"]


def _clip(account: str) -> SeededClip:
    clip_id = uuid.uuid4()
    return SeededClip(clip_id, account, f"clips/{account}/{clip_id}/{uuid.uuid4()}.mp4")
