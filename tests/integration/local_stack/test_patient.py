"""Services on the embedded broker get a client that makes up for what the broker lacks."""

import subprocess
import sys

import pytest

from clip_shared.settings import KafkaSettings

PROGRAM = """
import asyncio, os, sys, uuid
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError
from local_stack.patient import be_patient

class Member(ConsumerRebalanceListener):
    def __init__(self, group):
        self.revoked, self.may_rejoin, self.assigned = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=sys.argv[1], group_id=group, enable_auto_commit=False, heartbeat_interval_ms=200
        )
        self.consumer.subscribe(["highlight-detected"], listener=self)

    async def on_partitions_revoked(self, revoked):
        if revoked:
            self.revoked.set()
            await self.may_rejoin.wait()

    async def on_partitions_assigned(self, assigned):
        self.assigned.set()

async def main():
    group = uuid.uuid4().hex
    first, second = Member(group), Member(group)
    await first.consumer.start()
    await first.assigned.wait()
    first.assigned.clear()
    joining = asyncio.create_task(second.consumer.start())
    await first.revoked.wait()
    try:
        await first.consumer.commit({TopicPartition("highlight-detected", 0): 0})
    except CommitFailedError:
        first.may_rejoin.set()
        await asyncio.wait_for(asyncio.gather(first.assigned.wait(), second.assigned.wait()), 20)
        await joining
        print("refused, and together again")
    os._exit(0)  # nobody else is in the group: nobody waits for these two

be_patient()
asyncio.run(main())
"""


@pytest.mark.usefixtures("topics")
def test_a_member_whose_commit_is_refused_comes_back_as_itself(kafka_settings: KafkaSettings) -> None:
    if kafka_settings.kafka_enable_idempotence:
        pytest.skip("only the embedded broker refuses commits while a group rebalances")
    command = [sys.executable, "-u", "-c", PROGRAM, kafka_settings.kafka_bootstrap_servers]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "refused, and together again\n", result.stderr
