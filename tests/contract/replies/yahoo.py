from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import yahoo as simulated

META = {
    **simulated.META,
    "symbol": "AAPL",
    "regularMarketTime": 1729886401,
    "regularMarketPrice": 231.41,
}
DAY = {
    "open": [229.74],
    "high": [233.22],
    "low": [229.57],
    "close": [231.41],
    "volume": [38802304],
}


def chart(timestamps: list[int], days: dict[str, list[object]], adjusted: list[object]) -> dict[str, object]:
    found = {
        "meta": META,
        "timestamp": timestamps,
        "indicators": {"quote": [days], "adjclose": [{"adjclose": adjusted}]},
    }
    return {"chart": {"result": [found], "error": None}}


CHART = chart([1729863000], DAY, [231.41])
# A day without a trade, the day the clocks go back, and a live row of the same day as the one before.
DAYS = chart(
    [1730467800, 1730727000, 1730813400, 1730820000],
    {name: [*values, None, *values, 240] for name, values in DAY.items()},
    [230.5, None, 231.41, 240],
)
NOTHING = {
    "chart": {"result": [{"meta": META, "indicators": {"quote": [{}], "adjclose": [{}]}}], "error": None}
}
LOST = {
    "result": None,
    "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"},
}
CRUMB = {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}
HTML = {"Content-Type": "text/html"}
OLD = "<html><body>Unable to process request at this time -- error 999.</body></html>"
EDGE = "Edge: Too Many Requests"

DOCUMENTED = [
    Documented("quote", 200, CHART, "success"),
    Documented("bars", 200, CHART, "success"),
    Documented("bars", 200, DAYS, "success"),
    Documented("bars", 200, NOTHING, "empty"),
    *(
        reply
        for dataset in ("quote", "bars")
        for reply in (
            Documented(dataset, 429, EDGE, "rate_limit", 300, HTML),
            Documented(dataset, 200, EDGE, "rate_limit", 300, HTML),
            Documented(dataset, 404, {"chart": LOST}, "not_found"),
            Documented(dataset, 200, {"chart": LOST}, "not_found"),
            Documented(dataset, 401, {"finance": CRUMB}, "provider_failure"),
            Documented(dataset, 999, OLD, "rate_limit", 300, HTML),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "not_found")),
]
BY_STATUS = {401: "provider_failure", 403: "provider_failure", 999: "rate_limit"}
