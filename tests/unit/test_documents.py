"""What the pages name is there: files, headings, commands, variables, metrics; and what they claim is so."""

import re
from functools import cache

import pytest

from clip_registry.domain.actions import TRANSITIONS
from clip_shared.contracts.registry_api import ClipStatus
from local_stack.servers.kafka_jars import KAFKA_VERSION
from tests.reference.commands import every_command
from tests.reference.settings import SERVICES
from tests.support import programs
from tests.support.deployment import ROOT
from tests.support.documents import Page, every_page, living_pages

PROGRAM_CALL = re.compile(
    r"(?:^|[\s|(])(clip-(?:shared|cutter|registry|gateway)|janitor) (?!janitor )([a-z]+)(?: ([a-z]+))?"
)
FOLDERS = ("deploy/", "docs/", "requirements/", "services/", "shared/", "tests/", "tools/")
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]")
README_LINES = 120
FOREIGN_WORDS = {"ACK_FIRST"}  # FastStream's


def _named(pages: list[Page]) -> list[object]:
    return [pytest.param(page, id=str(page)) for page in pages]


@pytest.mark.parametrize("page", _named(list(every_page())))
def test_every_link_leads_somewhere(page: Page) -> None:
    for file, heading in page.links:
        assert file.exists(), f"{file} is missing"
        assert not heading or heading in Page(file).anchors, f"{file} has no heading #{heading}"


@pytest.mark.parametrize("page", _named(list(living_pages())))
class TestWhatAPageNames:
    def test_make_targets(self, page: Page) -> None:
        targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = {
            name
            for text in [*page.spans, *page.shell]
            for name in re.findall(r"\bmake (?:-s )?([a-z][a-z-]*)", text)
        }
        assert named - targets == set()

    def test_commands(self, page: Page) -> None:
        assert [each for text in [*page.spans, *page.shell] for each in _unknown_commands(text)] == []

    def test_files(self, page: Page) -> None:
        named = [span for span in page.spans if span.startswith(FOLDERS) and re.fullmatch(r"[\w./-]+", span)]
        assert [each for each in named if not (ROOT / each).exists()] == []

    def test_metrics(self, page: Page) -> None:
        named = {name for span in page.spans for name in re.findall(r"\bclips_[a-z_]+[a-z]", span)}
        assert {each for each in named if _metric_stem(each) not in _source()} == set()

    def test_variables(self, page: Page) -> None:
        named = {name for span in page.spans for name in VARIABLE.findall(span)}
        assert {each for each in named if each not in _known_words()} == set()


def _unknown_commands(text: str) -> list[str]:
    """Calls of our programs whose command does not exist."""
    commands, groups = set(every_command()), {each.rpartition(" ")[0] for each in every_command()}
    unknown = []
    for program, first, second in PROGRAM_CALL.findall(text):
        words = f"{program} {first}"
        known = words in commands or (words in groups and (not second or f"{words} {second}" in commands))
        if not known:
            unknown.append(f"{words} {second}".strip())
    return unknown


def _metric_stem(name: str) -> str:
    """A metric's name as the code has it: the client adds what it is."""
    return re.sub(r"_(total|bucket|count|sum|created)$", "", name)


@cache
def _source() -> str:
    patterns = (
        "services/**/*.py",
        "shared/**/*.py",
        "tools/**/*.py",
        "deploy/**/*.yml",
        "tools/pyproject.toml",
    )
    return "\n".join(path.read_text() for each in patterns for path in ROOT.glob(each))


@cache
def _known_words() -> set[str]:
    """Every word in capitals that code, compose, the Makefile or the tests know."""
    settings = {field.upper() for settings in SERVICES.values() for field in settings.model_fields}
    patterns = (
        "docker-compose.yml",
        ".env.example",
        "Makefile",
        "deploy/**/*",
        "tools/**/*.py",
        "services/**/*.py",
    )
    files = [path for each in (*patterns, "shared/**/*.py", "tests/**/*.py") for path in ROOT.glob(each)]
    texts = [path.read_text(errors="replace") for path in files if path.is_file()]
    return settings | FOREIGN_WORDS | {word for text in texts for word in VARIABLE.findall(text)}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_the_actions_of_the_page_are_those_of_the_rules() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", _page("docs/architecture.md"), re.MULTILINE)
    told = {action: (set(re.findall(r"\w+", sources)), target.strip("`")) for action, sources, target in rows}
    statuses = {status.value for status in ClipStatus}
    assert {
        action: (sources, target if target in statuses else None)
        for action, (sources, target) in told.items()
    } == {
        action.value: ({each.value for each in way.sources}, way.target.value if way.target else None)
        for action, way in TRANSITIONS.items()
    }


def test_every_decision_stands_in_the_list() -> None:
    decisions = {path.name for path in (ROOT / "docs/decisions").glob("0*.md")}
    assert set(re.findall(r"\]\((0[^)]*)\)", _page("docs/decisions/README.md"))) == decisions


def test_the_glossary_has_every_status_in_its_order() -> None:
    words = re.findall(r"^\| \*(.+?)\*", _page("docs/glossary.md"), re.MULTILINE)
    assert {status.value for status in ClipStatus} <= set(words)
    assert words == sorted(words, key=str.lower)


def test_the_java_programs_name_the_jars_that_they_are_run_with() -> None:
    jars = (ROOT / "tools/local_stack/servers/apache_kafka.sha256").read_text()
    named = re.findall(r"`([\w.]+:[\w-]+:[\d.]+)`", programs.PAGE.read_text())
    assert f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}" in named
    assert all(each in jars for each in named)


def _page(name: str) -> str:
    return (ROOT / name).read_text()
