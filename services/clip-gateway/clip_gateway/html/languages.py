"""The languages of the pages: messages from the catalogues in ``locales``, dates and numbers from CLDR.

To add a language, add the file ``locales/<language>.po``.
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
    """The languages that have messages: English, and one for every catalogue."""

    def __init__(self, folder: Path = LOCALES) -> None:
        self._translations: Mapping[str, NullTranslations] = {
            SOURCE_LANGUAGE: NullTranslations(),
            **{path.stem: _read(path) for path in sorted(folder.glob("*.po"))},
        }

    @property
    def locales(self) -> tuple[Locale, ...]:
        """The locales of all languages, English first."""
        return tuple(Locale.parse(language, sep="-") for language in self._translations)

    def choose(self, accept_language: str | None) -> Locale:
        """Return the best language for an Accept-Language header; English if it names no language of ours."""
        wanted = _in_order(accept_language or "")
        found = negotiate_locale(wanted, list(self._translations), sep="-")
        return Locale.parse(found or SOURCE_LANGUAGE, sep="-")

    def translations(self, locale: Locale) -> NullTranslations:
        """Return the messages of a language."""
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
