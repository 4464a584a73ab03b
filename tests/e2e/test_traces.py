"""The main job is one trace at the collector."""

import uuid

from tests.e2e.platform import Platform, until
from tests.support.collector import Collector, ReceivedSpan

WAY = [
    ("clip-cutter", "process highlight-detected"),
    ("clip-cutter", "send clip-created"),
    ("clip-registry", "process clip-created"),
    ("clip-registry", "send clip-lifecycle"),
    ("clip-gateway", "GET /v1/clips/{clip_id}/watch"),
    ("clip-registry", "GET /v1/clips/{clip_id}"),
]


async def test_one_trace_leads_from_the_highlight_to_the_watch_redirect(
    platform: Platform, collector: Collector
) -> None:
    trace, detector = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    clip_id = await platform.detect(start_seconds=4, end_seconds=7, traceparent=f"00-{trace}-{detector}-01")
    await platform.available(clip_id)
    # The platform receives the event of the clip, and asks for the video in the same trace.
    announced = await platform.message("clip-lifecycle", str(clip_id))
    headers = {"traceparent": dict(announced.headers)["traceparent"].decode()}
    async with platform.gateway() as streamer:
        assert (await streamer.get(f"/v1/clips/{clip_id}/watch", headers=headers)).status_code == 302

    async def arrived() -> list[ReceivedSpan] | None:
        spans = collector.trace(trace)
        return spans if set(WAY) <= {(each.service, each.name) for each in spans} else None

    spans = await until(arrived, "all spans of the trace")
    assert {each.trace for each in spans} == {trace}
    known = {each.id: each for each in spans}
    by_name = {(each.service, each.name): each for each in spans}
    detected, sent, recorded, relayed, watched, asked = (by_name[each] for each in WAY)
    assert detected.parent == detector
    assert sent.parent == recorded.parent == detected.id
    assert relayed.parent == watched.parent == recorded.id
    assert known[asked.parent].service == "clip-gateway"
    assert recorded.attributes["clip_id"] == str(clip_id)
    # Spans of the libraries below each of them.
    assert "S3.GetObject" in _below(spans, detected)
    assert {"INSERT", "COMMIT;"} <= _below(spans, recorded)
    assert "SELECT" in _below(spans, asked)


def _below(spans: list[ReceivedSpan], parent: ReceivedSpan) -> set[str]:
    children = [each for each in spans if each.parent == parent.id]
    return {name for child in children for name in {child.name} | _below(spans, child)}
