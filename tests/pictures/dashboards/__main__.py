"""Draw docs/dashboards from the Prometheus of a temporary stack under a load."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from local_stack.demo.sample import HIGHLIGHTS, generate_scenes
from local_stack.figures import dashboards
from local_stack.stack import LocalStack, temporary_stack
from tests.e2e.platform import Platform
from tests.pictures.dashboards.draw import draw
from tests.pictures.dashboards.load import run_load

FOLDER = Path("docs/dashboards")


def main(
    folder: Annotated[Path, typer.Option(help="The folder for the images.")] = FOLDER,
    minutes: Annotated[float, typer.Option(min=1, help="Minutes of the load.")] = 8,
) -> None:
    """Run a load of some minutes with two outages, and draw every panel from its Prometheus."""
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_stack(monitored=True) as stack:
        typer.echo(f"A load of {minutes:g} minutes …")
        started = time.time()
        asyncio.run(_live(stack, 60 * minutes))
        assert stack.monitoring is not None
        for name, board in dashboards().items():
            draw(board, stack.monitoring.prometheus.url, started, time.time(), folder / f"{name}.png")
    typer.echo(f"The images are in {folder}.")


async def _live(stack: LocalStack, seconds: float) -> None:
    async with Platform(stack) as platform:
        with tempfile.TemporaryDirectory(prefix="clips-vods-") as scratch:
            for vod in HIGHLIGHTS:
                generate_scenes(Path(scratch) / f"{vod}.mp4", vod)
                platform.upload(Path(scratch) / f"{vod}.mp4")
        await run_load(platform, seconds)


if __name__ == "__main__":
    typer.run(main)
