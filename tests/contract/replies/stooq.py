from tests.contract.replies import BAD_GATEWAY, Documented

DAYS = "Date,Open,High,Low,Close,Volume\r\n2024-06-26,211.5,214.86,210.64,213.25,66213186\r\n"
CSV, TEXT, HTML = ({"Content-Type": kind} for kind in ("text/csv", "text/plain", "text/html"))

PROOF_OF_WORK = (
    "<!DOCTYPE html><html><head><title>Checking your browser</title></head><body><script>"
    "const challenge='...';/* SHA-256 */fetch('/__verify',{method:'POST'})</script></body></html>"
)

DOCUMENTED = [
    Documented("bars", 200, PROOF_OF_WORK, "provider_failure", headers=HTML),
    Documented("bars", 200, PROOF_OF_WORK, "provider_failure", headers=CSV),
    Documented("bars", 200, DAYS, "success", headers=CSV),
    Documented("bars", 200, DAYS.splitlines()[0], "empty", headers=CSV),
    Documented("bars", 200, "Exceeded the daily hits limit", "quota", 86_400, TEXT),
    Documented("bars", 200, "No data", "not_found", headers=TEXT),
    Documented("bars", 200, "Get your apikey", "auth", 300, TEXT),
    Documented("bars", 502, BAD_GATEWAY, "provider_failure", headers=HTML),
]
