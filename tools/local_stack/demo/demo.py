"""The main job end to end, on real video and real servers, told step by step.

A recording goes into the source bucket; two highlights become two clips; the streamer watches them, nobody
else can; one is kept, both run out of time, the tick comes: one is gone, the other still plays.
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
    """What the user asked for; None: whatever shows the most."""

    vod: Path | None = None
    start: float | None = None
    end: float | None = None
    retention_seconds: float | None = None


def run_demo(console: Console, options: DemoOptions) -> bool:
    """Run it on a stack of its own, of which nothing is left. Returns whether everything went well."""
    steps = StepPrinter(console)
    with Workspace() as workspace:
        try:
            summary = _play(steps, workspace, options)
        except _FAILURES as error:
            console.print(f"\n[bold red]The demo failed:[/] {escape(str(error) or type(error).__name__)}")
            for line in _troubles(workspace.state):
                console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
            return False
    console.print(Panel(escape(summary), title="It works", expand=False, border_style="green"))
    return True


def _play(steps: StepPrinter, workspace: Workspace, options: DemoOptions) -> str:
    vod = _find_recording(steps, workspace.state.folder, options)
    clips = _choose_clips(steps, vod)
    asked = options.retention_seconds
    lifetime = asked or retention_seconds(vod.recording.video, vod.recording.pixels, vod.windows[0])
    stack = _start(steps, workspace, _settings(lifetime, vod))
    try:
        Journey(steps, Client(stack.environment), vod, clips, workspace.state.tmp).run()
    finally:
        with steps.step("Stopping everything") as step:
            stack.stop()
            step.says = "Everything is stopped"
    kept, purged = (f"{clip.window.seconds:g} s after {clip.seconds_to_available:.1f} s" for clip in clips)
    return (
        f"Two clips were available soon after their highlights: {kept}, {purged}.\n"
        "Both begin with the frame that was asked for. Only their streamer could reach them.\n"
        f"The kept one still plays; the other one was purged after {lifetime:g} s.\n"
        f"All in all {steps.seconds:.0f} s.\n\n"
        "To see it in a browser: make up, then make sample, and open the address that they print.\n"
        "Everything else: make help."
    )


def _find_recording(steps: StepPrinter, folder: Path, options: DemoOptions) -> DemoVod:
    with steps.step("Generating a recording" if options.vod is None else f"Looking at {options.vod}") as step:
        file = options.vod or folder / "vod.mp4"
        if options.vod is None:
            generate_vod(file)
        recording = probe(file)
        any_window = options.start is None and options.end is None
        windows = (
            _GENERATED_WINDOWS
            if options.vod is None and any_window
            else choose_windows(recording.seconds, options.start, options.end)
        )
        step.says = (
            f"A recording of {recording.seconds:.1f} s: {recording.video} {recording.size},"
            f" {recording.audio or 'no sound'}, {file.stat().st_size / _MEBIBYTE:.1f} MiB"
        )
        if options.vod is None:
            step.add("generated: every frame shows its number, every second begins with a beep")
        return DemoVod(file, recording, windows, numbered=options.vod is None)


def _choose_clips(steps: StepPrinter, vod: DemoVod) -> tuple[DemoClip, DemoClip]:
    def choose(title: str, window: DemoWindow) -> DemoClip:
        return DemoClip(title, window, frames_around(vod.file, vod.recording, window.start), new_id())

    with steps.step("Decoding the frames that the clips should begin with") as step:
        first, second = vod.windows
        clips = choose("The clip to keep", first), choose("The clip to let go", second)
        step.says = (
            f"Two highlights: {first} and {second}; the frames that they should begin with are decoded"
        )
    return clips


def _settings(lifetime: float, vod: DemoVod) -> ServiceSettings:
    longest = max(window.seconds for window in vod.windows)
    return {
        "clip-registry": {"CLIP_RETENTION_DAYS": f"{lifetime / DAY_SECONDS:.9f}"},
        # The demo shows all of what was asked for, up to the hour that a clip may last.
        "clip-cutter": {"MAX_CLIP_SECONDS": f"{min(max(180.0, longest + 1), 3600.0):g}"},
    }


def _start(steps: StepPrinter, workspace: Workspace, settings: ServiceSettings) -> LocalStack:
    with steps.step("Starting PostgreSQL, S3, Apache Kafka and the four services") as step:
        stack = LocalStack(
            workspace, settings=settings, progress=lambda what, seconds: step.add(f"{seconds:.1f} s  {what}")
        )
        stack.start()
        step.says = "PostgreSQL, S3, Apache Kafka and the four services are ready"
    return stack


def _troubles(state: State) -> list[str]:
    """The last warnings and errors in the services' logs."""
    found: list[str] = []
    for log in sorted(state.logs.glob("*.log")):
        lines = [line for line in log.read_text(errors="replace").splitlines() if _is_trouble(line)]
        found += [f"{log.stem}: {line}" for line in lines[-_LOG_LINES:]]
    return found


def _is_trouble(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, Mapping) and entry.get("level") in {"warning", "error", "critical"}
