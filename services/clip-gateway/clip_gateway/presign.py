"""URLs that let a browser fetch one object for a while, straight from the storage.

Signing is arithmetic (0.1 ms, no network): it may run in the event loop. The URLs are secrets for as long
as they live: nothing here logs them.

boto3 works out the address of the bucket once. From then on its signer alone is asked, which gives the same
URLs (a test compares them) in a third of the time: the rest went into rules about endpoints.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from botocore.awsrequest import AWSRequest

from clip_gateway.domain import Presentation, Refusal, Refused, presign_seconds

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Presigner:
    """Signs for one bucket, with a client of the endpoint that browsers use: the host is signed too.

    No URL lives longer than ``longest_seconds``. ``on_signed`` is told how many seconds each signature took.
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        *,
        longest_seconds: int,
        on_signed: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._longest_seconds = longest_seconds
        self._on_signed = on_signed

    @cached_property
    def origin(self) -> str:
        """Scheme and host of every URL that is signed here: they depend on the addressing, and on AWS."""
        parts = urlsplit(self._address)
        return f"{parts.scheme}://{parts.netloc}"

    @cached_property
    def _address(self) -> str:
        """What comes before the key."""
        key = "key"
        url = self._client.generate_presigned_url("get_object", Params={"Bucket": self._bucket, "Key": key})
        return url.partition("?")[0].removesuffix(key)

    def seconds(self, seconds_left: float | None) -> int:
        """How long a URL lives whose clip lives ``seconds_left``; None: it lives on."""
        return presign_seconds(self._longest_seconds, seconds_left)

    def url(self, presentation: Presentation, *, seconds_left: float | None, head: bool = False) -> str:
        """A URL to GET (or HEAD) an object, presented as asked, of a clip that lives ``seconds_left``.

        Without ``seconds_left`` the clip lives on.

        Raises:
            Refused: the object is in another bucket, to which our keys may reach but clips never do.
        """
        if presentation.bucket != self._bucket:
            raise Refused(Refusal.MISPLACED)
        started = time.perf_counter()
        request = AWSRequest(
            "HEAD" if head else "GET",
            self._address + quote(presentation.key, safe="/~"),
            params={
                "response-content-type": presentation.content_type,
                "response-content-disposition": presentation.content_disposition,
            },
        )
        self._signature(self.seconds(seconds_left)).add_auth(request)
        self._on_signed(time.perf_counter() - started)
        return str(request.url)

    def _signature(self, seconds: int) -> Any:
        signer = self._client._request_signer  # type: ignore[attr-defined]
        region = self._client.meta.region_name
        return signer.get_auth_instance("s3", region, "s3v4-query", expires=seconds)
