"""The Dockerfile: pinned, not root, without build tools in the images, an image for every service."""

import re
import tomllib

import pytest
import yaml
from tests.support.deployment import OWN, ROOT, final_stage, stages

BASE_IMAGE = re.compile(r"[a-z]+:\d+\.\d+\.\d+-[a-z-]+")


def test_everything_starts_from_one_pinned_image() -> None:
    names = set(stages())
    foreign = {stage.base for stage in stages().values() if stage.base not in names}
    assert foreign == {stages()["python"].base, "${SERVICE}"}
    assert BASE_IMAGE.fullmatch(stages()["python"].base)


def test_does_not_run_as_root() -> None:
    user, _, group = final_stage().only("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"--uid {user} " in stages()["python"].only("RUN")


@pytest.mark.parametrize("service", OWN)
def test_every_service_has_its_console_script(service: str) -> None:
    project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]
    (script,) = yaml.safe_load(stages()[service].only("ENTRYPOINT"))
    assert script in project["scripts"]
    assert yaml.safe_load(final_stage().only("CMD")) == ["serve"]


def test_ffmpeg_is_where_clips_are_cut_and_is_the_one_that_was_tested() -> None:
    assert not any("apt-get" in run for stage in stages().values() for run in stage.all("RUN"))
    carrying = {name for name in OWN if any(each.startswith("imageio-ffmpeg==") for each in pins(name))}
    assert carrying == {"clip-cutter"}


def test_nothing_is_built_where_it_runs() -> None:
    assert final_stage().all("RUN") == []
    assert final_stage().only("COPY") == "--from=build /app /app"


def test_every_dependency_is_checked() -> None:
    downloads = [
        step
        for run in stages()["build"].all("RUN")
        for step in run.split("&&")
        if re.search(r"pip .*(install|wheel) ", step) and "--no-index" not in step
    ]
    assert downloads
    assert all("--require-hashes --only-binary :all:" in step for step in downloads)


@pytest.mark.parametrize("name", [*OWN, "build"])
def test_locks_hold_what_was_tested(name: str) -> None:
    tested = pins("dev")
    assert pins(name).items() <= tested.items()


def pins(name: str) -> dict[str, frozenset[str]]:
    """Return the requirements of a lock file, each with its hashes."""
    text = re.sub(r"\\\n", "", (ROOT / "requirements" / f"{name}.lock").read_text())
    lines = (line.split() for line in text.splitlines() if line and not line.lstrip().startswith("#"))
    return {line[0]: frozenset(word for word in line if word.startswith("--hash=")) for line in lines}
