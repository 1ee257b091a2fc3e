from tests.contract.replies import BAD_GATEWAY, Documented

QUOTE = {
    "c": 261.74,
    "d": 2.29,
    "dp": 0.8826,
    "h": 263.31,
    "l": 260.68,
    "o": 261.07,
    "pc": 259.45,
    "t": 1582641000,
}
LIMIT = {"error": "API limit reached. Please try again later. Remaining Limit: 0"}
LIMIT_HEADERS = {
    "X-Ratelimit-Limit": "60",
    "X-Ratelimit-Remaining": "0",
    "X-Ratelimit-Reset": "<unix seconds>",
}
NEWS = [
    {
        "category": "company news",
        "datetime": 1569550360,
        "headline": "More sops needed to boost electronic manufacturing: Top govt official",
        "id": 25286,
        "image": "https://img.etimg.com/photo.jpg",
        "related": "AAPL",
        "source": "The Economic Times India",
        "summary": "NEW DELHI | CHENNAI: ...",
        "url": "https://economictimes.indiatimes.com/...",
    }
]
FILINGS = [
    {
        "accessNumber": "0001193125-20-050884",
        "symbol": "AAPL",
        "cik": "320193",
        "form": "8-K",
        "filedDate": "2020-02-27 00:00:00",
        "acceptedDate": "2020-02-27 06:14:21",
        "reportUrl": "https://www.sec.gov/ix?doc=/Archives/edgar/data/320193/000119312520050884/"
        "d865740d8k.htm",
        "filingUrl": "https://www.sec.gov/Archives/edgar/data/320193/000119312520050884/"
        "0001193125-20-050884-index.html",
    }
]

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 429, LIMIT, "rate_limit", 60, LIMIT_HEADERS),
    Documented("quote", 403, {"error": "You don't have access to this resource."}, "entitlement", 3_600),
    Documented(
        "quote", 200, {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}, "not_found"
    ),
    Documented("quote", 200, {"s": "no_data"}, "not_found"),
    Documented("quote", 200, [], "not_found"),
    Documented("quote", 502, BAD_GATEWAY, "provider_failure"),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, [], "empty"),
    Documented("news", 429, LIMIT, "rate_limit", 60),
    Documented("filings", 200, FILINGS, "success"),
    Documented("filings", 200, [], "empty"),
    Documented("filings", 403, {"error": "You don't have access to this resource."}, "entitlement", 3_600),
]
