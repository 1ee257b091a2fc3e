"""Stooq, retired. CSV, and errors are HTTP 200.

Since 2026-07-29 a program gets a page that wants a proof of work, with status 200 (finance-query#263,
Vibe-Trading#1315): a proxy that a browser stands behind may be set as its address.
"""

from datetime import date

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Verdict
from tasks.providers.symbols import Spelling


def bars(reply: Node) -> Rows:
    """A line a day."""
    return reply.each(_bar)


def _bar(row: Node) -> Fields:
    prices = row.ohlcv(("Open", "High", "Low", "Close", "Volume"), Node.numeral)
    return {"timestamp": row.session("Date"), **prices}


# Shares traded in the US alone: others would have their days on another clock.
_SPELL = Spelling(dash="-", exchanges={"": ".US"}, own=None)

ROW = Provider(
    service="stooq",
    name="Stooq",
    base_url="https://stooq.com",
    auth=Auth("query", "apikey"),
    endpoints={
        "bars": Endpoint(
            "/q/d/l/",
            bars,
            params={"s": "{symbol_lower}", "i": "d", "d1": "{start_compact}", "d2": "{end_compact}"},
            spell=_SPELL,
            window_days=180,
            reply="csv",
            adjustment="all",  # as its users find; its own pages offer to leave an adjustment out
        )
    },
    matchers=(
        # Whoever stands in for it may have to solve the next one: nothing that a person must mend.
        Matcher(
            Verdict.PROVIDER_FAILURE,
            "it wants a browser's proof of work",
            contains="/__verify",
            statuses=frozenset({200, 403, 429, 503}),
        ),
        Matcher(
            Verdict.QUOTA,
            "the day's calls are used up",
            contains="Exceeded the daily hits limit",
            statuses=frozenset({200}),
        ),
        # Undocumented, as its clients report them.
        Matcher(
            Verdict.AUTH, "it wants a key", contains="Get your apikey", statuses=frozenset({200, 401, 403})
        ),
        Matcher(Verdict.NOT_FOUND, "no data for the symbol", contains="No data", statuses=frozenset({200})),
    ),
    # It tells neither how many calls a day it takes nor when its day starts.
    retired=date(2026, 7, 29),
    note="since 2026-07-29 it wants a browser's proof of work; Tiingo, Twelve Data and Yahoo have daily bars",
)
