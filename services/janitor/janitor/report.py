"""What an orphan sweep tells whoever runs it: results on standard output, progress and trouble on error."""

import math
import time

import typer

from janitor.sweep import Progress, Tally

PROGRESS_SECONDS = 5.0
KIB = 1024
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

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


def say_what_would_be(counted: Tally) -> None:
    """The end of a sweep that does not."""
    if counted.is_too_much:
        typer.echo(f"dry run: --delete would refuse, these are more than half. {REFUSAL_HELP}")
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


def _size(count: int) -> str:
    """A number of bytes, for people."""
    power = min(int(math.log(max(count, 1), KIB)), len(UNITS) - 1)
    return f"{count / KIB**power:,.4g} {UNITS[power]}"
