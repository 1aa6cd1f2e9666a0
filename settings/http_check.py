"""A request and what its answer has to be, for a go-live and after a rollout (HerbisVeritas "Validation
Post-Déploiement")."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from settings.base import Settings

Status = Annotated[int, Field(ge=100, le=599, examples=[200])]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


class HttpCheck(Settings):
    """One request to the service that has its path at the ingress, or else to the main one. In headers and body,
    `${NAME}` is a variable of the application: a token belongs into `secrets:*`, not here."""

    name: Annotated[str | None, Field(min_length=1, examples=["shop page"])] = None
    """How reports name it; default: method and path."""
    path: Annotated[str, Field(pattern=r"^/", examples=["/api/health"])]
    """Path and query."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    """Method."""
    headers: dict[str, str] = {}
    """Headers. `Host` is application.hostHeader, if that is set."""
    body: str | None = None
    """Body of the request."""
    status: Annotated[tuple[Status, ...], BeforeValidator(_as_list), Field(min_length=1)] = (200,)
    """Status of a good answer, or several. Redirects are not followed."""
    contains: Annotated[str | None, Field(min_length=1, examples=["Add to cart"])] = None
    """Text that the body has to contain."""
    fields: Annotated[dict[str, Any], Field(examples=[{"status": "healthy"}])] = {}
    """Fields of a JSON body and their values; `checks.0.status` is a field of the first of a list."""
    within_milliseconds: Annotated[int, Field(ge=1, le=60_000)] = 3000
    """Most time the answer may take."""
