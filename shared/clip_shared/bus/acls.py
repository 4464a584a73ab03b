"""The rights on Kafka: one user for each service, and its ACLs.

A service reads its topics with consumer groups whose names begin with its own, writes their dead letters, and
writes the topics that it produces. The users themselves, with their passwords, are created on the broker.
Commands for operators (``clip-shared topics``, ``dlq``, ``skips``) need an administrator.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest

from clip_shared.bus.clients import client_security
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.access import ACCESS, Access
from clip_shared.contracts.topics import DLQ_SUFFIX, TOPICS
from clip_shared.errors import PermanentError, TransientError


class Resource(IntEnum):
    """Kafka's numbers for the kind of thing that an ACL is about."""

    TOPIC = 2
    GROUP = 3


class Pattern(IntEnum):
    """Kafka's numbers for how an ACL names that thing: exactly, or by a prefix."""

    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    """Kafka's numbers for what an ACL allows. Both include DESCRIBE."""

    READ = 3
    WRITE = 4


ALLOW = 3
_ANY_HOST = "*"


@dataclass(frozen=True)
class Acl:
    """A user may do one operation with a resource, from any host."""

    user: str
    operation: Operation
    resource: Resource
    name: str
    pattern: Pattern = Pattern.LITERAL


def acls_of(access: Access) -> Iterator[Acl]:
    """Yield the ACLs that a user needs, and no others."""
    topics = {topic.name for topic in TOPICS}
    for name in access.reads:
        yield Acl(access.user, Operation.READ, Resource.TOPIC, name)
        if f"{name}{DLQ_SUFFIX}" in topics:
            yield Acl(access.user, Operation.WRITE, Resource.TOPIC, f"{name}{DLQ_SUFFIX}")
    if access.reads:
        yield Acl(access.user, Operation.READ, Resource.GROUP, f"{access.user}.", Pattern.PREFIXED)
    for name in access.writes:
        yield Acl(access.user, Operation.WRITE, Resource.TOPIC, name)


async def create_acls(settings: KafkaSettings) -> list[Acl]:
    """Create every user's ACLs; those that exist stay as they are, and others are left alone.

    Raises:
        PermanentError: Kafka refused an ACL: it has no authorizer, or we are no administrator.
        TransientError: Kafka cannot be reached.
    """
    acls = [acl for access in ACCESS for acl in acls_of(access)]
    client = AIOKafkaClient(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","), **client_security(settings)
    )
    try:
        await client.bootstrap()
        for acl in acls:
            await _create(client, acl)
    except KafkaError as error:
        servers = settings.kafka_bootstrap_servers
        raise TransientError(f"cannot create ACLs at {servers}: {error}") from error
    finally:
        await client.close()
    return acls


async def _create(client: AIOKafkaClient, acl: Acl) -> None:
    request = CreateAclsRequest(
        acl.resource, acl.name, acl.pattern, f"User:{acl.user}", _ANY_HOST, acl.operation, ALLOW
    )
    response = await client.send(client.get_random_node(), request)
    ((code, message),) = response.creation_responses
    if code != 0:
        raise PermanentError(f"the bus refused {acl}: {for_code(code).__name__}: {message}")
