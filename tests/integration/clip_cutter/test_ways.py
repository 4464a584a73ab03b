"""The command line and the service cut alike: the same receipt, the same bytes."""

import pytest

from tests.integration.clip_cutter.conftest import WAYS, CutBy, Result
from tests.integration.clip_cutter.showings import SHOWINGS, Showing, VodOf, path_of


@pytest.mark.parametrize("showing", SHOWINGS, ids=str)
async def test_both_ways_agree(cut_by: CutBy, vod: VodOf, showing: Showing) -> None:
    path = path_of(showing, vod)
    results = [await cut_by(way, path, showing.start, showing.end) for way in WAYS]
    assert said(results[0]) == said(results[1])
    assert written(results[0]) == written(results[1])


def said(result: Result) -> str:
    """What is told of it."""
    return result.receipt.model_dump_json() if result.receipt else str(result.skipped)


def written(result: Result) -> tuple[bytes, bytes] | None:
    """What was made of it."""
    return (result.clip.video.read_bytes(), result.clip.poster.read_bytes()) if result.clip else None
