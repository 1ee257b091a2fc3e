from tests.contract.replies import BAD_GATEWAY, Documented
from workers.simulator.replies.openfigi import APPLE, NOTHING

TEXT = {"Content-Type": "text/plain"}
LIMIT = {**TEXT, "ratelimit-limit": "25", "ratelimit-remaining": "0"}
# One exchange's listing, and a share whose composite is another's.
AT_NASDAQ = {**APPLE, "figi": "BBG000B9Y5X2", "exchCode": "UW"}
BARE = {"figi": "BBG000B9XRY4", "ticker": "AAPL"}

DOCUMENTED = [
    Documented("reference", 200, [{"data": [APPLE]}], "success"),
    Documented("reference", 200, [{"data": [AT_NASDAQ, APPLE]}], "success"),
    Documented("reference", 200, [{"data": [{**APPLE, "ticker": "BRK/B"}]}], "success", symbol="BRK.B"),
    Documented("reference", 200, [{"data": [{**dict.fromkeys(APPLE), **BARE}]}], "success"),
    Documented("reference", 200, [{"data": [APPLE]}], "provider_failure", symbol="MSFT"),
    Documented(
        "reference", 200, [{"data": [APPLE]}, NOTHING], "success"
    ),  # two jobs' answers: the first counts
    Documented("reference", 200, [NOTHING], "not_found"),
    Documented("reference", 200, [{"data": []}], "not_found"),
    Documented("reference", 200, [{"error": "..."}], "caller_error"),
    Documented("reference", 429, "Too Many Requests", "rate_limit", 17, {**LIMIT, "ratelimit-reset": "17"}),
    Documented("reference", 429, "Too Many Requests", "rate_limit", 60, TEXT),
    Documented("reference", 401, "Unauthorized", "auth", 300, TEXT),
    Documented("reference", 400, "", "caller_error", headers={"Content-Type": "application/json"}),
    Documented("reference", 413, "Payload Too Large", "caller_error", headers=TEXT),
    Documented("reference", 502, BAD_GATEWAY, "provider_failure"),
]
