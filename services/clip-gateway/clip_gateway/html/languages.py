"""The reader's language: messages from the catalogues in ``locales``, dates and numbers from CLDR.

A further language is one file, ``locales/<language>.po``.
"""

import io
from collections.abc import Mapping
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

SOURCE_LANGUAGE = "en"
LOCALES = Path(__file__).parent / "locales"


class Languages:
    """The languages that we have messages in."""

    def __init__(self, folder: Path = LOCALES) -> None:
        self._translations: Mapping[str, NullTranslations] = {
            SOURCE_LANGUAGE: NullTranslations(),
            **{path.stem: _read(path) for path in sorted(folder.glob("*.po"))},
        }

    @property
    def locales(self) -> tuple[Locale, ...]:
        """All of them, English among them."""
        return tuple(Locale.parse(language, sep="-") for language in self._translations)

    def choose(self, accept_language: str | None) -> Locale:
        """The first language of an Accept-Language header that we have, else English."""
        wanted = _in_order(accept_language or "")
        found = negotiate_locale(wanted, list(self._translations), sep="-")
        return Locale.parse(found or SOURCE_LANGUAGE, sep="-")

    def translations(self, locale: Locale) -> NullTranslations:
        """The messages of a language."""
        return self._translations[locale.language]


def _read(path: Path) -> Translations:
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=path.stem))
    compiled.seek(0)
    return Translations(compiled)


def _in_order(header: str) -> list[str]:
    weighed = []
    for part in header[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), tag))
        except ValueError:
            continue
    return [tag for _, tag in sorted(weighed, key=lambda each: each[0]) if tag]
