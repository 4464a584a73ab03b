"""The command line of the shared package: topics, buckets, ticks, dead letters, skips and schemas."""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from clip_shared.bus import dlq, skips
from clip_shared.bus.acls import create_acls
from clip_shared.bus.admin import correct, create_topics, differences, grow, growths
from clip_shared.bus.clients import publish_once
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts import schemas
from clip_shared.contracts.events import DailyTick, Event, HighlightDetected, SkipReason
from clip_shared.contracts.service_names import CLIP_SHARED
from clip_shared.contracts.topics import DLQ_SUFFIX, TOPICS, types_of, with_partitions
from clip_shared.contracts.topics import Topic as TopicConfig
from clip_shared.errors import ClipsError, PermanentError
from clip_shared.settings import load_settings
from clip_shared.storage import FreeStorage, FreeStorageSettings, ensure_buckets

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What Clips needs beside its services: topics, buckets, the daily tick, dead letters, skipped"
    " highlights, and the schemas of its events.",
)
topics_cli = typer.Typer(no_args_is_help=True, help="The topics of the bus.")
buckets_cli = typer.Typer(no_args_is_help=True, help="The buckets of the free storage.")
schemas_cli = typer.Typer(no_args_is_help=True, help="JSON Schemas and AsyncAPI, generated from the models.")
dlq_cli = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be handled.")
skips_cli = typer.Typer(no_args_is_help=True, help="Skipped highlights: what became no clip.")
cli.add_typer(topics_cli, name="topics")
cli.add_typer(buckets_cli, name="buckets")
cli.add_typer(dlq_cli, name="dlq")
cli.add_typer(skips_cli, name="skips")
cli.add_typer(schemas_cli, name="schemas")

Result = TypeVar("Result")
Folder = Annotated[Path, typer.Argument(help="Where the generated documents are.")]


@topics_cli.command("list")
def list_topics() -> None:
    """List every topic with its partitions, retention and event types."""
    for topic in TOPICS:
        carried = ", ".join(types_of(topic.name))
        typer.echo(f"{topic.name:28} {topic.partitions} partitions, {topic.retention_days} days: {carried}")


@topics_cli.command()
def create(
    replication_factor: Annotated[int, typer.Option(min=1, help="Replicas of each new partition.")] = 1,
    apply: Annotated[
        bool, typer.Option("--apply", help="Also correct the configs of topics that exist.")
    ] = False,
    acls: Annotated[bool, typer.Option("--acls", help="And the ACLs of each service's user.")] = False,
    partitions: Annotated[
        list[str] | None,
        typer.Option(
            envvar="TOPIC_PARTITIONS",
            metavar="TOPIC=COUNT",
            help="How many partitions a topic has; several by repetition, in the environment by spaces.",
        ),
    ] = None,
) -> None:
    """Create the topics that are missing (KAFKA_BOOTSTRAP_SERVERS says where). Safe to repeat.

    A topic that exists is left as it is, and what it differs in is said; --apply corrects it.

    Partitions are only ever added, and only to topics that --partitions names. The events of one key share a
    partition, and most keys change theirs with the number: until what stands in the old partitions is
    handled, events of one key may be handled in another order, or at the same time. Our services bear that.
    Readers of clip-lifecycle must drop a version lower than the one they have. To keep the order, stop the
    producers, wait until no group has lag, add the partitions, and start the producers again.
    """
    settings, counts = load_settings(KafkaSettings), _counts(partitions or [])
    topics = _topics(counts)
    created = _run(create_topics(settings, replication_factor=replication_factor, topics=topics))
    for name, is_new in created.items():
        typer.echo(f"{name:28} {'created' if is_new else 'exists'}")
    existing = [topic for topic in topics if not created[topic.name]]
    is_told = _show_differences(settings, existing, apply=apply)
    is_told |= _show_growths(settings, [topic for topic in existing if topic.name in counts], apply=apply)
    if is_told and not apply:
        typer.echo("correct them with: clip-shared topics create --apply")
    for acl in _run(create_acls(settings)) if acls else []:
        typer.echo(f"{acl.name:28} {acl.user} may {acl.operation.name.lower()}")


def _counts(words: list[str]) -> dict[str, int]:
    """Read TOPIC=COUNT."""
    found = [word.partition("=") for word in words]
    if wrong := [
        f"{name}{sign}{count}" for name, sign, count in found if not count.isdecimal() or int(count) < 1
    ]:
        raise typer.BadParameter(f"not TOPIC=COUNT: {', '.join(wrong)}", param_hint="--partitions")
    return {name: int(count) for name, _, count in found}


def _topics(counts: dict[str, int]) -> tuple[TopicConfig, ...]:
    try:
        return with_partitions(counts, TOPICS)
    except PermanentError as error:
        raise typer.BadParameter(str(error), param_hint="--partitions") from error


def _show_growths(settings: KafkaSettings, topics: list[TopicConfig], *, apply: bool) -> bool:
    """Say which topics have too few partitions; returns whether there are any."""
    too_small = _run(growths(settings, topics)) if topics else []
    if apply:
        _run(grow(settings, too_small))
    for each in too_small:
        now = f"was {each.found}, now {each.wanted}" if apply else f"is {each.found}, should be {each.wanted}"
        typer.echo(f"{each.topic:28} partitions {now}")
    return bool(too_small)


def _show_differences(settings: KafkaSettings, topics: list[TopicConfig], *, apply: bool) -> bool:
    """Say which configs are not what they should be; returns whether there are any."""
    different = _run(differences(settings, topics))
    if apply:
        _run(correct(settings, different))
    for each in different:
        now = f"was {each.found}, now {each.wanted}" if apply else f"is {each.found}, should be {each.wanted}"
        typer.echo(f"{each.topic:28} {each.config} {now}")
    return bool(different)


@buckets_cli.command("create")
def create_buckets(
    also: Annotated[
        list[str] | None, typer.Argument(help="More buckets, for a server that holds the sources too.")
    ] = None,
) -> None:
    """Create the clips' bucket where it is missing (FREE_STORAGE_* says where). Safe to repeat."""
    storage = FreeStorage(load_settings(FreeStorageSettings))
    for name, is_new in _run(ensure_buckets(storage, also or [])).items():
        typer.echo(f"{name:28} {'created' if is_new else 'exists'}")


@cli.command()
def tick() -> None:
    """Send one daily tick (KAFKA_BOOTSTRAP_SERVERS says where). A scheduler calls this once a day."""
    event = Event.new(DailyTick(), source=CLIP_SHARED)
    _run(publish_once(load_settings(KafkaSettings), event))
    typer.echo(f"sent {event.data.TYPE} {event.id}")


@schemas_cli.command()
def write(folder: Folder = Path("shared/schemas")) -> None:
    """Write the documents that have changed; refuses a change that breaks a published version."""
    if problems := schemas.breaking_changes(folder):
        typer.echo("These changes break a published version; give the event a new one:", err=True)
        typer.echo("\n".join(f"  {problem}" for problem in problems), err=True)
        raise typer.Exit(1)
    for path in schemas.write(folder):
        typer.echo(f"wrote {path}" if path.exists() else f"removed {path}")


@schemas_cli.command()
def check(folder: Folder = Path("shared/schemas")) -> None:
    """Fail when a checked-in document is not what the code generates."""
    if names := schemas.drifted(folder):
        typer.echo(f"out of date: {', '.join(names)}; run: clip-shared schemas write", err=True)
        raise typer.Exit(1)


Topic = Annotated[str, typer.Argument(help="The topic that the messages came from, without .dlq.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, oldest first.")]


@dlq_cli.command("list")
def list_dead_letters() -> None:
    """Count every topic's dead letters: pending, and all that are retained."""
    settings = load_settings(KafkaSettings)
    for topic in (each for each in TOPICS if each.name.endswith(DLQ_SUFFIX)):
        pending, retained = _run(dlq.count(settings, topic.name.removesuffix(DLQ_SUFFIX)))
        typer.echo(f"{topic.name:28} {pending} pending, {retained} retained")


@dlq_cli.command()
def show(topic: Topic, limit: Limit = 20) -> None:
    """Show pending dead letters: what was wrong, since when, and the message."""
    letters = _run(dlq.pending(load_settings(KafkaSettings), topic, limit=limit))
    if not letters:
        typer.echo("nothing pending")
    for letter in letters:
        typer.secho(f"{letter.position}  {letter.time:%Y-%m-%d %H:%M:%S} UTC", bold=True)
        typer.echo(f"  {letter.notes.get('dlq_error_type')}: {letter.notes.get('dlq_error')}")
        typer.echo(
            f"  from {letter.notes.get('dlq_topic')} {letter.notes.get('dlq_partition')}:"
            f"{letter.notes.get('dlq_offset')}, by {letter.notes.get('dlq_service')},"
            f" after {letter.notes.get('dlq_attempts')} attempt(s)"
        )
        typer.echo(f"  key {letter.record.key!r}, value {(letter.record.value or b'')[:500]!r}")
        if letter.lacks:
            typer.echo(f"  truncated: it lacks {letter.lacks}, and can only be discarded")


@dlq_cli.command()
def replay(
    topic: Topic,
    limit: Limit = 1000,
    discard: Annotated[
        bool, typer.Option("--discard", help="Mark them as dealt with, send nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")
    ] = False,
) -> None:
    """Send pending dead letters back to their topic, once what was wrong has been put right."""
    settings = load_settings(KafkaSettings)
    action = "discard" if discard else f"send back to {topic}"
    if not yes:
        pending, _ = _run(dlq.count(settings, topic))
        typer.echo(f"would {action}: {min(pending, limit)} of {pending} pending; repeat with --yes to do it")
        return
    done = _run(dlq.replay(settings, topic, limit=limit, discard=discard))
    typer.echo(f"{'discarded' if discard else 'sent back'}: {done.dealt_with}")
    if done.refused:
        typer.echo(
            f"refused: {done.refused}; a dead letter that was truncated cannot be sent back, only discarded:"
            f" see clip-shared dlq show {topic}"
        )


Reason = Annotated[SkipReason | None, typer.Option(help="Only those with this reason.")]
Profile = Annotated[str | None, typer.Option(help="Only those of this source-storage profile.")]
Since = Annotated[datetime | None, typer.Option(help="Only those since then, UTC.")]


@skips_cli.command("list")
def list_skips(
    reason: Reason = None, profile: Profile = None, since: Since = None, limit: Limit = 100
) -> None:
    """List the highlights that became no clip, as long as clip-skipped retains them, and count them."""
    found = _run(skips.find(load_settings(KafkaSettings), _wanted(reason, profile, since)))
    for skip in found[:limit]:
        data = skip.data
        typer.echo(
            f"{skip.time:%Y-%m-%d %H:%M:%S} UTC  {data.reason}  profile {data.source_profile or 'unknown'}"
            f"  highlight {data.stream_highlight_id}  VOD {data.source_vod_id}: {data.message}"
        )
    counts = Counter(skip.data.reason for skip in found).most_common()
    typer.echo(f"{len(found)} skipped" + "".join(f", {number} {name}" for name, number in counts))


@skips_cli.command("replay")
def replay_skips(
    reason: Reason = None,
    profile: Profile = None,
    since: Since = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many, oldest first; unset: all.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")
    ] = False,
) -> None:
    """Send skipped highlights once more, once what was wrong has been put right."""
    settings, wanted = load_settings(KafkaSettings), _wanted(reason, profile, since)
    if not yes:
        count = len(_run(skips.find(settings, wanted)))
        typer.echo(
            f"would send to {HighlightDetected.TOPIC}: {min(count, limit or count)} of {count} skipped;"
            " repeat with --yes to do it"
        )
        return
    done = _run(skips.replay(settings, wanted, limit=limit))
    typer.echo(f"sent: {done.sent}")
    if done.gone:
        typer.echo(f"not sent: {done.gone}; {HighlightDetected.TOPIC} does not retain them any more")


def _wanted(reason: SkipReason | None, profile: str | None, since: datetime | None) -> skips.Wanted:
    return skips.Wanted(reason, profile, since.replace(tzinfo=UTC) if since else None)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except ClipsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def main() -> None:
    """Run the command line."""
    # What libraries log of an outage on the way to the error that we print would stand there a second time.
    logging.getLogger().addHandler(logging.NullHandler())
    cli()


if __name__ == "__main__":
    main()
