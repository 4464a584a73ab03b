"""The refusals that the OpenAPI document shows for each route, and the answers that several routes share."""

import re
from http import HTTPStatus
from typing import TypeVar

from clip_registry.database.rows import clip_record
from clip_registry.domain.clips import Clip
from clip_shared.contracts.registry_api import ClipRecord
from clip_shared.http.openapi import Responses, errors
from clip_shared.http.problems import Problem

# A share or a feed slug. Any other text is not looked for in the database.
SLUG = re.compile("[A-Za-z0-9_-]{1,64}")

Found = TypeVar("Found")


def refusals(*statuses: HTTPStatus) -> Responses:
    """Return the ``responses`` of a route: these statuses, and those that every route may answer with."""
    return errors(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE, *statuses)


INVALID = refusals(HTTPStatus.UNPROCESSABLE_ENTITY)
INVALID_OR_NOT_FOUND = refusals(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND)


def found(result: Found | None, detail: str) -> Found:
    """Return the result.

    Raises:
        Problem: it is None; ``detail`` is the explanation.
    """
    if result is None:
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    return result


def found_clip(clip: Clip | None) -> ClipRecord:
    """Return the record of a clip.

    Raises:
        Problem: the clip is None.
    """
    return clip_record(vars(found(clip, "There is no such clip.")))
