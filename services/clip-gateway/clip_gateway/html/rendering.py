"""Renders templates as pages in the reader's language, and serves the static files."""

import hashlib
from collections.abc import Collection
from http import HTTPStatus
from pathlib import Path
from typing import Any

from babel import Locale
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from clip_gateway.addresses import PublicAddresses
from clip_gateway.html import formats
from clip_gateway.html.languages import Languages
from clip_gateway.html.style import STYLE

STATIC = Path(__file__).parent / "static"
LASTING = "public, max-age=31536000, immutable"
NO_STORE = {"Cache-Control": "no-store", "Vary": "Accept-Language, Cookie"}
NOINDEX = {"X-Robots-Tag": "noindex"}


class Renderer:
    """Renders the templates of this package. ``asset('name')`` is a static file's versioned address."""

    def __init__(self, addresses: PublicAddresses) -> None:
        self._languages = Languages()
        self._assets = {path.name: _versioned(path) for path in STATIC.rglob("*") if path.is_file()}
        shared = {"addresses": addresses, "asset": self.asset, "style": STYLE}
        self._environments = {
            locale.language: self._environment_of(locale, shared) for locale in self._languages.locales
        }

    def _environment_of(self, locale: Locale, shared: dict[str, Any]) -> Environment:
        """Return the templates in one language. Compiled macros keep their filters: so one per language."""
        environment = Environment(
            loader=PackageLoader("clip_gateway.html"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            extensions=["jinja2.ext.i18n"],
        )
        environment.install_gettext_translations(  # type: ignore[attr-defined]  # of the i18n extension
            self._languages.translations(locale), newstyle=True
        )
        environment.globals |= shared | {"locale": locale}
        environment.filters |= formats.filters(locale)
        return environment

    def asset(self, name: str) -> str:
        """Return the address of a static file. It changes with the file's contents."""
        return self._assets[name]

    def page(
        self, request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **context: Any
    ) -> HTMLResponse:
        """Render a template as a response that no cache may store."""
        return HTMLResponse(self.text(request, template, **context), status, headers=NO_STORE)

    def text(self, request: Request, template: str, **context: Any) -> str:
        """Render a template as text, in the language that the request prefers."""
        locale = self._languages.choose(request.headers.get("accept-language"))
        environment = self._environments[locale.language]
        return environment.get_template(template).render(request=request, **context)

    def static_files(self) -> StaticFiles:
        """Return the application that serves scripts, styles and pictures."""
        return _VersionedFiles(self._assets.values())


class _VersionedFiles(StaticFiles):
    """Serves the static files. Browsers may keep a file for a year if its address has this file's version.

    During a deployment two versions of the gateway run. A page of the other version asks for a file by that
    version: the file that this one returns may differ, and must not be kept.
    """

    def __init__(self, assets: Collection[str]) -> None:
        super().__init__(directory=STATIC)
        self._assets = frozenset(assets)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        asked = f"/static/{path}?{scope['query_string'].decode('latin-1')}"
        lasts = response.status_code == HTTPStatus.OK and asked in self._assets
        response.headers["Cache-Control"] = LASTING if lasts else "no-cache"
        return response


def _versioned(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return f"/static/{path.relative_to(STATIC).as_posix()}?v={digest}"
