"""The whole system in the background, run with the commands of the local stack."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from local_stack.client import Client
from local_stack.demo.sample import HIGHLIGHTS, SCENE_SECONDS
from local_stack.processes.ports import listener_error
from local_stack.processes.state import State
from local_stack.servers.monitoring import MonitoringPrograms, MonitoringUnavailable
from local_stack.supervisor import find_running


def _has_monitoring() -> bool:
    try:
        MonitoringPrograms.find()
    except MonitoringUnavailable:
        return False
    return True


MONITORING = _has_monitoring()


def local_stack(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local_stack", "--state", str(folder), *arguments]
    # The user's proxy must not be used.
    environment = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, stdin=subprocess.DEVNULL
    )


def test_up_use_and_down(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    try:
        _use(folder)
    finally:
        stopped = local_stack(folder, "down")
    assert (stopped.returncode, stopped.stdout) == (0, "Clips was not running.\n")


def _use(folder: Path) -> None:
    started = local_stack(folder, "up", *(["--monitored"] if MONITORING else []))
    assert started.returncode == 0, started.stderr
    assert "the four services are ready" in started.stdout
    client = Client.of_file(folder / "stack.env")
    gateway = client.environment["GATEWAY_URL"]
    assert f"In a browser: {gateway}/\n" in started.stdout
    assert "Clips already runs" in local_stack(folder, "up").stdout
    assert local_stack(folder, "status").returncode == 0

    token = local_stack(folder, "token", "--account", "streamer-1").stdout.strip()
    url = f"{gateway}/v1/clips"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["items"]) == (200, [])
    refused = local_stack(folder, "highlight", "--vod", "no-such-file", "--start", "1", "--end", "9")
    assert (refused.returncode, "neither a file nor an object" in refused.stderr) == (1, True)
    assert local_stack(folder, "tick").returncode == 0

    _sample(folder, client)
    if MONITORING:
        _look_at_figures(folder)
    _kill(folder, client)


def _look_at_figures(folder: Path) -> None:
    """The values of the dashboards can be read without Grafana."""
    figures = local_stack(folder, "figures")
    assert figures.returncode == 0, figures.stderr
    assert "Clips: product" in figures.stdout
    assert "Processes down" in figures.stdout


def _sample(folder: Path, client: Client) -> None:
    """The printed address and account lead to a gallery with clips."""
    filled = local_stack(folder, "sample", "--account", "streamer-9")
    assert filled.returncode == 0, filled.stderr
    assert f"In a browser: {client.environment['GATEWAY_URL']}/\nSign in as streamer-9" in filled.stdout
    with client.gateway("streamer-9") as streamer:
        clips = streamer.get("/v1/clips").json()["items"]
        vods = streamer.get("/v1/vods").json()["items"]
    assert {clip["title"] for clip in clips} == {
        moment.title
        for moments in HIGHLIGHTS.values()
        for moment in moments
        if moment.clipable and moment.end - moment.start > 1 and moment.start < SCENE_SECONDS * 4
    }
    assert sum(vod["skipped"] for vod in vods) == 3
    # In a browser: the sign-in page, and then the gallery.
    with httpx.Client(base_url=client.environment["GATEWAY_URL"], follow_redirects=True) as browser:
        page = browser.get("/")
        assert page.url.path == "/sign-in"
        form = {"account": "streamer-9", "next": "/"}
        gallery = browser.post("/sign-in", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert gallery.url.path == "/"
    assert all(clip["title"] in gallery.text for clip in clips)


def _kill(folder: Path, client: Client) -> None:
    """SIGKILL of the supervisor leaves no process, no port in use, and no file but the stack's data."""
    running = find_running(State(folder))
    assert running is not None
    family = psutil.Process(running.pid).children(recursive=True)
    assert len(family) > 8
    os.kill(running.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert find_running(State(folder)) is None
    for name in ("GATEWAY_URL", "FREE_STORAGE_ENDPOINT"):
        assert listener_error(int(client.environment[name].rpartition(":")[2]))
    assert not (folder / "stack.env").exists()
    assert not (folder / "tmp").exists()


def test_up_prints_the_reason_of_a_failed_start(tmp_path: Path) -> None:
    (tmp_path / "seaweedfs").touch()  # where the server's folder should be
    failed = local_stack(tmp_path, "up")
    assert failed.returncode == 1
    assert f"File exists: '{tmp_path / 'seaweedfs'}'" in failed.stderr
    assert find_running(State(tmp_path)) is None


def test_up_prints_how_to_install_prometheus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    failed = local_stack(tmp_path / "state", "up", "--monitored")
    assert failed.returncode == 2
    assert "Prometheus is not on PATH" in failed.stderr
    assert "apt-get install" in failed.stderr
    assert not (tmp_path / "state" / "stack.env").exists()


@pytest.mark.parametrize("command", ["token", "tick", "status", "figures"])
def test_commands_fail_with_advice_when_the_stack_is_not_running(tmp_path: Path, command: str) -> None:
    answer = local_stack(tmp_path, command)
    assert answer.returncode == 1
    assert "make up" in answer.stdout + answer.stderr


def test_ctrl_c_during_the_start_leaves_no_process(tmp_path: Path) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-m", "local_stack", "--state", str(tmp_path), "up"], stdout=subprocess.DEVNULL
    )
    while not (tmp_path / "seaweedfs").exists():
        assert starting.poll() is None
        time.sleep(0.05)
    family = psutil.Process(starting.pid).children(recursive=True)
    starting.send_signal(signal.SIGINT)
    assert starting.wait(timeout=30) == 130
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
