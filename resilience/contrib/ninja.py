"""``GET /circuit-breakers`` for a django-ninja API (extra ``ninja``).

api.add_router("/monitoring", resilience.contrib.ninja.router)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninja import Router

from resilience import publishing

if TYPE_CHECKING:
    from django.http import HttpRequest

router = Router(tags=["Monitoring"])


@router.get("/circuit-breakers")
def circuit_breaker_status(request: HttpRequest) -> dict[str, Any]:  # noqa: ARG001 - a view's signature
    """All circuit breaker states."""
    return publishing.report()
