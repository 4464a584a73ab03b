"""The running services have exactly the metrics of the reference."""

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from local_stack.stack import SERVICE_VARIABLES
from tests.e2e.platform import Platform
from tests.reference.metrics import PREFIX, SERVICES

PAGE = Path("docs/reference/metrics.md")


def documented(service: str) -> set[str]:
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| [^|]* \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    return {
        name.removesuffix("_total") for name, users in rows if users == "all" or service in users.split(", ")
    }


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_shows_what_is_documented(platform: Platform, service: str) -> None:
    url = platform.stack.environment[f"{SERVICE_VARIABLES[service]}_OPERATIONS_URL"]
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics")).raise_for_status().text
    shown = {each.name for each in text_string_to_metric_families(text) if each.name.startswith(PREFIX)}
    names = documented(service)
    # The client adds a metric with the creation time of each counter and histogram.
    assert shown - {f"{each}_created" for each in names} == names
