"""The application of an HTTP API."""

from fastapi import FastAPI

from clip_shared import tracing
from clip_shared.http.head import AnswerHead
from clip_shared.http.openapi import Responses
from clip_shared.http.problems import install_problem_handlers


def create_api(name: str, responses: Responses | None = None) -> FastAPI:
    """Return the application of an HTTP API, without routes. Its errors are problems.

    ``responses`` are documented for every route: see :func:`clip_shared.http.openapi.errors`.

    It serves no OpenAPI document. A path with a superfluous slash is 404: behind a proxy with TLS, a redirect
    would lead to plain HTTP.
    """
    app = FastAPI(
        title=name,
        openapi_url=None,
        redirect_slashes=False,
        responses=responses,
        telemetry=tracing.of_api(),
    )
    install_problem_handlers(app)
    app.add_middleware(AnswerHead)
    return app
