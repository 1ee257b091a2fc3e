from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import tradier as simulated

SPY = {
    **simulated.QUOTE,
    "symbol": "SPY",
    "last": 547.94,
    "change": 1.57,
    "change_percentage": 0.29,
    "trade_date": 1719589860990,
    "bid_date": 1719589861000,
    "ask_date": 1719589860000,
    "root_symbols": "SPY",
}
QUOTE = {"quotes": {"quote": [SPY]}}
LIMITS = {
    "X-Ratelimit-Allowed": "200",
    "X-Ratelimit-Used": "1",
    "X-Ratelimit-Available": "199",
    "X-Ratelimit-Expiry": "1719590820000",
}
DAY = {"date": "2024-02-01", **simulated.DAY}
USED_UP = {
    "X-Ratelimit-Allowed": "120",
    "X-Ratelimit-Used": "121",
    "X-Ratelimit-Available": "0",
    "X-Ratelimit-Expiry": "<epoch ms>",
}


def alone(symbol: str) -> dict[str, object]:
    """One quote is no list."""
    return {"quotes": {"quote": {**SPY, "symbol": symbol}}}


DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success", None, LIMITS, "SPY"),
    Documented("quote", 200, alone("SPY"), "success", symbol="SPY"),
    Documented("quote", 200, alone("BRK/B"), "success", symbol="BRK.B"),
    Documented("quote", 200, alone("BRK/B"), "provider_failure", symbol="BRK.A"),
    Documented("quote", 200, {"quotes": {"quote": []}}, "not_found"),
    Documented("quote", 200, {"quotes": {"unmatched_symbols": {"symbol": "WRONGSYMBOL"}}}, "not_found"),
    Documented("bars", 200, {"history": {"day": [DAY]}}, "success"),
    Documented("bars", 200, {"history": {"day": DAY}}, "success"),
    Documented("bars", 200, {"history": None}, "empty"),
    Documented("bars", 200, {"fault": {"faultstring": "..."}}, "provider_failure"),
    *(
        reply
        for dataset in ("quote", "bars")
        for reply in (
            Documented(dataset, 429, "Quota Violation", "rate_limit", 60, USED_UP),
            Documented(dataset, 401, "Invalid Access Token", "auth", 300),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure", None, {"Content-Type": "text/html"}),
            # as it is written unless JSON is asked for
            Documented(dataset, 200, "<quotes><quote/></quotes>", "provider_failure"),
        )
    ),
    *as_simulated(simulated.REPLIES, nothing={"bars_": "empty"}),
]
