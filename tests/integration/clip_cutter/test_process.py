"""A child process ends with its job, and within its share of the machine."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from clip_cutter.ffmpeg.process import (
    MAX_LINE_BYTES,
    ProcessLimits,
    TookTooLong,
    TooMuchOutput,
    run,
    without_network,
)
from tests.integration.clip_cutter.conftest import LIMITS, MEBIBYTE, running


def ignore(_line: str) -> None:
    """Read and forget."""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_output_lines_and_code_come_back() -> None:
    lines: list[str] = []
    result = await run(["sh", "-c", "echo out; printf 'one\\ntwo' >&2; exit 3"], LIMITS, lines.append)
    assert (result.return_code, result.output, lines) == (3, b"out\n", ["one", "two"])


async def test_it_knows_no_secret_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREE_STORAGE_SECRET_KEY", "secret")
    assert b"secret" not in (await run(["env"], LIMITS, ignore)).output


@pytest.mark.skipif(os.geteuid() == 0 and not without_network(), reason="root can read everything here")
async def test_it_reads_no_secret_of_this_process_either() -> None:
    """A program of the same user may read the environment of any other, unless that one hides it."""
    code = """
import asyncio
from clip_cutter.ffmpeg.process import ProcessLimits, hide_memory, run
async def read():
    command = ["sh", "-c", "cat /proc/$PPID/environ"]
    limits = ProcessLimits(60, 60, 2**32, 2**20)
    results = [await run(command, limits, lambda _: None, network=network) for network in (True, False)]
    print(*(result.return_code != 0 and b"SECRET" not in result.output for result in results))
hide_memory()
asyncio.run(read())
"""
    # Root reads everything, unless it has no rights.
    powerless = ("unshare", "--user", "--") if os.geteuid() == 0 else ()
    child = await asyncio.create_subprocess_exec(
        *powerless,
        *python(code),
        env=os.environ | {"FREE_STORAGE_SECRET_KEY": "SECRET"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    assert output.splitlines()[-1] == b"True True"


async def test_without_network_it_reaches_nothing_and_is_limited_all_the_same() -> None:
    if not without_network():
        pytest.skip("this machine allows no namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket, os; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        assert (await run(python(code), LIMITS, ignore)).return_code == 0
        assert (await run(python(code), LIMITS, ignore, network=False)).return_code == 1
    busy = replace(LIMITS, cpu_seconds=1)
    result = await run(python("while True: pass"), busy, ignore, network=False)
    assert (result.return_code, result.limit) == (
        -signal.SIGXCPU,
        "the process used more than 1 s of CPU time",
    )
    with pytest.raises(TimeoutError):
        await run(["sleep", "60"], replace(LIMITS, deadline_seconds=0.2), ignore, network=False)
    assert not running("sleep")


async def test_where_no_namespace_may_be_made_it_runs_with_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2; exit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    without_network.cache_clear()
    try:
        assert without_network() == ()
        assert (await run(["echo", "out"], LIMITS, ignore, network=False)).output == b"out\n"
    finally:
        without_network.cache_clear()


async def test_a_kill_is_a_limits_only_after_the_time_that_it_allows() -> None:
    stubborn = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    limits = replace(LIMITS, cpu_seconds=1)
    assert (await run(python(stubborn), limits, ignore)).limit == "the process used more than 1 s of CPU time"
    assert (await run(["sh", "-c", "kill -KILL $$"], limits, ignore)).limit is None


async def test_what_it_started_is_gone_with_it() -> None:
    before = running()
    result = await run(["sh", "-c", "sleep 60 & echo $!"], LIMITS, ignore)
    assert result.return_code == 0
    async with asyncio.timeout(5):
        while is_alive(int(result.output)):  # a killed process takes a moment to go
            await asyncio.sleep(0.01)
    assert running() == before


async def test_a_deadline_ends_it_and_its_children() -> None:
    before, started = running(), time.monotonic()
    with pytest.raises(TimeoutError):
        await run(["sh", "-c", "sleep 60 & sleep 60"], replace(LIMITS, deadline_seconds=0.2), ignore)
    assert time.monotonic() - started < 2
    assert running() == before


async def test_cancellation_ends_it() -> None:
    before = running()
    task = asyncio.create_task(run(["sh", "-c", "trap '' TERM; sleep 60"], LIMITS, ignore))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running() == before


async def test_a_flood_on_standard_output_ends_it() -> None:
    before = running()
    with pytest.raises(TooMuchOutput):
        await run(["sh", "-c", "yes"], LIMITS, ignore)
    assert running() == before


async def test_a_listener_may_end_it() -> None:
    before, started = running(), time.monotonic()

    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="enough"):
        await run(["sh", "-c", "echo enough >&2; sleep 60"], LIMITS, refuse)
    assert time.monotonic() - started < 2
    assert running() == before


async def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names will do
    for code in ("yes", "exit 1", "sleep 60 & sleep 60", "yes >&2"):
        with contextlib.suppress(TooMuchOutput, TimeoutError):
            await run(["sh", "-c", code], replace(LIMITS, deadline_seconds=0.3), ignore)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - a server may end one


async def test_a_line_without_end_is_cut() -> None:
    lines: list[str] = []
    await run(["sh", "-c", "head -c 1000000 /dev/zero >&2"], LIMITS, lines.append)
    assert [len(line) for line in lines] == [MAX_LINE_BYTES]


async def test_memory_cpu_and_files_are_bounded() -> None:
    hungry = replace(LIMITS, memory_bytes=512 * MEBIBYTE)
    # The limits follow the start: the program must not be quicker than they are.
    slow = "import time; time.sleep(0.3); "
    assert (await run(python(slow + "bytearray(2**30)"), hungry, ignore)).return_code == 1
    busy = replace(LIMITS, cpu_seconds=1)
    assert (await run(python("while True: pass"), busy, ignore)).return_code == -signal.SIGXCPU
    writer = python(slow + "import os; open(os.memfd_create('a'), 'wb').write(bytes(10**6))")
    small = replace(LIMITS, file_bytes=1000)
    assert (await run([*writer], small, ignore)).return_code != 0


async def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        await run(["/nowhere/ffmpeg"], LIMITS, ignore)


async def test_a_run_lets_others_go_first_by_its_niceness() -> None:
    wait_until_it_is_set = "sleep 0.2; nice"
    limits = ProcessLimits(60, 60, 2**32, 2**20, niceness=7)
    result = await run(["sh", "-c", wait_until_it_is_set], limits, lambda _: None)
    assert int(result.output) == os.nice(0) + 7


async def test_what_other_programs_worked_does_not_count() -> None:
    """Those of the other lane end meanwhile: a slow storage would be taken for a limit of ours."""
    busy = asyncio.create_task(
        run(python("import time\nwhile time.process_time() < 1: pass"), LIMITS, ignore)
    )
    with pytest.raises(TookTooLong) as error:
        await run(["sleep", "60"], replace(LIMITS, deadline_seconds=6), ignore)
    assert (await busy).return_code == 0
    assert error.value.cpu_seconds < 0.5
