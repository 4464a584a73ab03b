"""Sample clips for a streamer's gallery: generated VODs, and highlights of them.

The video is of flowing colours, which ffmpeg generates without an input file or a font.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clip_shared.contracts.events import Event, HighlightDetected, HighlightKind, SourceObject
from local_stack.client import SOURCE, Client, HighlightReport, new_id
from local_stack.processes.ffmpeg import find_tools, run_tool

SCENE_SECONDS = 12
_CUT_SECONDS = 600
# Drawn small and scaled up: a tenth of the time, and the same look.
_DRAWN, _SIZE, _FRAMES_PER_SECOND = "320x180", "1280x720", 25
# By VOD, its scenes: the shape of the gradient, and its colours.
_SCENES = {
    "vod-monday": [
        ("spiral", "0x0b1d3a", "0x2f7fd1", "0x9ad7ff"),
        ("radial", "0x2b0f1f", "0xc2394d", "0xffb26b"),
        ("linear", "0x0c2a1e", "0x2f9e68", "0xd3f3c0"),
        ("circular", "0x1d1238", "0x6b4bd6", "0xf0b4ff"),
    ],
    "vod-thursday": [
        ("linear", "0x3a2308", "0xe08a1e", "0xffe6a8"),
        ("spiral", "0x0f2430", "0x1aa3a8", "0xe3fff4"),
        ("radial", "0x1b1b2f", "0x4f5d95", "0xf5c6aa"),
    ],
}


@dataclass(frozen=True)
class SampleHighlight:
    """A highlight to publish: its window in seconds, and the detector's data."""

    start: float
    end: float
    title: str
    score: float
    kind: HighlightKind = HighlightKind.REFINED
    clipable: bool = True


HIGHLIGHTS = {
    "vod-monday": [
        SampleHighlight(1.5, 11, "Clutch 1v4 in the last round", 0.96),
        SampleHighlight(13, 22.5, "The boss falls at the ninth attempt", 0.91),
        SampleHighlight(25, 31, "A jump that nobody in chat believed", 0.74, HighlightKind.HEURISTIC),
        SampleHighlight(37, 47.5, "Chat chooses the ending", 0.58, HighlightKind.HEURISTIC),
        SampleHighlight(26, 26.4, "Blink and you miss it", 0.31, HighlightKind.HEURISTIC),
        SampleHighlight(600, 620, "After the credits", 0.42),
    ],
    "vod-thursday": [
        SampleHighlight(2, 9, "First win of the season", 0.88),
        SampleHighlight(13.25, 23, "Grandmother joins the stream", 0.99),
        SampleHighlight(25, 35.5, "Speedrun: a second faster than ever", 0.83),
        SampleHighlight(14, 18, "The song that we may not show", 0.66, clipable=False),
    ],
}
"""By VOD. Three of them become no clip: one is too short, one is outside the VOD, one is not clipable."""


def generate_scenes(path: Path, vod: str) -> None:
    """Write the VOD with this name: H.264 and AAC in MP4, one scene after the other, each with its tone.

    Raises:
        FfmpegFailed: ffmpeg failed.
    """
    scenes = _SCENES[vod]
    inputs = [option for number, scene in enumerate(scenes) for option in _inputs(number, *scene)]
    streams = "".join(f"[{2 * number}:v][{2 * number + 1}:a]" for number in range(len(scenes)))
    run_tool(
        find_tools().ffmpeg,
        [
            *("-hide_banner", "-loglevel", "error", "-y", *inputs),
            *(
                "-filter_complex",
                f"{streams}concat=n={len(scenes)}:v=1:a=1[v][a]",
                "-map",
                "[v]",
                "-map",
                "[a]",
            ),
            *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
            *(
                "-g",
                str(2 * _FRAMES_PER_SECOND),
                "-c:a",
                "aac",
                "-b:a",
                "96k",
                "-movflags",
                "+faststart",
                path,
            ),
        ],
    )


def _inputs(number: int, shape: str, *colours: str) -> Iterator[str]:
    colour_options = ":".join(f"c{index}={colour}" for index, colour in enumerate(colours))
    look = f"type={shape}:nb_colors={len(colours)}:{colour_options}:speed=0.02:seed={number + 1}"
    duration = f"duration={SCENE_SECONDS}"
    yield from ("-f", "lavfi", "-i", f"gradients=size={_DRAWN}:rate={_FRAMES_PER_SECOND}:{duration}:{look}")
    tone = f"sine=frequency={220 + 60 * number}:sample_rate=48000:{duration},volume=0.1"
    yield from ("-f", "lavfi", "-i", tone)


def fill(client: Client, account: str, folder: Path) -> dict[str, HighlightReport]:
    """Generate the VODs in a folder, publish their highlights for an account, and wait for the outcomes.

    Returns:
        the outcome of each highlight, by its title.

    Raises:
        FfmpegFailed: ffmpeg failed to generate a VOD.
        TimeoutError: the services did not answer within ten minutes.
    """
    events = [event for vod in HIGHLIGHTS for event in _highlights(client, account, folder, vod)]
    return asyncio.run(_follow(client, events))


def _highlights(client: Client, account: str, folder: Path, vod: str) -> Iterator[Event[HighlightDetected]]:
    file = folder / f"{vod}.mp4"
    if not file.exists():
        generate_scenes(file, vod)
    source = client.upload(file)
    best_first = sorted(HIGHLIGHTS[vod], key=lambda highlight: -highlight.score)
    for rank, highlight in enumerate(best_first, start=1):
        yield Event.new(_highlight(account, vod, source, highlight, rank), source=SOURCE)


def _highlight(
    account: str, vod: str, source: SourceObject, highlight: SampleHighlight, rank: int
) -> HighlightDetected:
    return HighlightDetected(
        stream_highlight_id=new_id(),
        twitch_account_id=account,
        source_vod_id=vod,
        source=source,
        start_seconds=highlight.start,
        end_seconds=highlight.end,
        kind=highlight.kind,
        title=highlight.title,
        score=highlight.score,
        rank=rank,
        is_clipable=highlight.clipable,
    )


async def _follow(client: Client, events: list[Event[HighlightDetected]]) -> dict[str, HighlightReport]:
    titles = {event.data.stream_highlight_id: event.data.title for event in events}
    found: dict[str, HighlightReport] = {}
    async with client.outcomes() as outcomes, asyncio.timeout(_CUT_SECONDS):
        await client.publish(*events)
        while len(found) < len(titles):
            outcome = await anext(outcomes)
            if outcome.stream_highlight_id in titles:
                found[titles[outcome.stream_highlight_id]] = outcome
    return found
