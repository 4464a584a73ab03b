"""Updates the catalogues in ``locales`` from the messages in the templates.

Run ``make messages``. New messages are added without a translation, stale messages are removed, and all are
sorted. A new language begins as a file with only the head of ``de.po``.
"""

import io
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

from clip_gateway.html.languages import LOCALES

HTML = Path(__file__).parent
_METHODS = [("templates/**.html", "jinja2")]
_OPTIONS = {"templates/**.html": {"trimmed": "false", "newstyle_gettext": "true", "silent": "false"}}


def messages() -> Catalog:
    """Return every message of the templates."""
    found = Catalog()
    for _file, _line, message, comments, context in extract_from_dir(
        HTML, _METHODS, _OPTIONS, DEFAULT_KEYWORDS
    ):
        found.add(message, auto_comments=comments, context=context)
    return found


def read(path: Path) -> Catalog:
    """Read a catalogue."""
    with path.open("rb") as file:
        return read_po(file, locale=path.stem)


def updated(path: Path) -> str:
    """Return the text of an updated catalogue: its head and translations, for the templates' messages."""
    head = path.read_text("utf-8").partition("\n\n")[0]
    catalog = read(path)
    catalog.update(messages(), no_fuzzy_matching=True)
    body = io.BytesIO()
    write_po(
        body, catalog, width=0, no_location=True, omit_header=True, sort_output=True, ignore_obsolete=True
    )
    return f"{head}\n\n{body.getvalue().decode('utf-8').strip()}\n"


if __name__ == "__main__":
    for each in sorted(LOCALES.glob("*.po")):
        each.write_text(updated(each), "utf-8")
