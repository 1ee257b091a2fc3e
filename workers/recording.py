"""``celery -A workers replies record``: real replies as files of the corpus."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from resilience import CircuitBreakerOpenError
from tasks.errors import InputError
from tasks.fetch import FetchError
from tasks.providers import PROVIDERS, clean_symbol, find_provider, providers_of
from tasks.providers.catalogue import find_endpoint
from tasks.providers.http import RawReply, overheard
from tasks.providers.recording import as_text, recorded
from tasks.records import DATASETS
from tasks.settings import provider_settings
from workers.celery import app


class Told(NamedTuple):
    """What came of one question.

    Attributes:
        text: In words.
        file: Where the reply is; None where there is none.
    """

    text: str
    file: Path | None = None


def record(
    symbols: Sequence[str], datasets: Sequence[str], services: Sequence[str], out: Path, rows: int
) -> Iterator[Told]:
    """Ask each provider once for each dataset and symbol, and keep what it says.

    Args:
        symbols: About what.
        datasets: What to ask for; empty: all that are served.
        services: Whom; empty: all who can have the symbol.
        out: The folder of the files.
        rows: At most so many are kept of each list.

    Raises:
        InputError: An unknown provider or dataset, or a text that cannot be a symbol.
    """
    for symbol in map(clean_symbol, symbols):
        for dataset, service in _questions(symbol, datasets, services):
            yield _ask(service, dataset, symbol, out, rows)


def _questions(symbol: str, datasets: Sequence[str], services: Sequence[str]) -> Iterator[tuple[str, str]]:
    for service in services:
        for dataset in datasets:
            find_endpoint(find_provider(service), dataset)
    for dataset in datasets or DATASETS:
        for service in services or PROVIDERS:
            if dataset in find_provider(service).endpoints and _can_have(service, dataset, symbol):
                yield dataset, service


def _can_have(service: str, dataset: str, symbol: str) -> bool:
    try:
        return service in providers_of(dataset, symbol, PROVIDERS[service].endpoints[dataset].adjustment)
    except InputError:
        return False


def _ask(service: str, dataset: str, symbol: str, out: Path, rows: int) -> Told:
    what = f"{service} {dataset} {symbol}"
    task = app.tasks[f"tasks.{service}.fetch"]
    why = ""
    with overheard() as heard:
        try:
            task.apply((dataset, symbol), throw=True)
        except (CircuitBreakerOpenError, FetchError) as error:
            why = str(error)
    if not heard:
        return Told(f"{what}: not kept, no reply came: {why}")
    return _keep(service, dataset, symbol, heard[-1], out, rows)


def _keep(service: str, dataset: str, symbol: str, reply: RawReply, out: Path, rows: int) -> Told:
    settings, contact = provider_settings(), provider_settings().contact(service)
    keys = settings.keys() | ({contact} if contact else set())
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    case = recorded(service, dataset, symbol, reply, keys=keys, rows=rows, day=day)
    text = as_text(case)
    if any(key.casefold() in text.casefold() for key in keys):
        return Told(
            f"{service} {dataset} {symbol}: not kept, its reply has a key in it that cannot be taken out"
        )
    out.mkdir(parents=True, exist_ok=True)
    file = _free(out, f"{service} {dataset} {symbol} {reply.status if reply.status != 200 else ''}")  # noqa: PLR2004
    file.write_text(text, "utf-8")
    return Told(f"{service} {dataset} {symbol}: {case['verdict']}, kept in {file}", file)


def _free(out: Path, words: str) -> Path:
    """A file of that name that is not there yet."""
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    names = (f"{slug}{f'-{n}' if n > 1 else ''}.json" for n in range(1, 10_000))
    return next(path for path in map(out.joinpath, names) if not path.exists())
