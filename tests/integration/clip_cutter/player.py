"""Clips in a real browser, many side by side: what it shows of each when, and what is heard of it when."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from playwright.async_api import Page

from tests.integration.clip_cutter.judge import HeardBeep, NumberedFrame

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCRIPT = Path(__file__).with_name("player.js")
HTML = "<!doctype html><title>Clips</title><style>video {{ width: 192px }}</style>{videos}"
VIDEO = '<video src="{address}" preload="auto"></video>'
URL_SECONDS = 120
MORE_SECONDS = 20  # than the longest clip lasts: a busy machine plays with breaks


@dataclass(frozen=True)
class PlaybackReport:
    """What a browser made of a clip.

    ``problem``: why it did not play to its end; ``at``: where it stopped. ``bars``: the colours that eight
    bars have in its last picture, if it has any.
    """

    problem: str | None
    seconds: float
    at: float
    bars: list[tuple[int, int, int]]
    pictures: list[NumberedFrame]
    beeps: list[HeardBeep]

    @classmethod
    def of(cls, report: dict[str, Any]) -> "PlaybackReport":
        """Read the page's report."""
        return cls(
            report["problem"],
            report["seconds"] or 0.0,
            report["at"],
            [(red, green, blue) for red, green, blue in report["bars"]],
            [NumberedFrame(*each) for each in report["pictures"]],
            [HeardBeep(*each) for each in report["beeps"]],
        )


async def play(
    page: Page, s3: "S3Client", clips: Sequence[Path], longest_seconds: float
) -> list[PlaybackReport]:
    """Play clips to their ends, side by side: they lie where the page lies, else it may not look at them."""

    def upload(content_type: str, content: bytes) -> str:
        key = f"browser/{uuid4()}"
        s3.put_object(Bucket="clips", Key=key, Body=content, ContentType=content_type)
        place = {"Bucket": "clips", "Key": key}
        return s3.generate_presigned_url("get_object", Params=place, ExpiresIn=URL_SECONDS)

    addresses = [upload("video/mp4", clip.read_bytes()).replace("&", "&amp;") for clip in clips]
    videos = "".join(VIDEO.format(address=address) for address in addresses)
    await page.goto(upload("text/html", HTML.format(videos=videos).encode()))
    await page.add_script_tag(path=SCRIPT)
    async with asyncio.timeout(longest_seconds + 2 * MORE_SECONDS):
        reports = await page.evaluate("patience => playAll(patience)", longest_seconds + MORE_SECONDS)
    return [PlaybackReport.of(report) for report in reports]
