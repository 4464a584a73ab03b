"""The command line of the gateway."""

import typer

from clip_gateway.app import NAME, build
from clip_gateway.settings import Settings
from clip_shared.service import serve as serve_app

cli = typer.Typer(
    no_args_is_help=True,
    help="The public edge: streamers watch, download, keep and publish their clips.",
)


@cli.callback()
def commands() -> None:
    """Keep ``serve`` a command of its own, though it is the only one."""


@cli.command()
def serve() -> None:
    """Run the service; the environment says how."""
    serve_app(NAME, Settings, build)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
