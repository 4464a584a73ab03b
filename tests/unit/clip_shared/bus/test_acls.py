"""The ACLs: what the pages say about who reads and writes what, and nothing else."""

import re

import pytest
from tests.support.deployment import ROOT

from clip_shared.bus.acls import Acl, Operation, Pattern, Resource, acls_of
from clip_shared.contracts.access import ACCESS, Access
from clip_shared.contracts.topics import TOPICS, types_of

TOPIC_NAMES = {topic.name for topic in TOPICS}


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """The topics that each service reads and writes, by the table of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| \[([\w-]+)\]\([^)]*\) \|([^|]*)\|([^|]*)\|", page, re.MULTILINE)
    return {name: (topics_in(reads), topics_in(writes)) for name, reads, writes in rows}


def deployed() -> dict[str, tuple[set[str], set[str], set[str]]]:
    """The topics and groups that each user has, by the table in docs/deployment.md."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \|([^|]*)\|([^|]*)\|([^|]*)\|", page, re.MULTILINE)
    return {user: tuple(set(re.findall(r"`([^`]+)`", cell)) for cell in cells) for user, *cells in rows}  # type: ignore[misc]


def topics_in(text: str) -> set[str]:
    return set(re.findall(r"`([\w-]+)`", text)) & TOPIC_NAMES


def test_every_service_reads_and_writes_what_the_page_says() -> None:
    ours = {each.user: (set(each.reads), set(each.writes)) for each in ACCESS}
    on_the_bus = {user: topics for user, topics in documented().items() if user in ours}
    assert len(on_the_bus) == 3
    assert on_the_bus == {user: ours[user] for user in on_the_bus}


@pytest.mark.parametrize("access", ACCESS, ids=lambda access: access.user)
class TestEveryUser:
    def test_has_the_acls_of_the_page_for_operators(self, access: Access) -> None:
        acls = list(acls_of(access))
        topics = [acl for acl in acls if acl.resource is Resource.TOPIC]
        assert deployed()[access.user] == (
            {acl.name for acl in topics if acl.operation is Operation.READ},
            {acl.name for acl in topics if acl.operation is Operation.WRITE},
            {f"{acl.name}*" for acl in acls if acl.resource is Resource.GROUP},
        )

    def test_has_topics_that_exist(self, access: Access) -> None:
        assert {acl.name for acl in acls_of(access) if acl.resource is Resource.TOPIC} <= TOPIC_NAMES


def test_every_topic_is_written_and_read_by_somebody() -> None:
    live = {name for name in TOPIC_NAMES if types_of(name) and not name.endswith(".dlq")}
    assert {topic for access in ACCESS for topic in access.writes} == live
    assert {topic for access in ACCESS for topic in access.reads} == live


def test_a_service_has_its_dead_letters_and_its_groups() -> None:
    assert set(acls_of(Access("janitor", reads=("daily-tick",)))) == {
        Acl("janitor", Operation.READ, Resource.TOPIC, "daily-tick"),
        Acl("janitor", Operation.WRITE, Resource.TOPIC, "daily-tick.dlq"),
        Acl("janitor", Operation.READ, Resource.GROUP, "janitor.", Pattern.PREFIXED),
    }
