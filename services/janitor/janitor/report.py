"""What the commands tell whoever runs them: results on standard output, progress and trouble on error."""

import math
import time
from datetime import UTC

import typer

from clip_shared.contracts.registry_api import DueClips
from janitor.domain import PurgeLimit
from janitor.sweep import Progress, Tally

PROGRESS_SECONDS = 5.0
KIB = 1024
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

PURGE_HELP = (
    "Was the registry's database restored to an earlier moment, or was its clock changed? Then clips that"
    " were kept since look unkept: wait until their keeping is restored too. Look with: janitor tick"
    " --dry-run. If they really are to go: janitor tick --force."
)
REFUSAL_HELP = (
    "Is REGISTRY_URL the registry of this bucket, and is its database whole? If these really are orphans,"
    " look at some of them, and repeat with --force."
)


def progress() -> Progress:
    """Say where the sweep is, every few seconds."""
    last = time.monotonic()

    def tell(tally: Tally) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            doing = f", {tally.deleted:,} deleted" if tally.deleted or tally.failed else ""
            typer.echo(f"… {tally.examined:,} examined, {tally.orphans:,} without a clip{doing}", err=True)

    return tell


def say_what_was_found(tally: Tally, bucket: str, hours: float) -> None:
    """The result of counting."""
    typer.echo(f"examined  {tally.examined:,} objects in bucket {bucket} that are older than {hours:g} h")
    typer.echo(
        f"left out  {tally.young:,} younger ones, {tally.foreign:,} that are not of the cutter's making"
    )
    typer.echo(f"orphans   {tally.orphans:,} objects, {_size(tally.orphan_bytes)}, which no clip owns")
    for key in tally.examples:
        typer.echo(f"          {key}")
    if tally.orphans > len(tally.examples):
        typer.echo(f"          … and {tally.orphans - len(tally.examples):,} more")


def say_what_would_be(counted: Tally, limit_percent: float) -> None:
    """The end of a sweep that does not."""
    if counted.is_too_much(limit_percent):
        typer.echo(
            f"dry run: --delete would refuse, these are more than {limit_percent:g} % (SWEEP_LIMIT_PERCENT)."
            f" {REFUSAL_HELP}"
        )
    elif counted.orphans:
        typer.echo("dry run: nothing was deleted; repeat with --delete to delete them")


def say_what_was_deleted(tally: Tally) -> None:
    """The end of a sweep that deletes."""
    typer.echo(f"deleted   {tally.deleted:,} objects")
    if tally.failed:
        typer.echo(
            f"failed    {tally.failed:,} objects; run it again, and if they stay, see to them:", err=True
        )
    for key, failure in tally.failures.items():
        typer.echo(f"          {key}: {failure.code} {failure.message}", err=True)


def say_what_is_due(due: DueClips) -> None:
    """What a tick would purge, by day and by account."""
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


def why_not_purged(due: DueClips, limit: PurgeLimit) -> str:
    """Why a tick purges nothing, and what to do."""
    return (
        f"{due.due:,} of {due.ephemeral:,} unkept clips are due at once, more than PURGE_LIMIT"
        f" ({limit.clips:,}) and PURGE_LIMIT_PERCENT ({limit.percent:g} %) allow; nothing is purged.\n"
        f"{PURGE_HELP}"
    )


def _size(count: int) -> str:
    """A number of bytes, for people."""
    power = min(int(math.log(max(count, 1), KIB)), len(UNITS) - 1)
    return f"{count / KIB**power:,.4g} {UNITS[power]}"
