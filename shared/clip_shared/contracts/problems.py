"""Errors of the HTTP APIs on the wire: ``application/problem+json`` (RFC 9457)."""

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_MEDIA_TYPE = "application/problem+json"


class InvalidPart(BaseModel):
    """A part of a request that is not valid."""

    at: str = Field(description="Where it is, such as query.limit.")
    problem: str


class ProblemBody(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str
    status: int
    title: str
    detail: str = Field(description="What happened, for a person.")
    problems: list[InvalidPart] = Field(
        default=[], description="Of a request that is not valid: which parts, and why."
    )
