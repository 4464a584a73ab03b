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
from janitor.app import build, registry_client_of
from janitor.domain import PurgeLimit
from janitor.metrics import JanitorMetrics, write_sweep
from janitor.registry import HttpJanitorRegistry
from janitor.settings import JanitorSettings, SweepSettings, TickSettings
from janitor.storage import ClipBucket
from janitor.sweep import OrphanSweep, SweepCounts, TooManyOrphans
from janitor.tick import announce_expiring, purge_due

INCOMPLETE, REFUSED = 1, 3
# To list one page, a server with folders (SeaweedFS) reads every folder that a purge left empty.
LISTING_TIMEOUT_SECONDS = 600

cli = typer.Typer(
    no_args_is_help=True,
    help="Purges the clips that no owner kept, and deletes the objects that no clip owns any more.",
)


@cli.command()
def serve() -> None:
    """Run the service. Its settings are in the environment."""
    serve_app(JANITOR, JanitorSettings, build)


@cli.command()
def sweep(
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Delete the orphans; without this, only report them."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Delete even more than SWEEP_LIMIT_PERCENT of the examined objects."),
    ] = False,
    older_than: Annotated[
        float | None,
        typer.Option(min=1, metavar="HOURS", help="In place of SWEEP_MIN_AGE_HOURS.", show_default=False),
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the counts there, for node_exporter's textfile collector."),
    ] = None,
) -> None:
    """Find objects in the clips' bucket that no clip owns, and delete them if told to (--delete).

    Lists what is under clips/ in FREE_STORAGE_BUCKET, and asks the registry
    (REGISTRY_URL) which of these objects no clip owns. Younger objects, and
    keys that the cutter does not write, are left alone. It is safe to stop it,
    and to run it twice. Progress goes to standard error.

    First replay or discard what is pending in clip-created.dlq: until then the
    objects of those clips have no owner.

    Exits with 0 when everything is done; 1 when it is not (an outage, or
    objects that could not be deleted: run it again); 2 when settings or options
    cannot be used; 3 when it refuses to delete more than SWEEP_LIMIT_PERCENT.
    """
    if force and not delete:
        raise typer.BadParameter("only together with --delete", param_hint="--force")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = load_settings(SweepSettings)
    try:
        counts = asyncio.run(_sweep(settings, older_than, delete=delete, force=force))
    except TooManyOrphans as error:
        typer.echo(f"refused: {error}.\n{report.SWEEP_HELP}", err=True)
        raise typer.Exit(REFUSED) from error
    except ClipsError as error:
        typer.echo(f"not finished: {error}\nRun it again.", err=True)
        raise typer.Exit(INCOMPLETE) from error
    if metrics_file is not None:
        write_sweep(counts, metrics_file)
    if counts.failed:
        raise typer.Exit(INCOMPLETE)


async def _sweep(
    settings: SweepSettings, older_than: float | None, *, delete: bool, force: bool
) -> SweepCounts:
    hours = older_than if older_than is not None else settings.sweep_min_age_hours
    free_storage = FreeStorage(settings)
    bucket = ClipBucket(
        free_storage.client(read_timeout_seconds=LISTING_TIMEOUT_SECONDS), free_storage.bucket
    )
    async with registry_client_of(settings) as client:
        if shortfall := await bucket.check():
            typer.echo(f"note: {shortfall}", err=True)
        orphan_sweep = OrphanSweep(
            bucket,
            HttpJanitorRegistry(client),
            older_than=_hours_ago(hours),
            limit_percent=settings.sweep_limit_percent,
            on_page=report.progress_printer(),
        )
        counted = await orphan_sweep.count()
        report.print_counts(counted, bucket.name, hours)
        if not delete:
            report.print_dry_run(counted, settings.sweep_limit_percent)
            return counted
        deleted = await orphan_sweep.delete(counted, force=force)
    report.print_deleted(deleted)
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
    """Purge what is due now, and announce to accounts what expires soon, as the daily tick does.

    Needs only the registry (REGISTRY_URL, REGISTRY_TOKEN). A kept clip is
    never due. It is safe to stop it, and to run it twice.

    Exits with 0 when everything is done; 1 when it is not (an outage: run it
    again); 2 when settings or options cannot be used; 3 when it refuses, or
    would refuse, because too many clips are due at once.
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
    """Do the work of a tick; return why it is refused, or None."""
    limit = PurgeLimit(settings.purge_limit, settings.purge_limit_percent)
    async with registry_client_of(settings) as client:
        registry = HttpJanitorRegistry(client)
        due = await registry.due(detailed=dry_run)
        report.print_due(due)
        if not force and limit.forbids(due.due, due.ephemeral):
            return report.purge_refusal(due, limit)
        if dry_run:
            return None
        metrics, size = JanitorMetrics(CollectorRegistry()), settings.expiration_batch_size
        await purge_due(registry, metrics, due, batch_size=size, deadline=math.inf)
        await announce_expiring(registry, batch_size=size, deadline=math.inf)
    typer.echo("done: nothing of that is left")
    return None


def _hours_ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
