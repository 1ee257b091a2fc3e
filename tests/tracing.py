"""OpenTelemetry for a fleet's processes, as an application sets it up: imported by a worker with ``-I``.

Spans end up in the file named by TRACES, an object a line, whichever process ended them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class FileExporter(SpanExporter):
    """Appends each span as one line."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(os.environ["TRACES"]).open("a") as out:
            out.writelines(span.to_json(indent=None) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


@worker_process_init.connect
def start(**_: Any) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


def send(numbers: int) -> None:
    """Each under a trace of its own; prints the tasks' ids."""
    start()
    from fleet_app import fetch  # noqa: PLC0415 - once it is instrumented

    for number in range(numbers):
        with trace.get_tracer("publisher").start_as_current_span("publisher"):
            print(fetch.delay(number).id)  # noqa: T201 - for the test that started this


if __name__ == "__main__":
    send(3)
