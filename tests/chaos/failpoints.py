"""Places where a service dies when it is told to, wrapped around it from outside.

The services know nothing of this: what nobody built in cannot be switched on in production. A service is run
by ``python -m tests.chaos.failpoints clip_cutter serve``, which wraps the functions of :data:`FAILPOINTS` and
then does what ``python -m clip_cutter serve`` does. A function that is not there any more fails the start.

A failpoint is armed by a file of its name in the folder that ``CHAOS_ARMED`` names. Whichever process passes
first takes the file away and kills itself, so that one file is one death, however many workers there are.
"""

import functools
import importlib
import inspect
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARMED = "CHAOS_ARMED"
# Whoever begins with a highlight of such an id dies of it, every time.
KILLER_PREFIX = "killer-"


@dataclass(frozen=True)
class Failpoint:
    """A place in a service: before or after a function, ``module:Class.method``.

    ``later_seconds``: how long after that it dies, in the middle of what takes longer.
    """

    service: str
    place: str
    function: str
    after: bool = True
    later_seconds: float = 0.0

    @property
    def name(self) -> str:
        """What it is called, and its file."""
        return f"{self.service}.{self.place}"


_COMMIT = "aiokafka:AIOKafkaConsumer.commit"

FAILPOINTS = (
    Failpoint("clip-cutter", "after_pull", "clip_cutter.vods.source_storage:StoredVod.read"),
    Failpoint("clip-cutter", "in_ffmpeg", "clip_cutter.ffmpeg.process:_limit"),
    Failpoint(
        "clip-cutter", "in_re_encode", "clip_cutter.ffmpeg.run:Ffmpeg.encode", after=False, later_seconds=0.4
    ),
    Failpoint("clip-cutter", "after_request", "clip_cutter.metrics:Metrics.passed_on"),
    Failpoint("clip-cutter", "after_cut", "clip_cutter.cutter:Cutter.cut"),
    Failpoint("clip-cutter", "after_parts", "clip_cutter.uploads:InParts._complete", after=False),
    Failpoint("clip-cutter", "between_uploads", "clip_cutter.storage:ClipStorage.put_poster"),
    Failpoint("clip-cutter", "after_upload", "clip_cutter.storage:Upload.finish"),
    Failpoint("clip-cutter", "after_publish", "clip_shared.bus.bus:Bus.publish"),
    Failpoint("clip-cutter", "before_ack", _COMMIT, after=False),
    Failpoint("clip-registry", "before_commit", "clip_registry.outbox.outbox:Outbox.write"),
    Failpoint("clip-registry", "after_commit_of_cuts", "clip_registry.clips.store:Store.record"),
    Failpoint("clip-registry", "after_commit_of_action", "clip_registry.clips.store:Store.act"),
    Failpoint("clip-registry", "after_commit_of_purge", "clip_registry.clips.store:Store.expire"),
    Failpoint("clip-registry", "before_relay", "clip_registry.outbox.relay:Relay._send", after=False),
    Failpoint("clip-registry", "between_relay_and_delete", "clip_registry.outbox.relay:Relay._send"),
    Failpoint("clip-registry", "before_ack", _COMMIT, after=False),
    Failpoint("clip-gateway", "after_action", "clip_gateway.registry_client:HttpRegistry.act"),
    Failpoint("janitor", "before_purge", "janitor.registry_client:HttpRegistry.expire", after=False),
    Failpoint("janitor", "after_purge", "janitor.registry_client:HttpRegistry.expire"),
    Failpoint("janitor", "before_delete", "janitor.storage:ClipStorage.delete", after=False),
    Failpoint("janitor", "after_delete", "janitor.storage:ClipStorage.delete"),
    Failpoint("janitor", "before_ack", _COMMIT, after=False),
)


def install(service: str, armed: Path) -> None:
    """Wrap every failpoint of a service, and what killers are killed by."""
    for each in FAILPOINTS:
        if each.service == service:
            hook = functools.partial(_die_if_armed, armed / each.name, each.later_seconds)
            _wrap(each.function, hook, after=each.after)
    if service == "clip-cutter":
        _wrap("clip_cutter.handlers:CutterHandlers.make_clip", _die_of_killers, after=False)


def _die_if_armed(file: Path, later_seconds: float, *_: Any) -> None:
    try:
        file.unlink()
    except FileNotFoundError:
        return
    if later_seconds:
        threading.Timer(later_seconds, _die).start()
    else:
        _die()


def _die_of_killers(_handlers: Any, event: Any, _lane: Any) -> None:
    if event.data.stream_highlight_id.startswith(KILLER_PREFIX):
        _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wrap(function: str, hook: Callable[..., None], *, after: bool) -> None:
    module, _, path = function.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, _with_hook(getattr(owner, name), hook, after=after))


def _with_hook(original: Any, hook: Callable[..., None], *, after: bool) -> Any:
    if not inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        def call(*arguments: Any, **named: Any) -> Any:
            if not after:
                hook(*arguments)
            result = original(*arguments, **named)
            if after:
                hook(*arguments)
            return result

        return call

    @functools.wraps(original)
    async def await_it(*arguments: Any, **named: Any) -> Any:
        if not after:
            hook(*arguments)
        result = await original(*arguments, **named)
        if after:
            hook(*arguments)
        return result

    return await_it


def main() -> None:
    """Run the module that the arguments name, as a service that can be told to die."""
    package = sys.argv[1]
    install(package.replace("_", "-"), Path(os.environ[ARMED]))
    sys.argv = sys.argv[1:]
    runpy.run_module(package, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
