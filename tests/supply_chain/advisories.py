"""A server with a folder of advisories that answers as osv.dev does, for audits without the network."""

import json
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from tests.supply_chain.parts import normal

# An archive of all advisories on Python packages.
SOURCE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
Advisory = dict[str, Any]


class Advisories:
    """Advisories of the OSV schema, by the Python package that they are about."""

    def __init__(self, texts: Iterator[bytes]) -> None:
        self._by_package: dict[str, list[Advisory]] = defaultdict(list)
        self.count = 0
        for text in texts:
            advisory = json.loads(text)
            self.count += 1
            for package in {normal(each["package"]["name"]) for each in affected(advisory)}:
                self._by_package[package].append(advisory)

    def on(self, package: str, version: str) -> list[Advisory]:
        """Return the advisories on a version of a package."""
        name = normal(package)
        return [
            advisory
            for advisory in self._by_package.get(name, ())
            if any(
                normal(each["package"]["name"]) == name and covers(each, version)
                for each in affected(advisory)
            )
        ]


def read(path: Path) -> Advisories:
    """Return the advisories of a zip archive, or of the JSON files of a folder."""
    if path.is_dir():
        return Advisories(each.read_bytes() for each in path.rglob("*.json"))
    with zipfile.ZipFile(path) as archive:
        return Advisories(archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def affected(advisory: Advisory) -> list[dict[str, Any]]:
    """Return the entries of an advisory on Python packages."""
    every = advisory.get("affected", ())
    return [each for each in every if each.get("package", {}).get("ecosystem") == "PyPI"]


def covers(entry: dict[str, Any], version: str) -> bool:
    """Return whether a version is listed, or in a range."""
    if version in entry.get("versions", ()):
        return True
    ranges = [each for each in entry.get("ranges", ()) if each.get("type") == "ECOSYSTEM"]
    return any(in_range(each["events"], Version(version)) for each in ranges)


def in_range(events: list[dict[str, str]], version: Version) -> bool:
    """Return whether the last event up to a version introduced the fault; ``last_affected`` is inclusive."""
    inside = False
    for event in sorted(events, key=place):
        ((kind, text),) = event.items()
        bound = place(event)
        if kind == "introduced" and (text == "0" or bound <= version):
            inside = True
        elif (kind == "fixed" and bound <= version) or (kind == "last_affected" and bound < version):
            inside = False
    return inside


def place(event: dict[str, str]) -> Version:
    """Return the version of an event; an invalid version counts as the first one."""
    (text,) = event.values()
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


@contextmanager
def answering(advisories: Advisories) -> Iterator[str]:
    """Answer osv.dev's query on loopback, at the URL that is yielded."""

    class AdvisoriesHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = advisories.on(query["package"]["name"], query["version"])
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), AdvisoriesHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()
