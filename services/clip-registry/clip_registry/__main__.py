"""The command line of the registry."""

import asyncio
from typing import Annotated

import typer

from clip_registry.app import NAME, build
from clip_registry.migrate import migrate as migrate_database
from clip_registry.settings import DatabaseSettings, Settings
from clip_shared.errors import ClipsError
from clip_shared.logs import configure_logs
from clip_shared.service import serve as serve_app
from clip_shared.settings import load_settings

cli = typer.Typer(no_args_is_help=True, help="Keeps the life of every clip: its state, its owner, its end.")


@cli.command()
def serve() -> None:
    """Run the service; the environment says how."""
    serve_app(NAME, Settings, build)


@cli.command()
def migrate(
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for a database that does not answer yet.")
    ] = 60,
) -> None:
    """Bring the database (DATABASE_URL) to the newest schema. Safe to repeat, and to run twice at once."""
    settings = load_settings(DatabaseSettings)
    configure_logs(NAME, settings.log_level)
    try:
        revision = asyncio.run(
            migrate_database(settings.database_url.get_secret_value(), wait_seconds=wait_seconds)
        )
    except ClipsError as error:
        typer.echo(f"cannot migrate: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"the schema is at revision {revision}")


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
