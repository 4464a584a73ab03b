"""The commands of ``clip-registry``."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, NoReturn, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.app import api_document, build
from clip_registry.clips.store import ClipStore
from clip_registry.database.connector import UnusableDatabase
from clip_registry.database.engine import check_usable, open_engine
from clip_registry.migrations.run import migrate as migrate_database
from clip_registry.outbox import refused_events
from clip_registry.outbox.outbox import Outbox
from clip_registry.recovery.recovery import Recovery, RecoveryReport
from clip_registry.recovery.topic_history import read_topics
from clip_registry.settings import DatabaseSettings, RegistrySettings
from clip_registry.timers import clip_counts
from clip_shared.contracts.service_names import CLIP_REGISTRY
from clip_shared.errors import ClipsError
from clip_shared.http.service import serve as serve_app
from clip_shared.logs import configure_logs
from clip_shared.settings import load_settings

cli = typer.Typer(
    no_args_is_help=True,
    help="The registry: it owns every clip's row, from the first cut to the purge. Settings come from the"
    " environment.",
)
counts_cli = typer.Typer(no_args_is_help=True, help="The counts of clips behind the metrics: check, repair.")
outbox_cli = typer.Typer(no_args_is_help=True, help="Events that Kafka refused: list them, send them again.")
cli.add_typer(counts_cli, name="counts")
cli.add_typer(outbox_cli, name="outbox")

Result = TypeVar("Result")


@cli.command()
def serve() -> None:
    """Run the service until SIGTERM.

    Needs a database that `clip-registry migrate` has migrated.
    """
    settings = load_settings(RegistrySettings)
    configure_logs(CLIP_REGISTRY, settings.log_level)
    try:
        asyncio.run(check_usable(settings.database_url.get_secret_value(), settings.database_pooler))
    except UnusableDatabase as error:
        _refuse(f"cannot start: {error}", exit_code=2)
    serve_app(CLIP_REGISTRY, RegistrySettings, build)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document of the internal API. Needs no setting, changes nothing."""
    typer.echo(json.dumps(api_document(), indent=2, ensure_ascii=False))


@cli.command()
def migrate(
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a database that does not answer yet.")
    ] = 60,
) -> None:
    """Bring the database to the newest schema.

    Run it before the first start and before each upgrade. Registries may go on
    working meanwhile. Safe to repeat, and to run twice at the same time.
    """
    settings = load_settings(DatabaseSettings)
    configure_logs(CLIP_REGISTRY, settings.log_level)
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


@cli.command()
def recover(
    since: Annotated[
        datetime, typer.Option(help="A moment (UTC) before the one that the database was restored to.")
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Recover; without this option, only say what would be recovered.")
    ] = False,
) -> None:
    """Bring back from Kafka what happened to the clips since the backup, after a restore of the database.

    Reads clip-created, clip-skipped and clip-lifecycle, which keep 7 days, and
    changes rows of clips and skips. Run it with the environment of the
    registry, before a registry or a janitor works on the restored database.
    Safe to repeat.

    Exits with 0 when every clip is as the topics say; with 1 when some clips
    are not (it names them), or when the database or Kafka cannot be used.
    """
    settings = load_settings(RegistrySettings)
    configure_logs(CLIP_REGISTRY, settings.log_level)
    moment = since.replace(tzinfo=since.tzinfo or UTC)

    async def work(engine: AsyncEngine) -> RecoveryReport:
        store = ClipStore(
            engine,
            Outbox(engine, settings, grace_seconds=0),
            retention=timedelta(days=settings.clip_retention_days),
            release_delay=timedelta(seconds=settings.release_delay_seconds),
        )
        history = await read_topics(settings, moment)
        recovery = Recovery(engine, store, bucket=settings.free_storage_bucket, apply=yes)
        return await recovery.recover(history)

    _show_recovery(_on_the_database(work), done=yes)


def _show_recovery(report: RecoveryReport, *, done: bool) -> None:
    typer.echo(f"{'recovered' if done else 'would recover'}:")
    typer.echo(f"  clips that were missing      {report.created}")
    for name, number in sorted(report.changes.items()):
        typer.echo(f"  {name:28} {number}")
    typer.echo(f"  skipped highlights           {report.skips}")
    for gap in report.gaps:
        typer.echo(f"not recovered: {gap}", err=True)
    if not done:
        typer.echo("repeat with --yes to do it")
    if report.gaps:
        raise typer.Exit(1)


@counts_cli.command()
def check() -> None:
    """Count every clip, and print where the counts behind the metrics differ.

    Run it when a metric such as clips_by_status looks wrong. Reads the whole
    table, locks nothing, changes nothing.

    Exits with 0 when the counts are right; with 1 when they differ, or when
    the database cannot be used.
    """
    found = _on_the_database(clip_counts.drift, statement_timeout_seconds=None)
    for each in found:
        typer.echo(f"{each.status:12} the counts lack {each.clips:,} clips, {each.bytes:,} bytes")
    if found:
        _refuse("correct them with: clip-registry counts repair", exit_code=1)
    typer.echo("the counts are right")


@counts_cli.command()
def repair() -> None:
    """Count every clip, and correct the counts behind the metrics.

    Run it when `clip-registry counts check` finds a difference. Reads the whole
    table, locks nothing, changes only the counts. Safe to repeat.
    """
    corrected = _on_the_database(clip_counts.repair, statement_timeout_seconds=None)
    typer.echo(f"corrected: {corrected}")


@outbox_cli.command("list")
def list_refused() -> None:
    """Count the events that Kafka refused, by topic, with the first refusal and a reason.

    Run it when clips_outbox_dead is above 0. Changes nothing.
    """
    found = _on_the_database(refused_events.find)
    for each in found:
        typer.echo(f"{each.topic:28} {each.number} since {each.since:%Y-%m-%d %H:%M:%S} UTC: {each.reason}")
    if not found:
        typer.echo("nothing was refused")


@outbox_cli.command()
def replay(
    limit: Annotated[int, typer.Option(min=1, help="The most events to put back; the oldest first.")] = 1000,
    yes: Annotated[
        bool, typer.Option("--yes", help="Put them back; without this option, only count them.")
    ] = False,
) -> None:
    """Put refused events back into the outbox; a running registry sends them.

    Run it when the reason that `clip-registry outbox list` shows is mended.
    """
    if not yes:
        number = sum(each.number for each in _on_the_database(refused_events.find))
        typer.echo(f"would put back: {min(number, limit)} of {number}; repeat with --yes to do it")
        return
    typer.echo(f"put back: {_on_the_database(lambda engine: refused_events.replay(engine, limit=limit))}")


def _on_the_database(
    work: Callable[[AsyncEngine], Awaitable[Result]], *, statement_timeout_seconds: float | None = 30
) -> Result:
    settings = load_settings(DatabaseSettings)

    async def run() -> Result:
        engine = open_engine(
            settings.database_url.get_secret_value(),
            pool_size=1,
            statement_timeout_seconds=statement_timeout_seconds,
            pooler=settings.database_pooler,
        )
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except ClipsError as error:
        _refuse(f"not done: {error}", exit_code=1)


def _refuse(why: str, *, exit_code: int) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(exit_code)


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
