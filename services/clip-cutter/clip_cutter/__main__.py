"""The command line of the cutter."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from fastapi import FastAPI

from clip_cutter.announcements import NAME, receipt_of
from clip_cutter.app import build, cutter_of, policy_of
from clip_cutter.arguments import Input
from clip_cutter.cutter import Job
from clip_cutter.domain.media import picture_end
from clip_cutter.domain.policy import Skipped, Window, place_window
from clip_cutter.ffmpeg import Programs, UnusableTool
from clip_cutter.metrics import Metrics
from clip_cutter.process import hide_memory
from clip_cutter.scratch import Scratch
from clip_cutter.settings import CuttingSettings, Settings
from clip_cutter.workers import Workers, end_with_the_parent, this_command
from clip_shared.errors import ClipsError
from clip_shared.events import CutReceipt
from clip_shared.service import metrics_registry
from clip_shared.service import serve as serve_app
from clip_shared.settings import load_settings

cli = typer.Typer(no_args_is_help=True, help="Cuts highlights out of VODs into clips.")


@cli.command()
def serve(
    worker: Annotated[
        Path | None,
        typer.Option(hidden=True, help="Be one of several workers: serve HTTP on this Unix socket."),
    ] = None,
) -> None:
    """Run the service; the environment says how."""
    workers: list[Workers] = []

    def build_one_or_many(settings: Settings) -> FastAPI:
        if worker is not None or settings.cutter_workers == 1:
            return build(settings)
        command = [*this_command(), "--worker"]
        grace_seconds = settings.shutdown_grace_seconds
        workers.append(Workers(NAME, settings.cutter_workers, command, grace_seconds=grace_seconds))
        return workers[0].app

    if worker is not None:
        structlog.contextvars.bind_contextvars(worker=worker.name)
        end_with_the_parent(worker)
    try:
        serve_app(NAME, Settings, build_one_or_many, socket=worker)
    except UnusableTool as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if workers and workers[0].exit_code:
        raise typer.Exit(workers[0].exit_code)


@cli.command()
def cut(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The VOD: MP4, MKV, FLV or MPEG-TS.")
    ],
    output: Annotated[Path, typer.Option(help="Where the clip goes (MP4).")],
    start: Annotated[float, typer.Option(help="Start of the clip, in seconds from the start of the VOD.")],
    end: Annotated[float, typer.Option(help="End of the clip, likewise.")],
) -> None:
    """Cut one local file as the service would, and print the cut receipt (JSON)."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = load_settings(CuttingSettings)
    try:
        programs = Programs.find(settings.ffmpeg_path, settings.ffprobe_path)
        receipt = asyncio.run(_cut(settings, programs, file.resolve(), output, Window(start, end)))
    except UnusableTool as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except (Skipped, ClipsError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(receipt.model_dump_json(indent=2))


async def _cut(
    settings: CuttingSettings, programs: Programs, file: Path, output: Path, asked: Window
) -> CutReceipt:
    metrics = Metrics(metrics_registry())
    cutter, scratch = cutter_of(settings, programs, metrics), Scratch(settings.scratch_dir, metrics)
    source = Input.of_file(file)
    with scratch.opened(), scratch.job() as folder:
        media = await cutter.look(source)
        window = place_window(asked.start, asked.end, picture_end(media), policy_of(settings))
        clip = await cutter.cut(Job(source, media, window, folder))
        shutil.copyfile(clip.video, output)
    return receipt_of(clip, asked)


def main() -> None:
    """Run the command line."""
    hide_memory()
    cli()


if __name__ == "__main__":
    main()
