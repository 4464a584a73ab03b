"""``clip-shared skips``: the highlights that became no clip."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer

from clip_shared.bus import skips
from clip_shared.bus.settings import KafkaSettings
from clip_shared.commands.running import run
from clip_shared.contracts.events import HighlightDetected, SkipReason
from clip_shared.settings import load_settings

cli = typer.Typer(no_args_is_help=True, help="List and replay skipped highlights: those that became no clip.")

Limit = Annotated[int, typer.Option(min=1, help="The largest number of skips that are listed.")]
Reason = Annotated[SkipReason | None, typer.Option(help="Only skips with this reason.")]
Profile = Annotated[str | None, typer.Option(help="Only skips of this source-storage profile.")]
Since = Annotated[datetime | None, typer.Option(help="Only skips since this time, UTC.")]


@cli.command("list")
def list_skips(
    reason: Reason = None, profile: Profile = None, since: Since = None, limit: Limit = 100
) -> None:
    """List and count the highlights that became no clip, as far as clip-skipped retains them."""
    found = run(skips.find(load_settings(KafkaSettings), _filter(reason, profile, since)))
    for skip in found[:limit]:
        data = skip.data
        typer.echo(
            f"{skip.time:%Y-%m-%d %H:%M:%S} UTC  {data.reason}  profile {data.source_profile or 'unknown'}"
            f"  highlight {data.stream_highlight_id}  VOD {data.source_vod_id}: {data.message}"
        )
    counts = Counter(skip.data.reason for skip in found).most_common()
    typer.echo(f"{len(found)} skipped" + "".join(f", {number} {name}" for name, number in counts))


@cli.command("replay")
def replay_skips(
    reason: Reason = None,
    profile: Profile = None,
    since: Since = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="The largest number of highlights, oldest first; unset: all."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")
    ] = False,
) -> None:
    """Send skipped highlights to the cutter again. Do this once the cause of the skips is mended."""
    settings, chosen = load_settings(KafkaSettings), _filter(reason, profile, since)
    if not yes:
        count = len(run(skips.find(settings, chosen)))
        typer.echo(
            f"would send to {HighlightDetected.TOPIC}: {min(count, limit or count)} of {count} skipped;"
            " repeat with --yes to do it"
        )
        return
    done = run(skips.replay(settings, chosen, limit=limit))
    typer.echo(f"sent: {done.sent}")
    if done.gone:
        typer.echo(f"not sent: {done.gone}; {HighlightDetected.TOPIC} does not retain them any more")


def _filter(reason: SkipReason | None, profile: str | None, since: datetime | None) -> skips.SkipFilter:
    return skips.SkipFilter(reason, profile, since.replace(tzinfo=UTC) if since else None)
