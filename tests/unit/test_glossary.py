"""One word for one thing: words that docs/glossary.md says to avoid are nowhere in the tree."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
TEXTS = {".css", ".html", ".js", ".md", ".po", ".py", ".toml", ".yaml", ".yml"}
# Not our words: the history, and what others wrote.
NOT_OURS = (
    "CHANGELOG.md",
    "tests/kubernetes/crds/",
    "services/clip-gateway/clip_gateway/html/static/vendor/",
)
# Files that tests read are named for what they hold: a recording of another program, a hole in the sound.
NOT_IN_TESTS = {"recording", "sound"}
# Terms of others that hold one of the words.
TERMS = {
    # The metadata of commits, which earlier versions read.
    "death": re.compile("deaths="),
    "deaths": re.compile("deaths="),
    # Prometheus' recording rules, and a metric that was published with this name.
    "recording": re.compile(
        r"recording[ -]rules?|rules/recording|recording\.yml|clips_recordings_opened", re.IGNORECASE
    ),
}


def _words_to_avoid() -> list[str]:
    text = GLOSSARY.read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| *")]
    turns = text.partition("## Turns to avoid")[2]
    return [word for cell in [*(row[3] for row in rows), turns] for word in re.findall(r"`([^`]+)`", cell)]


def _texts() -> Iterator[tuple[str, str]]:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        path = ROOT / name
        ours = not name.startswith(NOT_OURS) and path not in {GLOSSARY, Path(__file__)}
        if ours and path.suffix in TEXTS and path.exists():
            yield name, path.read_text()


@pytest.mark.parametrize("word", _words_to_avoid())
def test_a_word_to_avoid_stands_nowhere(word: str) -> None:
    # As a word of prose, and as a part of a name: a_recording, NewRecording.
    found = re.compile(
        rf"(?<![a-zA-Z])(?i:{re.escape(word)})s?(?![a-zA-Z])|(?<=[a-z]){re.escape(word.title())}s?(?![a-z])"
    )
    terms = TERMS.get(word)
    places = [
        f"{name}:{number}: {line.strip()}"
        for name, text in _texts()
        if not (word in NOT_IN_TESTS and name.startswith("tests/"))
        for number, line in enumerate(text.splitlines(), 1)
        if found.search(terms.sub("", line) if terms else line)
    ]
    assert places == []
