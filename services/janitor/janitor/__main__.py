"""The command line of the janitor."""

import asyncio
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer
from prometheus_client import CollectorRegistry

from clip_shared.contracts.service_names import JANITOR
from clip_shared.errors import ClipsError
from clip_shared.http.service import serve as serve_app
from clip_shared.settings import load_settings
from clip_shared.storage import FreeStorage
from janitor import report
from janitor.app import build, http_of
from janitor.domain import PurgeLimit
from janitor.handlers import expire_due, tell_of_expiry
from janitor.metrics import Metrics, write_sweep
from janitor.registry_client import HttpRegistry
from janitor.settings import Settings, SweepSettings, TickSettings
from janitor.storage import ClipBucket
from janitor.sweep import Sweep, Tally, TooManyOrphans

INCOMPLETE, REFUSED = 1, 3
# For one page, a server with folders (SeaweedFS) looks at every folder that a purge emptied.
LISTING_TIMEOUT_SECONDS = 600

cli = typer.Typer(
    no_args_is_help=True,
    help="Expires clips that nobody kept, and deletes the objects that clips have let go.",
)


@cli.command()
def serve() -> None:
    """Run the service; the environment says how."""
    serve_app(JANITOR, Settings, build)


@cli.command()
def sweep(
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this, only say what would be deleted.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete even more than SWEEP_LIMIT_PERCENT of what was examined.")
    ] = False,
    older_than: Annotated[
        float | None,
        typer.Option(min=1, metavar="HOURS", help="In place of SWEEP_MIN_AGE_HOURS.", show_default=False),
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the figures there, for node_exporter's textfile collector."),
    ] = None,
) -> None:
    """Find objects in the clips' bucket that no clip owns, and delete them if told to (--delete).

    Lists what is under clips/ in FREE_STORAGE_BUCKET, and asks the registry
    (REGISTRY_URL) which objects it does not know. Younger objects, and keys
    that are not of the cutter's making, are left alone. Stopping it does no
    harm, and neither does running it twice. Progress goes to standard error.

    First replay or discard what is pending in clip-created.dlq: the objects
    of those clips have no owner yet.

    Exits with 0 when it is through; 1 when it is not (an outage, or objects
    that could not be deleted: run it again); 2 when settings or options cannot
    be used; 3 when it refuses to delete more than SWEEP_LIMIT_PERCENT.
    """
    if force and not delete:
        raise typer.BadParameter("only together with --delete", param_hint="--force")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = load_settings(SweepSettings)
    try:
        tally = asyncio.run(_sweep(settings, older_than, delete=delete, force=force))
    except TooManyOrphans as error:
        typer.echo(f"refused: {error}.\n{report.REFUSAL_HELP}", err=True)
        raise typer.Exit(REFUSED) from error
    except ClipsError as error:
        typer.echo(f"not finished: {error}\nRun it again.", err=True)
        raise typer.Exit(INCOMPLETE) from error
    if metrics_file is not None:
        write_sweep(tally, metrics_file)
    if tally.failed:
        raise typer.Exit(INCOMPLETE)


async def _sweep(settings: SweepSettings, older_than: float | None, *, delete: bool, force: bool) -> Tally:
    hours = older_than if older_than is not None else settings.sweep_min_age_hours
    client = FreeStorage(settings).client(read_timeout_seconds=LISTING_TIMEOUT_SECONDS)
    storage = ClipBucket(client, settings.free_storage_bucket)
    async with http_of(settings) as http:
        if shortfall := await storage.check():
            typer.echo(f"note: {shortfall}", err=True)
        sweep = Sweep(
            storage,
            HttpRegistry(http),
            older_than=_hours_ago(hours),
            limit_percent=settings.sweep_limit_percent,
            progress=report.progress(),
        )
        counted = await sweep.count()
        report.say_what_was_found(counted, storage.bucket, hours)
        if not delete:
            report.say_what_would_be(counted, settings.sweep_limit_percent)
            return counted
        deleted = await sweep.delete(counted, force=force)
    report.say_what_was_deleted(deleted)
    return deleted


@cli.command()
def tick(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be purged, by day and by account.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Purge even more than PURGE_LIMIT and PURGE_LIMIT_PERCENT allow.")
    ] = False,
) -> None:
    """Purge here and now what is due, and tell accounts what of theirs expires soon, as the daily tick does.

    Needs the registry (REGISTRY_URL, REGISTRY_TOKEN) alone. Nothing that was
    kept is ever due. Stopping it does no harm, and neither does running it twice.

    Exits with 0 when it is through; 1 when it is not (an outage: run it again);
    2 when settings or options cannot be used; 3 when it refuses, or would
    refuse, to purge so many clips at once.
    """
    if force and dry_run:
        raise typer.BadParameter("not together with --dry-run", param_hint="--force")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = load_settings(TickSettings)
    try:
        refusal = asyncio.run(_tick(settings, dry_run=dry_run, force=force))
    except ClipsError as error:
        typer.echo(f"not finished: {error}\nRun it again.", err=True)
        raise typer.Exit(INCOMPLETE) from error
    if refusal:
        typer.echo(f"{'would be refused' if dry_run else 'refused'}: {refusal}", err=True)
        raise typer.Exit(REFUSED)


async def _tick(settings: TickSettings, *, dry_run: bool, force: bool) -> str | None:
    """Why it is refused; None: it is not."""
    limit = PurgeLimit(settings.purge_limit, settings.purge_limit_percent)
    async with http_of(settings) as http:
        registry = HttpRegistry(http)
        due = await registry.due(detailed=dry_run)
        report.say_what_is_due(due)
        if not force and limit.forbids(due.due, due.ephemeral):
            return report.why_not_purged(due, limit)
        if dry_run:
            return None
        metrics, batch = Metrics(CollectorRegistry()), settings.expiration_batch_size
        await expire_due(registry, metrics, batch, math.inf, due)
        await tell_of_expiry(registry, batch, math.inf)
    typer.echo("done: nothing of that is left")
    return None


def _hours_ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
