"""The command line: ``clip-cutter serve`` and ``clip-cutter cut``."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from clip_cutter.announcements import receipt_of
from clip_cutter.app import build, cutter_of, ffmpeg_of, policy_of, vods_of
from clip_cutter.domain.policy import Window, place_window
from clip_cutter.ffmpeg.process import hide_memory
from clip_cutter.ffmpeg.run import FfmpegPrograms, UnusableTool
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Scratch
from clip_cutter.settings import CutterSettings, CuttingSettings
from clip_cutter.vods.source import LocalFile
from clip_shared.contracts.events import CutReceipt
from clip_shared.contracts.service_names import CLIP_CUTTER
from clip_shared.errors import ClipsError
from clip_shared.http.operations import metrics_registry
from clip_shared.http.service import serve as serve_app
from clip_shared.settings import load_settings

cli = typer.Typer(no_args_is_help=True, help="Cuts highlights out of VODs into clips.")


@cli.command()
def serve() -> None:
    """Run the service, configured by environment variables."""
    try:
        serve_app(CLIP_CUTTER, CutterSettings, build)
    except UnusableTool as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


@cli.command()
def cut(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The VOD: MP4, MKV, FLV or MPEG-TS.")
    ],
    output: Annotated[Path, typer.Option(help="Path of the clip to write (MP4).")],
    start: Annotated[float, typer.Option(help="Start of the clip, in seconds from the start of the VOD.")],
    end: Annotated[float, typer.Option(help="End of the clip, in seconds from the start of the VOD.")],
) -> None:
    """Cut a clip out of a local file as the service does, and print the cut receipt (JSON)."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = load_settings(CuttingSettings)
    try:
        programs = FfmpegPrograms.find(settings.ffmpeg_path, settings.ffprobe_path)
        receipt = asyncio.run(_cut(settings, programs, file.resolve(), output, Window(start, end)))
    except UnusableTool as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except ClipsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(receipt.model_dump_json(indent=2))


async def _cut(
    settings: CuttingSettings, programs: FfmpegPrograms, file: Path, output: Path, asked: Window
) -> CutReceipt:
    metrics = CutterMetrics(metrics_registry())
    scratch = Scratch(settings.scratch_dir, metrics)
    ffmpeg = ffmpeg_of(settings, programs, metrics, deadline_seconds=settings.encoding_deadline_seconds)
    vods, cutter = vods_of(settings, ffmpeg, scratch, metrics), cutter_of(settings, ffmpeg)
    source = LocalFile.of(file)
    with scratch.opened(), scratch.job(settings.job_deadline_seconds) as job:
        vod = await vods.open(source, job)
        window = place_window(asked.start, asked.end, vod.seconds, policy_of(settings))
        excerpt = await vod.excerpt(source, window, job)
        clip = await cutter.make(excerpt, window, job)
        shutil.copyfile(clip.video, output)
    return receipt_of(clip, asked)


def main() -> None:
    hide_memory()
    cli()


if __name__ == "__main__":
    main()
