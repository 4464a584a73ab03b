"""Languages, formats, and static files of the pages."""

import hashlib
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from babel import Locale

from clip_gateway.html import formats
from clip_gateway.html.languages import Languages
from clip_gateway.html.rendering import STATIC, Renderer
from clip_gateway.html.style import STYLE
from tests.unit.clip_gateway.conftest import ADDRESSES

# Of htmx.org 4.0.1 on npm, dist/htmx.min.js.
HTMX = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
PREFERENCES = (
    ("de", "de"),
    ("de-CH", "de"),
    ("fr, de;q=0.5", "de"),
    ("en-GB,de;q=0.9", "en"),
    ("de;q=0.1, en;q=0.9", "en"),
    ("fr", "en"),
    ("", "en"),
    ("*", "en"),
    (";;q=,q=x;q=y,\x00", "en"),
    ("d" * 10_000, "en"),
)


@pytest.mark.parametrize(("header", "language"), PREFERENCES)
def test_the_reader_gets_the_first_of_their_languages_that_we_have(header: str, language: str) -> None:
    assert Languages().choose(header).language == language


def test_another_language_is_a_file(tmp_path: Path) -> None:
    french = 'msgid ""\nmsgstr "Language: fr\\n"\n\nmsgid "Your clips"\nmsgstr "Tes clips"\n'
    (tmp_path / "fr.po").write_text(french, "utf-8")
    languages = Languages(tmp_path)
    assert languages.translations(languages.choose("fr-CA")).gettext("Your clips") == "Tes clips"


@pytest.mark.parametrize(
    ("count", "english", "german"),
    [
        (0, "0 byte", "0 Byte"),
        (999, "999 byte", "999 Byte"),
        (1_550_000, "1.6 MB", "1,6 MB"),
        (12_345_678, "12 MB", "12 MB"),
        (1_234_567_890_123, "1,235 GB", "1.235 GB"),
    ],
)
def test_sizes_have_two_digits_in_the_readers_language(count: int, english: str, german: str) -> None:
    sizes = [formats.filters(Locale(each))["size"](count) for each in ("en", "de")]
    assert [size.replace("\N{NO-BREAK SPACE}", " ") for size in sizes] == [english, german]


def test_a_moment_says_that_it_is_utc() -> None:
    at = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    shown = formats.filters(Locale("de"))["moment"](at)
    assert shown == "01.03.2026, 23:30:00 UTC"


def test_the_vendored_script_is_the_published_one() -> None:
    folder = STATIC / "vendor" / "htmx"
    assert hashlib.sha256((folder / "htmx.min.js").read_bytes()).hexdigest() == HTMX
    assert "Zero-Clause BSD" in (folder / "LICENSE").read_text("utf-8")


async def test_pages_may_have_the_style_that_they_carry_and_no_other(guest: httpx.AsyncClient) -> None:
    answer = await guest.get("/nowhere")
    policy = answer.headers["content-security-policy"]
    carried = answer.text.partition("<style>")[2].partition("</style>")[0]
    assert carried == STYLE
    assert f"'sha256-{b64encode(hashlib.sha256(carried.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy
    assert answer.text.count("<style") == 1
    assert " style=" not in answer.text


@pytest.mark.parametrize("name", ["gallery.js", "htmx.min.js", "icon.svg"])
async def test_a_versioned_file_lasts_and_another_is_asked_for_again(
    guest: httpx.AsyncClient, name: str
) -> None:
    address = Renderer(ADDRESSES).asset(name)
    lasting = await guest.get(address)
    assert lasting.status_code == 200
    assert "immutable" in lasting.headers["cache-control"]
    plain = await guest.get(address.partition("?")[0])
    assert plain.headers["cache-control"] == "no-cache"
    again = await guest.get(address, headers={"If-None-Match": lasting.headers["etag"]})
    assert again.status_code == 304


async def test_a_file_of_another_version_of_ours_is_not_remembered_as_it(guest: httpx.AsyncClient) -> None:
    """During a deployment a page of one version may ask the other version for its files."""
    answer = await guest.get("/static/gallery.js?v=0123456789ab")
    assert answer.headers["cache-control"] == "no-cache"


async def test_a_file_that_is_not_there_is_not_remembered(guest: httpx.AsyncClient) -> None:
    answer = await guest.get("/static/nothing.js?v=1")
    assert answer.status_code == 404
    assert "immutable" not in answer.headers.get("cache-control", "")


@pytest.mark.parametrize("path", ["/static/../rendering.py", "/static/%2e%2e/rendering.py", "/static/vendor"])
async def test_only_static_files_are_served(guest: httpx.AsyncClient, path: str) -> None:
    assert (await guest.get(path)).status_code == 404
