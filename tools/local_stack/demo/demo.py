"""Show the main job end to end, step by step, on real video and real servers.

A VOD is uploaded to the source bucket, and two highlights of it become two clips. Their streamer can watch
them; other accounts and guests cannot. One clip is kept and the other expires. After the daily tick, the
expired clip is purged and the kept clip still plays.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from aiokafka.errors import KafkaError
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from local_stack.client import Client, new_id
from local_stack.demo.frames import frames_around, probe
from local_stack.demo.journey import DemoClip, DemoVod, Journey, StepFailed
from local_stack.demo.terminal import StepPrinter
from local_stack.demo.vod import generate_vod
from local_stack.demo.windows import BadWindow, DemoWindow, choose_windows, retention_seconds
from local_stack.processes.ffmpeg import FfmpegFailed
from local_stack.processes.ports import NoFreePort
from local_stack.processes.process import ProcessFailed
from local_stack.processes.state import State
from local_stack.processes.workspace import Workspace
from local_stack.stack import LocalStack, ServiceSettings

DAY_SECONDS = 24 * 60 * 60
_GENERATED_WINDOWS = (DemoWindow(12.5, 20.5), DemoWindow(31.3, 37.3))
_MEBIBYTE = 1024 * 1024
_LOG_LINES = 3
_FAILURES = (
    StepFailed,
    BadWindow,
    ProcessFailed,
    FfmpegFailed,
    NoFreePort,
    KafkaError,
    BotoCoreError,
    ClientError,
    httpx.HTTPError,
    OSError,
)


@dataclass(frozen=True)
class DemoOptions:
    """The user's choices. None: a generated VOD, windows of the demo's choice, a short retention."""

    vod: Path | None = None
    start: float | None = None
    end: float | None = None
    retention_seconds: float | None = None


def run_demo(console: Console, options: DemoOptions) -> bool:
    """Run the demo on a temporary stack. Return whether every step succeeded."""
    steps = StepPrinter(console)
    with Workspace() as workspace:
        try:
            summary = _play(steps, workspace, options)
        except _FAILURES as error:
            console.print(f"\n[bold red]The demo failed:[/] {escape(str(error) or type(error).__name__)}")
            for line in _logged_errors(workspace.state):
                console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
            return False
    console.print(Panel(escape(summary), title="It works", expand=False, border_style="green"))
    return True


def _play(steps: StepPrinter, workspace: Workspace, options: DemoOptions) -> str:
    vod = _find_vod(steps, workspace.state.folder, options)
    clips = _choose_clips(steps, vod)
    asked = options.retention_seconds
    lifetime = asked or retention_seconds(vod.probed.video, vod.probed.pixels, vod.windows[0])
    stack = _start(steps, workspace, _settings(lifetime, vod))
    try:
        Journey(steps, Client(stack.environment), vod, clips, workspace.state.tmp).run()
    finally:
        with steps.step("Stopping all processes") as step:
            stack.stop()
            step.result = "All processes are stopped"
    kept, purged = (
        f"one of {clip.window.seconds:g} s after {clip.seconds_to_available:.1f} s" for clip in clips
    )
    return (
        f"Two highlights became two clips: {kept}, {purged}.\n"
        "Both clips begin with the frame that was asked for. Only their streamer could watch them.\n"
        f"The kept clip still plays. The other clip expired after {lifetime:g} s and was purged.\n"
        f"The demo took {steps.seconds:.0f} s.\n\n"
        "To see Clips in a browser: make up, then make sample, and open the printed address.\n"
        "All commands: make help."
    )


def _find_vod(steps: StepPrinter, folder: Path, options: DemoOptions) -> DemoVod:
    with steps.step("Generating a VOD" if options.vod is None else f"Probing {options.vod}") as step:
        file = options.vod or folder / "vod.mp4"
        if options.vod is None:
            generate_vod(file)
        probed = probe(file)
        any_window = options.start is None and options.end is None
        windows = (
            _GENERATED_WINDOWS
            if options.vod is None and any_window
            else choose_windows(probed.seconds, options.start, options.end)
        )
        step.result = (
            f"A VOD of {probed.seconds:.1f} s: {probed.video} {probed.size},"
            f" {probed.audio or 'no audio'}, {file.stat().st_size / _MEBIBYTE:.1f} MiB"
        )
        if options.vod is None:
            step.add("generated: every frame shows its number, and every second begins with a beep")
        return DemoVod(file, probed, windows, numbered=options.vod is None)


def _choose_clips(steps: StepPrinter, vod: DemoVod) -> tuple[DemoClip, DemoClip]:
    def choose(title: str, window: DemoWindow) -> DemoClip:
        return DemoClip(title, window, frames_around(vod.file, vod.probed, window.start), new_id())

    with steps.step("Decoding the frames that the clips should begin with") as step:
        first, second = vod.windows
        clips = choose("The clip to keep", first), choose("The clip to expire", second)
        step.result = f"Two highlights: {first} and {second}; the first frame of each is decoded"
    return clips


def _settings(lifetime: float, vod: DemoVod) -> ServiceSettings:
    longest = max(window.seconds for window in vod.windows)
    return {
        "clip-registry": {"CLIP_RETENTION_DAYS": f"{lifetime / DAY_SECONDS:.9f}"},
        # Long enough for the windows that the user chose, up to the setting's maximum of an hour.
        "clip-cutter": {"MAX_CLIP_SECONDS": f"{min(max(180.0, longest + 1), 3600.0):g}"},
    }


def _start(steps: StepPrinter, workspace: Workspace, settings: ServiceSettings) -> LocalStack:
    with steps.step("Starting PostgreSQL, S3, Apache Kafka and the four services") as step:
        stack = LocalStack(
            workspace, settings=settings, progress=lambda name, seconds: step.add(f"{seconds:.1f} s  {name}")
        )
        stack.start()
        step.result = "PostgreSQL, S3, Apache Kafka and the four services are ready"
    return stack


def _logged_errors(state: State) -> list[str]:
    """Return the last warnings and errors of the services' logs."""
    found: list[str] = []
    for log in sorted(state.logs.glob("*.log")):
        lines = [line for line in log.read_text(errors="replace").splitlines() if _is_error(line)]
        found += [f"{log.stem}: {line}" for line in lines[-_LOG_LINES:]]
    return found


def _is_error(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, Mapping) and entry.get("level") in {"warning", "error", "critical"}
