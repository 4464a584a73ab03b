"""Failpoints: places where a service kills itself, wrapped around its functions from outside.

The services contain no failpoints, so none can be switched on in production. ``python -m
tests.chaos.failpoints clip_cutter serve`` wraps the functions of :data:`FAILPOINTS` and then does what
``python -m clip_cutter serve`` does. The start fails when a wrapped function does not exist.

A file in the folder that ``CHAOS_ARMED`` names arms the failpoint of the same name. The first process that
reaches the failpoint removes the file and kills itself: one file kills one worker.
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
# A cutter that begins with a highlight of such an id kills itself, every time.
KILLER_PREFIX = "killer-"


@dataclass(frozen=True)
class Failpoint:
    """A place in a service: before or after a function, ``module:Class.method``.

    ``later_seconds``: kills this long after the function was called, while it is still running.
    """

    service: str
    place: str
    function: str
    after: bool = True
    later_seconds: float = 0.0

    @property
    def name(self) -> str:
        """The name of the failpoint and of the file that arms it."""
        return f"{self.service}.{self.place}"


_COMMIT = "aiokafka:AIOKafkaConsumer.commit"

FAILPOINTS = (
    Failpoint("clip-cutter", "after_pull", "clip_cutter.vods.source_storage:StoredVod.read"),
    Failpoint("clip-cutter", "in_ffmpeg", "clip_cutter.ffmpeg.process:_limit"),
    Failpoint(
        "clip-cutter", "in_re_encode", "clip_cutter.ffmpeg.run:Ffmpeg.encode", after=False, later_seconds=0.4
    ),
    Failpoint("clip-cutter", "after_request", "clip_cutter.metrics:CutterMetrics.passed_on"),
    Failpoint("clip-cutter", "after_cut", "clip_cutter.cutter:Cutter.cut"),
    Failpoint("clip-cutter", "after_parts", "clip_cutter.uploads:MultipartUpload._complete", after=False),
    Failpoint("clip-cutter", "between_uploads", "clip_cutter.storage:ClipStorage.put_poster"),
    Failpoint("clip-cutter", "after_upload", "clip_cutter.storage:ClipUpload.finish"),
    Failpoint("clip-cutter", "after_publish", "clip_shared.bus.bus:Bus.publish"),
    Failpoint("clip-cutter", "before_ack", _COMMIT, after=False),
    Failpoint("clip-registry", "before_commit", "clip_registry.outbox.outbox:Outbox.write"),
    Failpoint("clip-registry", "after_commit_of_cuts", "clip_registry.clips.store:ClipStore.record"),
    Failpoint("clip-registry", "after_commit_of_action", "clip_registry.clips.store:ClipStore.act"),
    Failpoint("clip-registry", "after_commit_of_purge", "clip_registry.clips.store:ClipStore.purge"),
    Failpoint("clip-registry", "before_relay", "clip_registry.outbox.relay:Relay._send", after=False),
    Failpoint("clip-registry", "between_relay_and_delete", "clip_registry.outbox.relay:Relay._send"),
    Failpoint("clip-registry", "before_ack", _COMMIT, after=False),
    Failpoint("clip-gateway", "after_action", "clip_gateway.registry:HttpGatewayRegistry.act"),
    Failpoint("janitor", "before_purge", "janitor.registry:HttpJanitorRegistry.purge", after=False),
    Failpoint("janitor", "after_purge", "janitor.registry:HttpJanitorRegistry.purge"),
    Failpoint("janitor", "before_delete", "janitor.storage:ClipBucket.delete", after=False),
    Failpoint("janitor", "after_delete", "janitor.storage:ClipBucket.delete"),
    Failpoint("janitor", "before_ack", _COMMIT, after=False),
)


def install(service: str, armed: Path) -> None:
    """Wrap the functions of every failpoint of a service, and of the highlights that kill the cutter."""
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
    """Run the service that the arguments name, with failpoints."""
    package = sys.argv[1]
    install(package.replace("_", "-"), Path(os.environ[ARMED]))
    sys.argv = sys.argv[1:]
    runpy.run_module(package, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
