"""``clip-shared schemas``: the documents that are generated from the models of the events."""

from pathlib import Path
from typing import Annotated

import typer

from clip_shared.contracts import schemas

cli = typer.Typer(
    no_args_is_help=True, help="Generate the JSON Schemas and the AsyncAPI document, and check them."
)

Folder = Annotated[Path, typer.Argument(help="The folder of the generated documents.")]


@cli.command()
def write(folder: Folder = Path("shared/schemas")) -> None:
    """Write the documents that have changed. Refuses a change that breaks a published version."""
    if problems := schemas.breaking_changes(folder):
        typer.echo("These changes break a published version; give the event a new version:", err=True)
        typer.echo("\n".join(f"  {problem}" for problem in problems), err=True)
        raise typer.Exit(1)
    for path in schemas.write(folder):
        typer.echo(f"wrote {path}" if path.exists() else f"removed {path}")


@cli.command()
def check(folder: Folder = Path("shared/schemas")) -> None:
    """Fail when a checked-in document differs from what the code generates."""
    if names := schemas.drifted(folder):
        typer.echo(f"out of date: {', '.join(names)}; run: clip-shared schemas write", err=True)
        raise typer.Exit(1)
