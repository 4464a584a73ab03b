"""A minimal gateway, to compare the gateway with: one FastAPI route that presigns with boto3.

It has no sign-in, registry, limits, metrics or headers. It runs as a process; its argument is the port, and
its storage is in the environment, as for the gateway.
"""

import sys
from http import HTTPStatus
from uuid import UUID

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse

from clip_shared.storage import FreeStorage, FreeStorageSettings

READY = "/ready"


def create_app() -> FastAPI:
    """Build the application."""
    app, storage = FastAPI(), FreeStorage(FreeStorageSettings())
    client = storage.client()

    @app.get(READY)
    async def ready() -> Response:
        return Response()

    @app.get("/v1/clips/{clip_id}/watch")
    async def watch(clip_id: UUID) -> Response:
        url = client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": storage.bucket,
                "Key": f"clips/account-1/{clip_id}/event-1.mp4",
                "ResponseContentType": "video/mp4",
                "ResponseContentDisposition": "inline",
            },
            ExpiresIn=900,
        )
        return RedirectResponse(url, HTTPStatus.FOUND, headers={"Cache-Control": "no-store"})

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=False,
        log_level="warning",
        loop="uvloop",
        http="httptools",
    )
