"""What a reply means that is no success and that no row knows.

A refusal is the provider's own, or that of what stands in between: a firewall, a content network, a
company's proxy. Only the provider can say that a key is no good, or that a plan ends here; what stands in
between fails, or limits the rate. So it is asked in this order who speaks, what the words are, and what the
status means.

The words are few, and in general use; those of a rate limit also in the languages of the pages that providers
have been seen to send. A row's `Matcher`s come first and know better.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from http import HTTPStatus
from itertools import islice

from tasks.providers.documents import ABSENT
from tasks.providers.holds import has_retry_after, said_window
from tasks.providers.rows import Hold, Provider, Verdict, Window


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, read.

    Attributes:
        status: HTTP status.
        headers: Names in lower case.
        text: The body as text.
        document: The body parsed; `documents.ABSENT` where it is no document.
        why_no_document: Why it is none.
    """

    status: int
    headers: Mapping[str, str]
    text: str
    document: object
    why_no_document: str

    @property
    def is_html(self) -> bool:
        """Whether it is a page. XML is none, nor is a line of text that is only called one."""
        start = self.text[:300].lstrip("\ufeff \t\r\n").lower()
        kind = self.headers.get("content-type", "").lower()
        if not start:
            return "html" in kind
        return start.startswith("<") and (
            "<html" in start
            or "<!doctype html" in start
            or "html" in kind
            or ("xml" not in kind and not start.startswith("<?xml"))
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal means.

    Attributes:
        verdict: The class.
        hold: How long it holds by its words; None for the row's rule.
        certain: Whether `auth` is the provider's own word.
    """

    verdict: Verdict
    hold: Hold | None = None
    certain: bool = True


_BY_STATUS = {
    402: Verdict.QUOTA,
    404: Verdict.NOT_FOUND,
    407: Verdict.PROVIDER_FAILURE,  # a proxy's
    408: Verdict.PROVIDER_FAILURE,
    410: Verdict.NOT_FOUND,
    426: Verdict.ENTITLEMENT,
    451: Verdict.ENTITLEMENT,
    499: Verdict.PROVIDER_FAILURE,
}
_TOO_MANY = frozenset({420, 429})  # 420 is older than the standard's
_WHO = frozenset({401, 403})
_MISSING = frozenset({404, 410})
_WRONG_CALL = frozenset({400, 422})

_MOST, _MOST_TEXTS = 8_000, 100  # characters and texts that are looked at: who refuses, says so soon
_DEPTH = 4
_PLAIN = str.maketrans('_-*`"\N{RIGHT SINGLE QUOTATION MARK}', "     '")
# Where an error is told under a status that tells of none.
_ERROR_MEMBERS = frozenset(
    {"code", "description", "detail", "details", "errmsg", "error", "error message", "error_description"}
    | {"error_message", "errormessage", "errors", "fault", "faultstring", "info", "information", "message"}
    | {"msg", "note", "reason", "result", "status", "title"}
)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


# Patterns are of text in lower case, without quotation marks, with blanks for underscores and hyphens.
_LIMIT = r"\b(limits?|quotas?|thresholds?|allowance|allocation|credits?|(request|call) volume)\b"
_OVER = r"\b(exceed|reached|hit\b|over\b|surpass|r[ua]n out|out of|used (up|all)|exhaust|deplet|violat)"
_LIMITED = _any(
    r"too many (\w+ ){0,2}(requests?|calls|connections|queries|hits|attempts)",
    rf"{_LIMIT}.{{0,40}}{_OVER}|{_OVER}.{{0,60}}{_LIMIT}|limit ?reach|quota ?violation|limit is \d",
    r"\bexceed\w* .{0,40}\b(requests|calls|usage|rate)\b|rate ?limited|throttl|\bslow down\b",
    r"\b(requests|calls|rate) (\w+ ){0,3}(exceed|exhaust|reached)",
    r"\b(exhausted|reached) (\w+ ){0,4}(requests|calls)\b",
    r"\b(requests|calls) (\w+ )?too (quickly|fast|frequent)|too frequent|excessive requests",
    r"\bno (more )?(credits|requests|calls|quota)\b|insufficient (\w+ )?(credits?|quota|balance|funds)",
    r"\berror (code:? ?)?(999|1015)\b",
    r"przekrocz\w+ .{0,30}limit|zbyt (wiele|dużo|częste) (żądań|żądania|zapytań|zapytania)",
    r"zu viele (\w+ )?(anfragen|zugriffe|abfragen)|limit überschritten",
    r"trop (de |d')(requêtes|demandes|appels|connexions)|limite .{0,30}(dépass|atteint)",
    r"(demasiad[ao]s|muit[ao]s) (solicitudes|peticiones|consultas|pedidos|solicitações|requisições|acessos)",
    r"l[ií]mite .{0,30}(excedid|superad|superat|atingid|alcanzad)|troppe richieste",
    r"te veel (verzoeken|aanvragen)|limiet .{0,30}(overschreden|bereikt)",
    r"för många (förfrågningar|begäranden)|for mange (forespørsler|anmodninger|forespørgsler)",
    r"liian monta pyyntöä|liikaa pyyntöjä",
    r"příliš mnoho (požadavků|dotazů)|príliš veľa požiadaviek|túl sok kérés|prea multe (cereri|solicitări)",
    r"çok fazla istek|πάρα πολλά αιτήματα|previše zahtjeva|твърде много заявки",
    r"слишком много запросов|превышен .{0,30}лимит|(забагато|занадто багато) запитів",
    r"过于频繁|太频繁|过多|過於頻繁|請求過多|超出.{0,10}(限制|频率)|超過.{0,10}限制",
    r"リクエスト.{0,6}(多すぎ|過多|上限)|アクセス.{0,4}集中|制限を超え|너무 많|한도.{0,6}초과",
    r"quá nhiều yêu cầu|terlalu banyak permintaan|คำขอมากเกินไป|طلبات كثيرة|יותר מדי בקשות|बहुत अधिक अनुरोध",
)
_WINDOWS = (
    (Window.MINUTE, _any(r"\b(second|minute)s?\b")),
    (Window.HOUR, _any(r"\bhourly\b|\b(per|an|this|each) hour\b")),
    (Window.DAY, _any(r"\b(daily|day|today|24 hours)\b", "dzienn|täglich|quotidien|diari|每日|每天|今日")),
    (Window.MONTH, _any(r"\bmonth(ly)?\b", "miesięczn|monatlich|mensu|mensil|每月|今月")),
)
_SPENT = _any(r"\b(credits?|balance|funds|quota)\b|exhaust|deplet|used (up|all)")

_KIND = r"(api|access|auth\w*|developer|license|security|subscription|test|sandbox|live|demo|pro|production)"
_KEY = rf"\b({_KIND} ?(api )?(key|token)s?|apikey|bearer|credentials?|secret key)\b"
_NOT = r"(found|provided|supplied|specified|set|active|activated|recogni[sz]ed|registered|used|exist|valid)"
_BAD = (
    rf"(invalid|missing|required?|unknown|wrong|incorrect|expired?|not (\w+ )?{_NOT}|does(n't| not) exist"
    r"|revoked|disabled|deactivated|inactive|suspended|malformed|rejected|unrecogni[sz]ed"
    r"|(was|is|be) used)\b"
)
_KEY_IS_BAD = _any(
    rf"{_KEY}.{{0,50}}?\b{_BAD}|\b({_BAD}|supply|provide|without|use an?)\b.{{0,30}}?{_KEY}",
    r"change your root url",  # to that of the key's kind
)
# Where it is about the caller anyway, a key need not be named.
_ILL = r"(inactive|suspended|disabled|locked)"
_CALLER_IS_BAD = _any(
    r"unauthenticated|not authenticated|authentication( \w+)? (failed|required)",
    rf"\b{_BAD} (\w+ )?(token|key)\b|\b(token|key)( \w+)? {_BAD}|(supply|provide) (an? |your )?(token|key)\b",
    rf"invalid (login|user|password)|\b{_ILL} (account|user)|\b(account|user)\b.{{0,20}}\b{_ILL}\b",
)
_WHOSE = (
    r"(your|current|this|higher|another|paid|pro|enterprise|business|starter|basic|free|professional|any)"
)
_PLAN = _any(
    rf"\b{_WHOSE} (\w+ )?(plans?|tier|licen[cs]e)\b|\bfree (users|accounts?)\b|\bentitled?\b",
    r"\b(premium|upgrade|subscribe|subscribers?|subscriptions?)\b",
    r"\b(don't|do not) have (\w+ )?(access|permission)",
)
_NO_ACCESS = _any(
    r"\b(have|granted?|without|requires?|no) (\w+ )?(access|permission)|\bpermi(t|ss)",
    r"\bplans?\b|not authorized (to|by|for)\b|not (included|enabled|licensed)",
    r"insufficient scope|cannot consume this service",
    r"(access|data|endpoint|is) (\w+ )?restricted",
)
_IN_BETWEEN = _any(
    r"\bcloudflare|\bray ?id\b|error code:? 1\d{3}\b|attention required|just a moment|captcha",
    r"akamai|edgesuite|cloudfront|imperva|incapsula|incident ?id|sucuri|perimeterx|blockscript|datadome",
    r"forti(gate|guard|net)|zscaler|\bfirewall\b|\bwaf\b|err access denied|support id|reference ?#",
    r"requested url was rejected|could not be satisfied",
)
_BLOCKED = _any(
    r"access denied|access (to .{0,40})?(was |is |has been )?(blocked|denied)|unusual traffic",
    r"\bbots?\b|\bproxy\b|\bblocked by\b",
    r"\b(request|you|ip|address|client|traffic)( \S+)? ((has|have) been |was |were |is |are )?(\w+ )?"
    r"(blocked|rejected|banned|blacklisted|denied)|security (policy|rule)",
    r"\bip( address)?\b.{0,20}\bnot (allowed|whitelisted|in (the|your) allow)",
    r"\b(country|region|location)\b.{0,40}(not (allowed|supported|available)|blocked|restricted)",
)
_MARKED = ("cf-mitigated", "x-amzn-waf-action", "x-squid-error", "x-sucuri-block", "x-datadome")
_THING = (
    r"\b(symbols?|tickers?|series|instrument|product|security|coin|identifier|dataset|company|stock|asset)\b"
)
_NO_SUCH = _any(
    rf"{_THING}.{{0,40}}\b(not found|unknown|does not exist|doesn't exist|not recogni[sz]ed|not supported)",
    rf"\b(unknown|invalid|no such|could not find|cannot find|not find) (\w+ ){{0,2}}{_THING}",
)
_NO_SUCH_PATH = _any(
    r"\bno route\b|\b(route|endpoint|page|path|url)\b.{0,20}\b(not found|not exist)",
    r"\bcannot (get|post) /|default backend",
)
_ENDED = _any(
    r"\b(api|endpoint|version|service)\b.{0,40}\b(deprecated|no longer|discontinued|retired|sunset)\b"
)


def refusal(provider: Provider, reply: Reply) -> Refusal | None:
    """What a reply means whose status is no success; None for 2xx, whose body decides."""
    status = reply.status
    if status in range(200, 300):
        return None
    text = _said(reply)
    if status in range(400, 500):
        limited = _limited(provider, text)
        if limited or status in _TOO_MANY:
            return limited or Refusal(Verdict.RATE_LIMIT)
        if reply.is_html and not (status in _MISSING and status in provider.statuses):
            return Refusal(Verdict.PROVIDER_FAILURE)
        return _who(provider, reply, text) if status in _WHO else _other(provider, reply, text)
    if status not in range(100, 600) and (limited := _limited(provider, text)):
        return limited  # no status at all, as Yahoo's 999
    # 5xx, or a redirect, which is never followed.
    busy = status == HTTPStatus.SERVICE_UNAVAILABLE and has_retry_after(reply.headers)
    return Refusal(Verdict.RATE_LIMIT if busy else Verdict.PROVIDER_FAILURE)


def refusal_as_success(provider: Provider, reply: Reply) -> Refusal | None:
    """What a useless reply with status 2xx means; None where it does not say."""
    no_document = reply.document is ABSENT
    text = _said(reply) if no_document else _plain(_errors(reply.document))
    limited = _limited(provider, text)
    if limited or reply.is_html or (no_document and len(reply.text) > _MOST):
        return limited
    return _key_or_plan(provider, text) or (Refusal(Verdict.NOT_FOUND) if _NO_SUCH.search(text) else None)


def _who(provider: Provider, reply: Reply, text: str) -> Refusal:
    """401 and 403: something in between, the key, or the plan."""
    raw = reply.text[:_MOST].casefold().translate(_PLAIN)
    marked = any(name in reply.headers for name in _MARKED) or _IN_BETWEEN.search(raw)
    # A line of text where its errors are documents, and it is not about who asks.
    foreign = reply.status == HTTPStatus.FORBIDDEN and text and reply.document is ABSENT
    rules = (
        (provider.auth is None or marked, Refusal(Verdict.PROVIDER_FAILURE)),
        # Amazon's gateway says so of any path that it does not know.
        ("missing authentication token" in text, Refusal(Verdict.AUTH, certain=False)),
        (_KEY_IS_BAD.search(text) or _CALLER_IS_BAD.search(text), Refusal(Verdict.AUTH)),
        (_PLAN.search(text), Refusal(Verdict.ENTITLEMENT)),
        (_BLOCKED.search(text), Refusal(Verdict.PROVIDER_FAILURE)),
        (_NO_ACCESS.search(text), Refusal(Verdict.ENTITLEMENT)),
        (has_retry_after(reply.headers), Refusal(Verdict.RATE_LIMIT)),
        (foreign, Refusal(Verdict.PROVIDER_FAILURE)),
    )
    return next((found for holds, found in rules if holds), Refusal(Verdict.AUTH, certain=False))


def _other(provider: Provider, reply: Reply, text: str) -> Refusal:
    """Any other 4xx. Of a path that is not there, no word of a key is to be expected, nor one of a symbol."""
    status = reply.status
    if status in _MISSING and not reply.is_html and _NO_SUCH_PATH.search(text):
        return Refusal(Verdict.PROVIDER_FAILURE)
    if status in _MISSING and _ENDED.search(text):
        return Refusal(Verdict.RETIRED)
    found = _key_or_plan(provider, text)
    if found and not (status in _MISSING and found.verdict is Verdict.AUTH):
        return found
    if status in _WRONG_CALL and _NO_SUCH.search(text):
        return Refusal(Verdict.NOT_FOUND)
    return Refusal(_BY_STATUS.get(status, Verdict.CALLER_ERROR))


def _key_or_plan(provider: Provider, text: str) -> Refusal | None:
    """The provider's word that it is the key, or the plan; where there are keys."""
    if provider.auth is None:
        return None
    if _KEY_IS_BAD.search(text):
        return Refusal(Verdict.AUTH)
    return Refusal(Verdict.ENTITLEMENT) if _PLAN.search(text) else None


def _limited(provider: Provider, text: str) -> Refusal | None:
    """A rate limit; a quota where the words are of a day or a month, or of credit that is spent."""
    if not _LIMITED.search(text):
        return None
    window = next((window for window, words in _WINDOWS if words.search(text)), None)
    if window in (Window.DAY, Window.MONTH):
        return Refusal(Verdict.QUOTA, said_window(provider, window))
    if window is None and _SPENT.search(text):
        return Refusal(Verdict.QUOTA)
    return Refusal(Verdict.RATE_LIMIT, Window.HOUR if window is Window.HOUR else None)


def _said(reply: Reply) -> str:
    """What a reply says: of a document the texts in it, of a page what a reader sees."""
    if reply.document is not ABSENT:
        return _plain(_texts(reply.document))
    text = reply.text[:_MOST]
    return _plain([unescape(re.sub(r"<[^<>]*>", " ", text)) if reply.is_html else text])


def _plain(texts: Iterable[str]) -> str:
    first = " . ".join(islice(texts, _MOST_TEXTS))[:_MOST]
    return " ".join(first.casefold().translate(_PLAIN).split())


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:_MOST]
    elif depth < _DEPTH and isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member, depth + 1)


def _errors(document: object, depth: int = 0) -> Iterator[str]:
    """The texts of an object's error members, and of those of objects in them."""
    if depth < _DEPTH and isinstance(document, dict):
        for name, value in document.items():
            if name.casefold() in _ERROR_MEMBERS:
                yield from _errors(value, depth + 1) if isinstance(value, dict) else _texts(value)
