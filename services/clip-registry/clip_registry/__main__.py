"""The command line of the registry."""

import asyncio
from typing import Annotated, NoReturn

import typer

from clip_registry.app import NAME, build
from clip_registry.database import UnusableDatabase, check_usable
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
    settings = load_settings(Settings)
    configure_logs(NAME, settings.log_level)
    try:
        asyncio.run(check_usable(settings.database_url.get_secret_value(), settings.database_pooler))
    except UnusableDatabase as error:
        _refuse(f"cannot start: {error}", exit_code=2)
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
            migrate_database(
                settings.database_url.get_secret_value(),
                wait_seconds=wait_seconds,
                pooler=settings.database_pooler,
            )
        )
    except ClipsError as error:
        _refuse(f"cannot migrate: {error}", exit_code=2 if isinstance(error, UnusableDatabase) else 1)
    typer.echo(f"the schema is at revision {revision}")


def _refuse(why: str, *, exit_code: int) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(exit_code)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
