"""Every catalogue has exactly the messages of the templates."""

from pathlib import Path

import pytest

from clip_gateway.html import messages
from clip_gateway.html.languages import LOCALES

CATALOGUES = sorted(LOCALES.glob("*.po"))


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_is_up_to_date(path: Path) -> None:
    assert path.read_text("utf-8") == messages.updated(path), "run: make messages"


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_every_message_is_translated_with_all_of_its_values(path: Path) -> None:
    catalog = messages.read(path)
    wrong = [
        message.id
        for message in catalog
        if message.id and (message.fuzzy or not _is_whole(message.string) or message.check(catalog))
    ]
    assert wrong == []


def _is_whole(string: object) -> bool:
    return all(string) if isinstance(string, tuple | list) else bool(string)


def test_the_messages_of_all_templates_are_found() -> None:
    found = {message.id for message in messages.messages() if message.id}
    assert "Your clips" in found
    assert ("Expires in %(num)s day", "Expires in %(num)s days") in found
