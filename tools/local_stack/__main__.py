"""The command line of the local stack."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer
from aiokafka.errors import KafkaError
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_shared.contracts.events import (
    DailyTick,
    Event,
    HighlightDetected,
    HighlightKind,
    SourceObject,
    clip_id_for,
)
from local_stack import supervisor
from local_stack.client import SOURCE, Client, HighlightReport, new_id
from local_stack.demo.demo import DemoOptions, run_demo
from local_stack.demo.journey import STREAMER
from local_stack.demo.sample import fill
from local_stack.figures import read_figures
from local_stack.processes.ffmpeg import FfmpegFailed
from local_stack.processes.ports import LOOPBACK
from local_stack.processes.signals import leave_on_signals
from local_stack.processes.state import State
from local_stack.servers.kafka_jars import BrokerUnavailable, bring_broker
from local_stack.servers.monitoring import MonitoringPrograms, MonitoringUnavailable
from local_stack.stack import SERVICE_VARIABLES, SOURCE_BUCKET, SOURCE_PROFILE, readiness_error

cli = typer.Typer(no_args_is_help=True, help="The whole of Clips on one machine, without Docker.")
out = Console(highlight=False)

_OUTCOME_SECONDS = 600

Account = Annotated[str, typer.Option(help="The streamer's account.")]
Vod = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="A VOD: an MP4, MKV, MPEG-TS or FLV file.")
]


@cli.callback()
def commands(
    context: typer.Context,
    state: Annotated[Path, typer.Option(help="The folder of the stack.", file_okay=False)] = Path(".local"),
) -> None:
    """Prepare every command: signals, proxies, logs, and the stack's folder."""
    leave_on_signals()
    # Every request stays on this machine, so the user's proxies must not be used.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), LOOPBACK]))
    # aiokafka logs each failed attempt; the command prints the error that is raised in the end.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    context.obj = State(state)


@cli.command()
def up(
    context: typer.Context,
    *,
    monitored: Annotated[
        bool, typer.Option(help="Also start Prometheus and Alertmanager, found on PATH.")
    ] = False,
) -> None:
    """Start the whole system in the background; return when it is ready."""
    state: State = context.obj
    if monitored:
        _find_monitoring()
    _bring_broker()
    running = supervisor.find_running(state)
    if running and monitored and not running.monitored:
        raise _failed("Clips already runs, without Prometheus. Stop it first: make down")
    if running and running.ready:
        out.print(f"Clips already runs, as process {running.pid}.\n")
        _show(state)
        return
    if running:
        raise _failed(
            f"process {running.pid} is starting Clips; to see its progress: tail -f {state.log('supervisor')}"
        )
    started = time.monotonic()
    try:
        with out.status("Starting PostgreSQL, S3, Apache Kafka and the four services …"):
            supervisor.launch(
                state, lambda line: out.print(f"[green]✓[/] {escape(line)}"), monitored=monitored
            )
    except supervisor.NotStarted as error:
        raise _failed(str(error)) from error
    out.print(f"\n[bold green]Clips is up[/], after {time.monotonic() - started:.1f} s.\n")
    _show(state)


@cli.command()
def down(context: typer.Context) -> None:
    """Stop the system, and processes left over from an earlier run. Keep its data for the next start."""
    with out.status("Stopping …"):
        was_running = supervisor.stop(context.obj)
    out.print("Clips is stopped." if was_running else "Clips was not running.")


@cli.command()
def status(context: typer.Context) -> None:
    """Show which services are ready. Exit code 1 when a service is not ready, or Clips does not run."""
    state: State = context.obj
    running = supervisor.find_running(state)
    if running is None or not running.ready:
        out.print("Clips is starting." if running else "Clips is not running. To start it: make up")
        raise typer.Exit(1)
    errors = {name: readiness_error(url) for name, url in _urls(_client(state), "OPERATIONS_URL").items()}
    table = Table(box=None, show_header=False)
    for name, error in errors.items():
        table.add_row(name, "[green]ready[/]" if error is None else f"[red]not ready[/] {escape(error)}")
    out.print(table)
    raise typer.Exit(1 if any(errors.values()) else 0)


@cli.command()
def token(
    context: typer.Context,
    account: Account = STREAMER,
    days: Annotated[float, typer.Option(min=0.0001, help="Days until the token expires.")] = 1.0,
) -> None:
    """Print a sign-in token for an account."""
    sys.stdout.write(_client(context.obj).token(account, lifetime=timedelta(days=days)) + "\n")


@cli.command()
def highlight(
    context: typer.Context,
    *,
    vod: Annotated[
        str, typer.Option(help=f"The VOD: a file, or the key of an object in the bucket {SOURCE_BUCKET}.")
    ],
    start: Annotated[
        float, typer.Option(help="Start of the highlight, in seconds from the start of the VOD.")
    ],
    end: Annotated[float, typer.Option(help="End of the highlight, in seconds from the start of the VOD.")],
    account: Account = STREAMER,
    title: Annotated[str, typer.Option(help="The clip's title.")] = "A highlight",
    kind: Annotated[HighlightKind, typer.Option(help="How it was found.")] = HighlightKind.REFINED,
    id_: Annotated[
        str | None, typer.Option("--id", help="The highlight's id. Without this option: a new id.")
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait for the clip, or for the reason why it was not cut.")
    ] = True,
) -> None:
    """Publish a highlight of a VOD, and print the clip's address or the reason why it was not cut."""
    client = _client(context.obj)
    with _printed_errors():
        data = HighlightDetected(
            stream_highlight_id=id_ or new_id(),
            twitch_account_id=account,
            source_vod_id="local",
            source=_source(client, vod),
            start_seconds=start,
            end_seconds=end,
            kind=kind,
            title=title,
        )
        event = Event.new(data, source=SOURCE)
        clip_id = clip_id_for(data.stream_highlight_id)
        url = f"{_gateway(client)}/v1/clips/{clip_id}"
        out.print(f"highlight  {data.stream_highlight_id}\nevent      {event.id}\nclip       {clip_id}")
        if not wait:
            asyncio.run(client.publish(event))
            out.print(f"Published. To follow it: GET {url}")
            return
        started = time.monotonic()
        with out.status("Waiting for the clip …"):
            outcome = asyncio.run(_publish_and_wait(client, event))
    if outcome.reason:
        raise _failed(f"the highlight became no clip: {outcome.reason}")
    out.print(f"[green]The clip is available[/] after {time.monotonic() - started:.1f} s. To download it:")
    bearer = f'-H "Authorization: Bearer $(make -s token ACCOUNT={account})"'
    out.print(escape(f"  curl -L -o clip.mp4 {bearer} {url}/watch"), soft_wrap=True)
    out.print(
        f"To watch it in a browser, signed in as {escape(account)}: {_gateway(client)}/clips/{clip_id}",
        soft_wrap=True,
    )


@cli.command()
def sample(context: typer.Context, account: Account = STREAMER) -> None:
    """Fill an account's gallery: generate two short VODs and publish ten highlights of them."""
    state: State = context.obj
    client = _client(state)
    started = time.monotonic()
    with (
        _printed_errors(),
        out.status("Generating two VODs, publishing ten highlights, waiting for the clips …"),
    ):
        outcomes = fill(client, account, state.tmp)
    for title, outcome in outcomes.items():
        mark, rest = ("[yellow]✗[/]", f": {outcome.reason}") if outcome.reason else ("[green]✓[/]", "")
        out.print(f"{mark} {escape(title)}[dim]{escape(rest)}[/]", soft_wrap=True)
    out.print(f"\nDone after {time.monotonic() - started:.0f} s. [bold]In a browser:[/] {_gateway(client)}/")
    out.print(f"Sign in as {escape(account)}, without a password.")


@cli.command()
def tick(context: typer.Context) -> None:
    """Send the daily tick: the janitor purges the clips that are due."""
    client = _client(context.obj)
    with _printed_errors():
        asyncio.run(client.publish(Event.new(DailyTick(), source=SOURCE)))
    out.print("The tick is sent. The janitor purges the clips that are due.")


@cli.command()
def demo(
    vod: Vod = None,
    start: Annotated[
        float | None, typer.Option(help="Start of the clip, in seconds from the start of the VOD.")
    ] = None,
    end: Annotated[
        float | None, typer.Option(help="End of the clip, in seconds from the start of the VOD.")
    ] = None,
    retention: Annotated[
        float | None, typer.Option(min=1, help="Seconds until a clip that is not kept expires.")
    ] = None,
) -> None:
    """Show the main job end to end, on a temporary stack. Exit code 0 when every step succeeded."""
    _bring_broker()
    raise typer.Exit(0 if run_demo(out, DemoOptions(vod, start, end, retention)) else 1)


@cli.command()
def figures(context: typer.Context) -> None:
    """Print the values that the dashboards show now. Needs a stack with monitoring."""
    client = _client(context.obj)
    if (prometheus := _monitoring(client).get("Prometheus")) is None:
        raise _failed("the stack runs without Prometheus. Start it with: make down; make up MONITORING=1")
    with _printed_errors():
        for title, panels in read_figures(prometheus).items():
            table = Table("", "now", title=f"[bold]{escape(title)}[/]", title_justify="left", box=None)
            for panel in panels:
                table.add_row(escape(panel.title), escape(panel.now))
            out.print(table, "")


@cli.command(hidden=True)
def supervise(context: typer.Context, *, monitored: bool = False) -> None:
    """Run the stack in the foreground until a signal. ``up`` starts this command in the background."""
    try:
        supervisor.supervise(context.obj.folder, monitored=monitored)
    except supervisor.NotStarted as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


async def _publish_and_wait(client: Client, event: Event[HighlightDetected]) -> HighlightReport:
    async with client.outcomes() as outcomes, asyncio.timeout(_OUTCOME_SECONDS):
        await client.publish(event)
        while True:
            outcome = await anext(outcomes)
            if outcome.stream_highlight_id == event.data.stream_highlight_id:
                return outcome


def _source(client: Client, vod: str) -> SourceObject:
    path = Path(vod).expanduser()
    if path.is_file():
        with out.status(f"Uploading {escape(str(path))} to the source bucket …"):
            return client.upload(path)
    if client.stored_bytes(SOURCE_BUCKET, vod) is None:
        raise _failed(f"{vod} is neither a file nor an object in the bucket {SOURCE_BUCKET}")
    return SourceObject(profile=SOURCE_PROFILE, bucket=SOURCE_BUCKET, key=vod)


def _client(state: State) -> Client:
    if not state.env_file.exists():
        raise _failed("the stack is not running; to start it: make up")
    return Client.of_file(state.env_file)


def _find_monitoring() -> None:
    try:
        MonitoringPrograms.find()
    except MonitoringUnavailable as error:
        Console(stderr=True, highlight=False).print(escape(str(error)), soft_wrap=True)
        raise typer.Exit(2) from error


def _bring_broker() -> None:
    def show(done: int, jars: int) -> None:
        shown.update(f"Downloading Apache Kafka (only the first time): {done} of {jars} jars …")
        if done == 0 and not out.is_terminal:  # rich shows no status there
            out.print("Downloading Apache Kafka (44 MB, only the first time) …")

    try:
        with out.status("Looking for Apache Kafka …") as shown:
            bring_broker(show)
    except BrokerUnavailable as error:
        Console(stderr=True, highlight=False).print(escape(str(error)), soft_wrap=True)
        raise typer.Exit(2) from error


def _gateway(client: Client) -> str:
    return client.environment["GATEWAY_URL"]


def _urls(client: Client, kind: str) -> Mapping[str, str]:
    return {name: client.environment[f"{prefix}_{kind}"] for name, prefix in SERVICE_VARIABLES.items()}


def _monitoring(client: Client) -> Mapping[str, str]:
    variables = {"Prometheus": "PROMETHEUS_URL", "Alertmanager": "ALERTMANAGER_URL"}
    return {
        name: client.environment[variable]
        for name, variable in variables.items()
        if variable in client.environment
    }


def _show(state: State) -> None:
    client = _client(state)
    table = Table(box=None, show_header=False)
    rows = {
        **_urls(client, "URL"),
        "Kafka": client.environment["KAFKA_BOOTSTRAP_SERVERS"],
        "PostgreSQL": client.environment["DATABASE_URL"].rpartition("@")[2],
        "S3": client.environment["FREE_STORAGE_ENDPOINT"],
        **_monitoring(client),
        "settings and keys": str(state.env_file),
        "logs": str(state.logs),
    }
    for name, where in rows.items():
        table.add_row(f"[bold]{name}[/]", escape(where))
    out.print(table)
    figures_hint = (
        "  make figures                                 print the values of the dashboards\n"
        if _monitoring(client)
        else ""
    )
    out.print(
        f"\n[bold]In a browser:[/] {_gateway(client)}/\n"
        f"Sign in as {STREAMER}, without a password.\n"
        "\nNext steps:\n"
        "  make sample                                  fill the gallery with clips\n"
        "  make highlight VOD=vod.mp4 START=10 END=20   cut a clip\n"
        "  make token ACCOUNT=streamer-1                print a sign-in token for the API\n"
        "  make tick                                    purge the clips that are due\n"
        f"{figures_hint}"
        "  make down                                    stop Clips"
    )


@contextmanager
def _printed_errors() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise _failed(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from error
    except FfmpegFailed as error:
        raise _failed(str(error)) from error
    except TimeoutError as error:
        raise _failed("no answer in time; look for the reason in the services' logs") from error
    except (KafkaError, BotoCoreError, ClientError, httpx.HTTPError, OSError) as error:
        raise _failed(f"the stack does not answer: {error}. To start it: make up") from error


def _failed(why: str) -> typer.Exit:
    Console(stderr=True, highlight=False).print(f"[bold red]Failed:[/] {escape(why)}", soft_wrap=True)
    return typer.Exit(1)


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
