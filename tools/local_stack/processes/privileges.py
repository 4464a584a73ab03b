"""Giving up root, for the one server that refuses to run as root: PostgreSQL."""

import ctypes
import os
import pwd
import sys
from pathlib import Path

# From <linux/prctl.h>, <linux/securebits.h> and <linux/capability.h>.
_PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 28, 47, 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1

_LIBC = ctypes.CDLL(None, use_errno=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user to run a server as in place of root; None where this process is not root.

    ``nobody`` exists on every machine, so that no user has to be made.
    """
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def give_to(user: pwd.struct_passwd | None, path: Path) -> None:
    """Make a user the owner of a file or folder; with None, leave its owner."""
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def become(user: pwd.struct_passwd) -> None:
    """Change the user of this process, which is root; it can still read root's folders.

    A checkout under ``/root`` is closed to other users, and its permissions stay as they are. So one
    capability (CAP_DAC_OVERRIDE) is kept across the change of user and across ``exec``. Where the kernel
    refuses that, the process runs without it, and works only with folders that its user may read.

    Called between fork and exec: it allocates little, takes no lock and imports nothing.
    """
    if sys.platform == "linux":
        # access(2) would otherwise go by the user alone, and PostgreSQL looks for its programs with it.
        _LIBC.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if sys.platform == "linux":
        _keep_only(1 << _CAP_DAC_OVERRIDE)
        _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _keep_only(capabilities: int) -> None:
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    # Two rounds of (effective, permitted, inheritable): the lower 32 capabilities, then the upper ones.
    if _LIBC.capset(ctypes.byref(header), (ctypes.c_uint32 * 6)(*[capabilities] * 3, 0, 0, 0)) != 0:
        _LIBC.capset(ctypes.byref(header), (ctypes.c_uint32 * 6)())
