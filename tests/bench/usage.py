"""CPU time and memory of a process and its children, as Linux counts them."""

import os
import re
import resource
from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, with that of the children that it has waited for."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def own_cpu_seconds() -> float:
    """Return the CPU time of this process, with a finer resolution."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def reset_peak(pid: int) -> None:
    """Begin a new measurement of :func:`peak_rss_bytes` (its children are other processes)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss_bytes(pid: int) -> int:
    """Return the peak of a process' resident memory since the last reset: ``VmHWM``, in bytes."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/{pid}/status has no VmHWM")
    return int(found[1]) * 1024


def cores() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def give_own_core(*processes: int) -> None:
    """Let these processes share one core, and this process and its other children share the other cores."""
    own, *rest = sorted(os.sched_getaffinity(0))
    if not rest:
        return
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        process.cpu_affinity([own] if process.pid in processes else rest)


def machine() -> dict[str, str | int | float]:
    """Return the facts about the machine that explain the figures."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cores": cores(),
        "cpu": names[0].strip() if names else "unknown",
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 1),
    }
