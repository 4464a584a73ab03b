"""Decision records have one shape, and those that replace each other name each other."""

import re
from collections.abc import Iterator

import pytest

from tests.support.deployment import ROOT
from tests.support.documents import Page

FOLDER = ROOT / "docs/decisions"
HEADINGS = ["Context", "Decision", "Consequences", "Alternatives", "Where", "Revisit when"]
MOST_LINES = 60

_LINK = r"\[(\d{4})\]\((\d{4}[\w-]*\.md)\)"
_LINKS = rf"{_LINK}(?:(?:, | and ){_LINK})*"
_TITLE = r"^# (\d+)\. \S.*\n\n"
_STATE = rf"(accepted|(?:superseded|amended) by {_LINKS})"
_STATUS = re.compile(rf"{_TITLE}\*\*Status:\*\* {_STATE}, \d{{4}}-\d\d-\d\d\n\n## ")
_CHANGES = re.compile(rf"\b(?:Supersedes|[Aa]mends) {_LINKS}")
_TARGET = re.compile(_LINK)
_ROW = re.compile(r"^\| \[\d{4}\]\(([^)]*)\) \| .+ \| (.+) \|$", re.MULTILINE)


class Decision:
    """A decision record. In its ``text`` a list of links stands on one line."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.name = page.path.name
        self.text = re.sub(r"(?<=[^\n])\n(?=\[)", " ", page.text)

    @property
    def status(self) -> re.Match[str] | None:
        """The title and the status; None where they are not of the shape."""
        return _STATUS.match(self.text)

    @property
    def short_status(self) -> str:
        """The status as the list has it: with numbers in place of links."""
        return _TARGET.sub(r"\1", self.status[2]) if self.status else "not of the shape"

    @property
    def changed_by(self) -> set[str]:
        """File names of the records that supersede or amend this one, by its status."""
        return _files(self.status[2]) if self.status else set()

    @property
    def changes(self) -> set[str]:
        """File names of the records that this one says that it supersedes or amends."""
        return {name for each in _CHANGES.finditer(self.text) for name in _files(each[0])}

    def section(self, heading: str) -> str:
        """Return the text below a heading."""
        _, _, rest = self.page.text.partition(f"\n## {heading}\n")
        return rest.partition("\n## ")[0].strip()


def _files(text: str) -> set[str]:
    return {file for _, file in _TARGET.findall(text)}


def every_decision() -> Iterator[Decision]:
    """Every record, in the order of the numbers."""
    yield from (Decision(Page(path)) for path in sorted(FOLDER.glob("0*.md")))


DECISIONS = {each.name: each for each in every_decision()}


@pytest.mark.parametrize("decision", DECISIONS.values(), ids=DECISIONS)
class TestShape:
    def test_it_has_a_number_a_status_and_a_date(self, decision: Decision) -> None:
        assert decision.status is not None, "write: # N. Title, **Status:** …, DATE, ## Context"
        assert f"{int(decision.status[1]):04}" == decision.name[:4]

    def test_it_has_the_headings_in_their_order(self, decision: Decision) -> None:
        assert re.findall(r"^## (.*)$", decision.page.prose, re.MULTILINE) == HEADINGS
        assert [each for each in HEADINGS if not decision.section(each)] == []

    def test_it_fits_on_a_page(self, decision: Decision) -> None:
        assert len(decision.page.text.splitlines()) <= MOST_LINES

    def test_it_says_where_it_is_held(self, decision: Decision) -> None:
        assert "](" in decision.section("Where")

    def test_the_records_that_change_it_exist_and_say_so(self, decision: Decision) -> None:
        assert decision.changed_by <= set(DECISIONS)
        assert {name for name in decision.changed_by if decision.name not in DECISIONS[name].changes} == set()

    def test_the_records_that_it_changes_say_so(self, decision: Decision) -> None:
        assert decision.changes <= set(DECISIONS)
        assert {name for name in decision.changes if decision.name not in DECISIONS[name].changed_by} == set()

    def test_a_link_to_a_record_has_the_number_of_its_file(self, decision: Decision) -> None:
        assert [each for each in _TARGET.findall(decision.text) if each[0] != each[1][:4]] == []


def test_the_list_has_every_record_with_its_status() -> None:
    rows = _ROW.findall(Page(FOLDER / "README.md").text)
    assert dict(rows) == {each.name: each.short_status for each in DECISIONS.values()}
