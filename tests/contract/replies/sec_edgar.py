from tests.contract.replies import BAD_GATEWAY, Documented
from workers.simulator.replies import sec_edgar as simulated

RECENT = {
    **simulated.RECENT,
    "filingDate": ["2020-02-27", "2020-02-18"],
    "acceptanceDateTime": ["2020-02-27T06:14:21.000Z", "2020-02-18T06:24:57.000Z"],
}
SUBMISSIONS = {
    "cik": "320193",
    "entityType": "operating",
    "name": "Apple Inc.",
    "tickers": ["AAPL"],
    "exchanges": ["Nasdaq"],
    "filings": {"recent": RECENT, "files": []},
}
NOTHING = {**SUBMISSIONS, "filings": {"recent": {name: [] for name in RECENT}, "files": []}}
THRESHOLD = (
    "<!DOCTYPE html><html><head><title>SEC.gov | Request Rate Threshold Exceeded</title></head><body>"
    "<h1>SEC.gov | Request Rate Threshold Exceeded</h1></body></html>"
)
UNDECLARED = (
    "<html><head><title>SEC.gov | Your Request Originates from an Undeclared Automated Tool</title></head>"
    "<body><h1>Your Request Originates from an Undeclared Automated Tool</h1></body></html>"
)
NO_SUCH_KEY = simulated.NO_SUCH_KEY.body
HTML = {"Content-Type": "text/html"}

ASSETS = simulated.facts(simulated.ASSETS, "0000320193/US-GAAP/ASSETS")

DOCUMENTED = [
    Documented("filings", 200, SUBMISSIONS, "success"),
    Documented("filings", 200, NOTHING, "empty"),
    Documented("filings", 403, THRESHOLD, "rate_limit", 600, HTML),
    Documented("filings", 200, THRESHOLD, "rate_limit", 600, HTML),
    Documented("filings", 429, "Too Many Requests", "rate_limit", 600),
    Documented("filings", 403, UNDECLARED, "auth", 300, HTML),
    Documented("filings", 200, UNDECLARED, "auth", 300, HTML),
    Documented("filings", 404, NO_SUCH_KEY, "not_found", None, {"Content-Type": "application/xml"}),
    Documented("filings", 502, BAD_GATEWAY, "provider_failure", None, HTML),
    Documented("facts", 200, ASSETS, "success"),
    Documented("facts", 404, NO_SUCH_KEY, "not_found", None, {"Content-Type": "application/xml"}),
    Documented("companies", 200, simulated.TICKERS, "success"),
    Documented("companies", 403, THRESHOLD, "rate_limit", 600, HTML),
    Documented("filings", 503, "", "provider_failure", None, HTML),
]
BY_STATUS = {401: "provider_failure", 403: "provider_failure"}  # there is no key
