"""One running system for all e2e tests, gone before the integration tests, whose topics it consumes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from local_stack.servers import Addresses
from local_stack.stack import LocalStack, temporary_stack
from local_stack.vod import generate_vod
from tests.e2e.platform import Platform


@pytest.fixture(scope="package")
def stack(addresses: Addresses) -> Iterator[LocalStack]:
    """The four services on the servers of this run."""
    with temporary_stack(addresses=addresses) as stack:
        yield stack


@pytest.fixture(scope="package")
def vod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute in which every frame tells its number."""
    path = tmp_path_factory.mktemp("vod") / "vod.mp4"
    generate_vod(path)
    return path


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def platform(stack: LocalStack, vod: Path) -> AsyncIterator[Platform]:
    """The platform around the system, with the recording in its source bucket."""
    async with Platform(stack) as platform:
        platform.upload(vod)
        yield platform
