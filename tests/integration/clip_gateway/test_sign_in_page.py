"""Sign-in, sign-out and forged requests, in Chromium."""

import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, Response
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from clip_gateway import asgi
from clip_gateway.addresses import own_path
from clip_gateway.app import build
from clip_gateway.parts import GatewayParts
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus
from tests.integration.clip_gateway.conftest import gateway_settings, serving
from tests.support.browser import PLAIN_HOST, running_browser
from tests.unit.clip_gateway.fakes import InMemoryRegistry, a_clip
from tests.unit.clip_gateway.test_addresses import LURES

# Of texts, whether the browser stays on this origin when it is sent there; null: it goes nowhere.
STAYS_HERE = """texts => texts.map(text => {
  try { return new URL(text, location).origin === location.origin } catch { return null }
})"""
DEVELOPMENT = {"environment": "development", "development_sign_in": True}


@dataclass
class Gateway:
    """A gateway in development, on a registry in memory with one clip of streamer-1."""

    url: str
    registry: InMemoryRegistry
    clip: ClipRecord

    @property
    def status(self) -> ClipStatus:
        return self.registry.clips[self.clip.clip_id].status


@asynccontextmanager
async def a_gateway(host: str = "127.0.0.1", **settings: Any) -> AsyncIterator[Gateway]:
    registry = InMemoryRegistry()
    clip = registry.put(a_clip("streamer-1", title="Mine alone", poster_key=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        app = build(gateway_settings(public_url=url, **{**DEVELOPMENT, **settings}))
        parts: GatewayParts = app.state.parts
        async with serving(asgi.create(replace(parts, registry=registry)), listener):
            yield Gateway(url, registry, clip)


@asynccontextmanager
async def a_site(page: str, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Another site: the same page under every path."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await HTMLResponse(page)(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with serving(app, listener):
            yield f"http://{host}:{listener.getsockname()[1]}/"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with a_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def one_browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with running_browser(tmp_path_factory.mktemp("home")) as browser:
        yield browser


@pytest.fixture
async def browser(one_browser: Browser) -> AsyncIterator[Browser]:
    """A browser without contexts: every test opens its own, and they are closed after it."""
    yield one_browser
    for context in one_browser.contexts:
        await context.close()


async def sign_in(page: Page, gateway: Gateway, path: str = "/") -> None:
    await page.goto(gateway.url + path)
    await page.get_by_label("Account").fill("streamer-1")
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(gateway.url + path)


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", PLAIN_HOST])
async def test_in_and_out(browser: Browser, host: str, *, scripts: bool) -> None:
    """To a host without TLS browsers send no Sec-Fetch-Site: the header Origin decides."""
    async with a_gateway(host) as gateway:
        context = await browser.new_context(java_script_enabled=scripts)
        page = await context.new_page()
        await sign_in(page, gateway, "/?title=mine")
        assert "Mine alone" in await page.content()
        (cookie,) = await context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("clips_session", True, "Lax")
        if scripts:
            assert await page.evaluate("document.cookie") == ""
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url(f"{gateway.url}/sign-in?next=%2F")
        assert await context.cookies() == []
        await page.go_back()
        assert "Mine alone" not in await page.content()


async def test_a_name_that_no_account_has(browser: Browser, gateway: Gateway) -> None:
    page = await browser.new_page()
    await page.goto(f"{gateway.url}/sign-in?next=%2F%3Ftitle%3Dmine")
    await page.get_by_label("Account").fill("two words")
    await page.get_by_role("button", name="Sign in").click()
    # The browser itself says so.
    assert await page.get_by_label("Account").evaluate("field => field.validity.patternMismatch")
    await page.evaluate("document.querySelector('form').noValidate = true")
    await page.get_by_role("button", name="Sign in").click()
    assert "1 to 64 letters" in str(await page.get_by_role("alert").text_content())
    await page.get_by_label("Account").fill("streamer-1")
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{gateway.url}/?title=mine")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_the_page_is_accessible(browser: Browser, gateway: Gateway, width: int, scheme: Any) -> None:
    context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(f"{gateway.url}/sign-in")
    found = (await Axe().run(page)).response["violations"]
    assert [each["id"] for each in found] == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # By keyboard alone.
    await page.get_by_label("Account").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{gateway.url}/")
    assert said == []


async def test_it_speaks_german(browser: Browser, gateway: Gateway) -> None:
    context = await browser.new_context(locale="de-DE")
    page = await context.new_page()
    await page.goto(f"{gateway.url}/sign-in")
    assert await page.get_by_role("button", name="Anmelden").is_visible()
    assert await page.get_attribute("html", "lang") == "de"


def form_to(gateway: Gateway, path: str) -> str:
    """A page that posts to the gateway as soon as it is opened."""
    return f"""<!doctype html><form method="post" action="{gateway.url}{path}">
      <input name="account" value="mallory"></form><script>document.forms[0].submit()</script>"""


async def answer_to(context: BrowserContext, address: str, path: str) -> Response:
    """What the gateway answers to the form of another site."""
    page = await context.new_page()
    async with page.expect_response(lambda response: response.url.endswith(path)) as answered:
        await page.goto(address)
    return await answered.value


@pytest.mark.parametrize(
    ("host", "status"),
    # Of another port: the same site to SameSite, which lets the cookie through. Of another host: without it.
    [("127.0.0.1", 403), ("localhost", 401)],
)
async def test_the_forms_of_other_sites_change_nothing(
    browser: Browser, gateway: Gateway, host: str, status: int
) -> None:
    context = await browser.new_context()
    await sign_in(await context.new_page(), gateway)
    path = f"/clips/{gateway.clip.clip_id}/keep"
    async with a_site(form_to(gateway, path), host) as address:
        assert (await answer_to(context, address, path)).status == status
    assert gateway.status is ClipStatus.AVAILABLE
    for path in ("/sign-in", "/sign-out"):
        async with a_site(form_to(gateway, path), host) as address:
            assert (await answer_to(context, address, path)).status == 403
    page = await context.new_page()
    await page.goto(gateway.url)
    assert "Mine alone" in await page.content()


async def test_a_form_over_another_scheme_or_port_proves_nothing_without_fetch_metadata(
    browser: Browser,
) -> None:
    async with a_gateway(PLAIN_HOST) as gateway:
        context = await browser.new_context()
        await sign_in(await context.new_page(), gateway)
        path = f"/clips/{gateway.clip.clip_id}/keep"
        async with a_site(form_to(gateway, path), PLAIN_HOST) as address:
            answer = await answer_to(context, address, path)
            assert "sec-fetch-site" not in await answer.request.all_headers()
            assert answer.status == 403
        assert gateway.status is ClipStatus.AVAILABLE


async def test_no_other_site_frames_a_page(browser: Browser, gateway: Gateway) -> None:
    context = await browser.new_context()
    await sign_in(await context.new_page(), gateway)
    async with a_site(f'<iframe src="{gateway.url}/"></iframe>') as address:
        page = await context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        await page.goto(address)
        inside = "".join([await frame.content() for frame in page.frames[1:]])
    assert "Mine alone" not in inside
    assert any("frame-ancestors" in text for text in said)


async def test_signing_out_leads_to_the_sign_in_service(browser: Browser) -> None:
    """Browsers also check the redirect that answers a form against form-action."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(a_site("<h1>Goodbye</h1>", "localhost"))
        gateway = await stack.enter_async_context(a_gateway(logout_url=f"{service}bye?from=clips"))
        context = await browser.new_context()
        page = await context.new_page()
        await sign_in(page, gateway)
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url(f"{service}bye?from=clips")
        assert await page.get_by_role("heading").text_content() == "Goodbye"
        assert await context.cookies(gateway.url) == []


async def test_an_own_path_stays_on_this_host_in_a_browser(browser: Browser, gateway: Gateway) -> None:
    """The browser's own URL parser decides."""
    page = await browser.new_page()
    await page.goto(f"{gateway.url}/sign-in")
    chance = random.Random(11)  # noqa: S311 - texts to try, the same in each run
    alphabet = [
        "/",
        "/",
        "\\",
        "\t",
        "\n",
        "\r",
        " ",
        ".",
        ":",
        "@",
        "?",
        "#",
        "%2f",
        "%5c",
        "evil.example",
        "é",
        "a",
    ]
    texts = LURES + ["".join(chance.choices(alphabet, k=chance.randint(1, 8))) for _ in range(5000)]
    raw = await page.evaluate(STAYS_HERE, texts)
    passed = await page.evaluate(STAYS_HERE, [own_path(text) for text in texts])
    assert raw.count(False) > 100, "some would lead elsewhere"
    assert set(passed) == {True}
