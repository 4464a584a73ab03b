"""What the commands print: results on standard output, progress and problems on standard error."""

import math
import time
from datetime import UTC

import typer

from clip_shared.contracts.registry_api import DueClips
from janitor.domain import PurgeLimit
from janitor.sweep import OnPage, SweepCounts

PROGRESS_SECONDS = 5.0
KIB = 1024
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

PURGE_HELP = (
    "Was the registry's database restored to an earlier time, or was its clock changed? Then clips that"
    " were kept since then look unkept: wait until these changes are restored too. Look at what is due with:"
    " janitor tick --dry-run. To purge it all the same: janitor tick --force."
)
SWEEP_HELP = (
    "Is REGISTRY_URL the registry of this bucket, and is its database complete? If these really are orphans,"
    " look at some of them, and repeat with --force."
)


def progress_printer() -> OnPage:
    """Return what prints every few seconds how far the sweep is."""
    last = time.monotonic()

    def print_progress(counts: SweepCounts) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            deleted = f", {counts.deleted:,} deleted" if counts.deleted or counts.failed else ""
            typer.echo(
                f"… {counts.examined:,} examined, {counts.orphans:,} without a clip{deleted}", err=True
            )

    return print_progress


def print_counts(counts: SweepCounts, bucket: str, hours: float) -> None:
    """Print what the first pass counted."""
    typer.echo(f"examined  {counts.examined:,} objects in bucket {bucket} that are older than {hours:g} h")
    typer.echo(
        f"left out  {counts.young:,} younger objects, {counts.foreign:,} that the cutter did not write"
    )
    typer.echo(f"orphans   {counts.orphans:,} objects, {_size(counts.orphan_bytes)}, which no clip owns")
    for key in counts.examples:
        typer.echo(f"          {key}")
    if counts.orphans > len(counts.examples):
        typer.echo(f"          … and {counts.orphans - len(counts.examples):,} more")


def print_dry_run(counts: SweepCounts, limit_percent: float) -> None:
    """Print what ``--delete`` would do."""
    if counts.needs_force(limit_percent):
        typer.echo(
            f"dry run: --delete would refuse, these are more than {limit_percent:g} % (SWEEP_LIMIT_PERCENT)."
            f" {SWEEP_HELP}"
        )
    elif counts.orphans:
        typer.echo("dry run: nothing was deleted; repeat with --delete to delete them")


def print_deleted(counts: SweepCounts) -> None:
    """Print what the second pass deleted."""
    typer.echo(f"deleted   {counts.deleted:,} objects")
    if counts.failed:
        typer.echo(
            f"failed    {counts.failed:,} objects; run it again, and see why those fail that stay:",
            err=True,
        )
    for key, failure in counts.failures.items():
        typer.echo(f"          {key}: {failure.code} {failure.message}", err=True)


def print_due(due: DueClips) -> None:
    """Print what a tick would purge; by day and by account where there are details."""
    share = 100 * due.due / due.ephemeral if due.ephemeral else 0
    typer.echo(
        f"due       {due.due:,} of {due.ephemeral:,} unkept clips ({share:.3g} %)"
        f" at {due.cutoff.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
    if due.details is None or not due.due:
        return
    typer.echo(f"bytes     {_size(due.details.bytes)}")
    for day in due.details.days:
        typer.echo(f"expired   {day.day}: {day.clips:,} clips, {_size(day.bytes)}")
    typer.echo(f"accounts  {due.details.accounts:,}")
    for each in due.details.largest:
        typer.echo(f"          {each.account_id}: {each.clips:,} clips, {_size(each.bytes)}")
    if (others := due.details.accounts - len(due.details.largest)) > 0:
        typer.echo(f"          … and {others:,} more")


def purge_refusal(due: DueClips, limit: PurgeLimit) -> str:
    """Say why a tick purges nothing, and what to do."""
    return (
        f"{due.due:,} of {due.ephemeral:,} unkept clips are due at once, more than PURGE_LIMIT"
        f" ({limit.clips:,}) and PURGE_LIMIT_PERCENT ({limit.percent:g} %) allow; nothing is purged.\n"
        f"{PURGE_HELP}"
    )


def _size(count: int) -> str:
    power = min(int(math.log(max(count, 1), KIB)), len(UNITS) - 1)
    return f"{count / KIB**power:,.4g} {UNITS[power]}"
