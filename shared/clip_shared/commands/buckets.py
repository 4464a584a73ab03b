"""``clip-shared buckets``: the buckets of the free storage."""

from typing import Annotated

import typer

from clip_shared.commands.running import run
from clip_shared.settings import load_settings
from clip_shared.storage import FreeStorage, FreeStorageSettings, ensure_buckets

cli = typer.Typer(no_args_is_help=True, help="Create the buckets of the free storage.")


@cli.command()
def create(
    also: Annotated[
        list[str] | None, typer.Argument(help="More buckets, for a server that also stores the VODs.")
    ] = None,
) -> None:
    """Create the clips' bucket where it is missing, on the server of FREE_STORAGE_*. It is safe to repeat."""
    storage = FreeStorage(load_settings(FreeStorageSettings))
    for name, is_new in run(ensure_buckets(storage, also or [])).items():
        typer.echo(f"{name:28} {'created' if is_new else 'exists'}")
