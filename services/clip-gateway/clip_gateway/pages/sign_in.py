"""Routes of sign-out, and of the sign-in page, which exists only in development."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from clip_gateway.addresses import FIRST_PAGE, own_path
from clip_gateway.auth import TokenIssuer
from clip_gateway.html.rendering import NO_STORE, Renderer
from clip_gateway.parts import GatewayParts


def create_router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    """Create the routes. In production the sign-in page is at LOGIN_URL, outside this gateway."""
    router = APIRouter()
    _add_sign_out(router, parts)
    if parts.token_issuer is not None:
        _add_sign_in(router, parts, renderer, parts.token_issuer)
    return router


def _add_sign_out(router: APIRouter, parts: GatewayParts) -> None:
    @router.post("/sign-out", dependencies=[Depends(parts.sign_in.own_page)])
    async def sign_out() -> Response:
        """Remove the cookie, and redirect to LOGOUT_URL or the first page."""
        response = _redirect(parts.addresses.logout_url or FIRST_PAGE)
        parts.sign_in.cookie.forget(response)
        return response


def _add_sign_in(router: APIRouter, parts: GatewayParts, renderer: Renderer, issuer: TokenIssuer) -> None:
    @router.get("/sign-in")
    async def show(request: Request, next: str | None = None) -> Response:  # noqa: A002 - its name in the URL
        return renderer.page(request, "sign_in.html", next=own_path(next), wanted="", refused=False)

    # Without `own_page` another site could sign a user in to an account that it controls.
    @router.post("/sign-in", dependencies=[Depends(parts.sign_in.own_page)])
    async def sign_in(
        request: Request,
        account: Annotated[str, Form()] = "",
        next: Annotated[str | None, Form()] = None,  # noqa: A002 - as above
    ) -> Response:
        account = account.strip()
        try:
            token = issuer.token_for(account)
        except ValueError:
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            shown = {"next": own_path(next), "wanted": account[:100], "refused": True}
            return renderer.page(request, "sign_in.html", status=status, **shown)
        response = _redirect(own_path(next))
        parts.sign_in.cookie.set(response, token, issuer.lifetime)
        return response


def _redirect(address: str) -> Response:
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, headers=NO_STORE)
