"""URLs that let a browser fetch one object for a while, straight from the storage.

Signing is arithmetic (0.2 ms, no network): it may run in the event loop. The URLs are secrets for as long
as they live: nothing here logs them.
"""

from typing import TYPE_CHECKING

from clip_gateway.domain import Presentation, Refusal, Refused, presign_seconds

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Presigner:
    """Signs for one bucket, with a client of the endpoint that browsers use: the host is signed too.

    No URL lives longer than ``longest_seconds``.
    """

    def __init__(self, client: "S3Client", bucket: str, *, longest_seconds: int) -> None:
        self._client = client
        self._bucket = bucket
        self._longest_seconds = longest_seconds

    def url(self, presentation: Presentation, *, seconds_left: float | None, head: bool = False) -> str:
        """A URL to GET (or HEAD) an object, presented as asked, of a clip that lives ``seconds_left``.

        Without ``seconds_left`` the clip lives on.

        Raises:
            Refused: the object is in another bucket, to which our keys may reach but clips never do.
        """
        if presentation.bucket != self._bucket:
            raise Refused(Refusal.MISPLACED)
        return self._client.generate_presigned_url(
            "head_object" if head else "get_object",
            Params={
                "Bucket": presentation.bucket,
                "Key": presentation.key,
                "ResponseContentType": presentation.content_type,
                "ResponseContentDisposition": presentation.content_disposition,
            },
            ExpiresIn=presign_seconds(self._longest_seconds, seconds_left),
        )
