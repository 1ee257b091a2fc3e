"""``GET /circuit-breakers`` and ``/circuit-breakers/{service}`` for a django-ninja API (extra ``django``).

api.add_router("/monitoring", resilience.contrib.ninja.router)

asks for a login of the Django site. ``add_router(..., auth=...)`` asks for what you name instead, and
``auth=None`` for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninja import Router
from ninja.errors import HttpError
from ninja.security import django_auth

from resilience import publishing

if TYPE_CHECKING:
    from django.http import HttpRequest

router = Router(tags=["Monitoring"], auth=django_auth)


@router.get("/circuit-breakers")
def circuit_breaker_status(request: HttpRequest) -> dict[str, Any]:  # noqa: ARG001 - a view's signature
    """All circuit breaker states."""
    return publishing.report()


@router.get("/circuit-breakers/{service}")
def circuit_breaker_detail(request: HttpRequest, service: str) -> dict[str, Any]:  # noqa: ARG001 - the same
    """One circuit breaker: its state, its changes of state, and what came of its calls."""
    found = publishing.detail(service)
    if found is None:
        raise HttpError(404, f"there is no circuit breaker {service!r}")
    return found
