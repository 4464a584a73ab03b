"""The command line: write the dashboards' JSON, or check that it is up to date."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from clips_dashboards import operation, product

FOLDER = Path("deploy/grafana")

cli = typer.Typer(no_args_is_help=True, help="The Grafana dashboards of Clips.")
Folder = Annotated[Path, typer.Option(help="The folder of the JSON files.", file_okay=False)]


def render() -> Mapping[str, str]:
    """Return every dashboard's JSON, by its file name."""
    boards = {"product.json": product.build(), "operation.json": operation.build()}
    encoder = JSONEncoder(indent=2, sort_keys=True)
    return {name: encoder.encode(board.build()) + "\n" for name, board in boards.items()}


@cli.command()
def write(folder: Folder = FOLDER) -> None:
    """Write the dashboards."""
    for name, text in render().items():
        (folder / name).write_text(text)


@cli.command()
def check(folder: Folder = FOLDER) -> None:
    """Exit with 1 when the JSON of a dashboard is out of date."""
    for name, text in render().items():
        file = folder / name
        if not file.exists() or file.read_text() != text:
            typer.echo(f"{file} is out of date: make dashboards", err=True)
            raise typer.Exit(1)


if __name__ == "__main__":
    cli()
