"""The command line: ``clip-gateway serve`` and ``clip-gateway openapi``."""

import json

import typer

from clip_gateway.app import api_document, build
from clip_gateway.settings import GatewaySettings
from clip_shared.contracts.service_names import CLIP_GATEWAY
from clip_shared.http.service import serve as serve_app

cli = typer.Typer(
    no_args_is_help=True,
    help="The gateway: streamers watch, download, keep and publish their clips.",
)


@cli.command()
def serve() -> None:
    """Run the service, with settings from environment variables."""
    serve_app(CLIP_GATEWAY, GatewaySettings, build)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document of the JSON API. It is the same for all settings."""
    typer.echo(json.dumps(api_document(), indent=2, ensure_ascii=False))


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
