"""Which refusals every operation of the API may answer with."""

from http import HTTPStatus

from clip_shared.http.openapi import Responses, errors


def refusals(*own: HTTPStatus) -> Responses:
    """For the document: an operation's own, and those of every one."""
    return errors(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE, *own)
