"""Run a service with a Kafka client that is patient: ``python -m local_stack.patient clip_cutter serve``.

A broker holds an empty answer back for as long as the consumer asks for (``fetch.max.wait.ms``). The
embedded one answers at once, and an idle consumer asks some two thousand times a second, which takes a third
of a core. Here the client itself waits after an empty answer.

And it refuses commits while a group rebalances. The client takes that for having been forgotten, and joins as
somebody else; the broker then waits for the one whom it was, without end. Here it stays who it is.

With Apache Kafka, services run without this.
"""

import asyncio
import runpy
import sys
from typing import Any

from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import IllegalGenerationError

EMPTY_ANSWER_SECONDS = 0.05


def be_patient() -> None:
    """Make every consumer of this process wait a moment after an empty answer, and stay who it is."""
    fetch = Fetcher._proc_fetch_request

    async def fetch_patiently(self: Any, *request: Any) -> bool:
        found = bool(await fetch(self, *request))
        if not found:
            await asyncio.sleep(EMPTY_ANSWER_SECONDS)
        return found

    Fetcher._proc_fetch_request = fetch_patiently
    commit = GroupCoordinator._do_commit_offsets

    async def commit_as_oneself(self: Any, *offsets: Any) -> None:
        oneself = self.member_id
        try:
            await commit(self, *offsets)
        except IllegalGenerationError:
            self.member_id = oneself
            raise

    GroupCoordinator._do_commit_offsets = commit_as_oneself


if __name__ == "__main__":
    be_patient()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
