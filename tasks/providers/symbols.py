"""One text for a symbol, whatever its writer is used to, and how a provider's row spells it.

A symbol here is one of these (`Kind`); all else goes out as it was typed:

    AAPL, BRK.B         a share or fund listed in the US; its class behind a dot
    BAC.PRL, ACHR.WS    a preferred share of series L, warrants; .U units, .RT rights (NYSE's suffixes)
    VOD.L, NOVO.B.CO    one listed elsewhere, by the exchange's suffix (`tasks.exchanges`), or its MIC
    ^GSPC               an index (`tasks.providers.indices`)
    EUR/USD             two currencies, both of ISO 4217
    BTC-USD             a coin, and what it is paid in

Checked before it gets near a URL, so it can break out of none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from tasks.errors import InvalidSymbolError
from tasks.exchanges import CODES_BEFORE, EXCHANGES, US, Exchange, exchange_of
from tasks.providers.indices import INDICES, OTHER_NAMES, SHARE_LIKE, Names
from tasks.records import LONGEST_SYMBOL

SYMBOL = re.compile(
    r"(?=.*[A-Za-z0-9])(?=[^/]*(?:[A-Za-z0-9]/[A-Za-z0-9][^/]*)?\Z)"
    rf"(?:[A-Za-z0-9._\-^=/]{{1,32}}|(?=[^:]*:)[A-Za-z0-9._\-^=:/]{{1,{LONGEST_SYMBOL}}})"
)
"""What may be looked at as a symbol. ASCII only; the first look-ahead refuses "." and "..", which a path
would take for a step. A slash is in a pair of currencies, or of a coin and a currency, and before a class;
in no other.

No ticker is longer than 32. What has a colon names a provider's own thing, and those go by long words: a
coin's id at CoinGecko, an indicator at the World Bank. They document no bound; the one here keeps what is
made of a symbol, keys and log lines, short.
"""

# ISO 4217, with the metals, and with those that ended lately: their rates of before are still asked for.
_CODES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD "
    "CAD CDF CHF CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP "
    "GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD "
    "KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO "
    "NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS "
    "SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF "
    "XCD XCG XOF XPF YER ZAR ZMW ZWG XAG XAU XPD XPT XDR "
    "CNH"  # no code of ISO's: the yuan as it is traded abroad, for which all who quote it have this name
)
CURRENCIES = frozenset(_CODES.split())

_DOLLARS = frozenset({"USDT", "USDC"})  # coins that stand for one; currencies are paid in them, too: EUR-USDT
_PAID_IN = CURRENCIES | _DOLLARS | {"BTC", "ETH"}
_PAIR = re.compile(r"([A-Z0-9]{1,10})[-/_]([A-Z]{3,4})")
_YAHOO_PAIR = re.compile(r"([A-Z]{3})?([A-Z]{3})=X")
_MARKED_PAIR = re.compile(  # EODHD's, and Massive's
    r"([A-Z]{3})([A-Z]{3})\.FOREX|([A-Z0-9]{1,10})-([A-Z]{3,4})\.CC"
    r"|C:([A-Z]{3})([A-Z]{3})|X:([A-Z0-9]{1,10}?)(USD[TC]|[A-Z]{3})"
)
_MARKED_INDEX = re.compile(r"([A-Z0-9]+)\.INDX|I:([A-Z0-9]+)|\.([A-Z0-9]+)")  # Reuters', too
_INDEX = re.compile(r"\^([A-Z0-9][A-Z0-9._\-]*)")
_SHARE = re.compile(r"([A-Z0-9]+)(?:[.\-]([A-Z]{1,3}))?(?:\.([A-Z]{1,5}))?")
_LONDONS_DOT = re.compile(r"\A([A-Z]{2})\.\.")  # London fills two letters up: BP..L
_LONG_CLASS = re.compile(r"([A-Z0-9]+)-([A-Z0-9]{1,8})\.([A-Z]{1,5})")  # BAJAJ-AUTO.NS, SBB-PREF.ST
_LONGEST_CLASS = 3
_SLASHED = re.compile(r"(?![A-Z]/[A-Z]\Z)([A-Z]{1,5})/([A-Z]|PR?[A-Z]|WS)")  # N/A is no share
_ISSUE = re.compile(
    r"([A-Z]{1,5})(?:[.\-]PR[.\-]?(?P<PR>[A-Z])|-P-?(?P<P>[A-Z])|[.\-](?P<WS>WS|WT)|[.\-](?P<U>U|UN)"
    r"|[.\-](?P<RT>RT|RI))(?:\.US)?"
)
"""What else a company has listed in the US, as any of them writes it: BAC.PRL, BAC-PL, BAC-P-L, BAC.PR.L."""
_MASSIVE_PREFERRED = re.compile(r"([A-Z]{1,5})p([A-Z])")  # BACpL: the one spelling in which case tells
_OTHER_COINS = MappingProxyType({"XBT": "BTC", "XDG": "DOGE"})  # coins that are widely known by two names


class Kind(StrEnum):
    """What a symbol is of."""

    SHARE = "share"
    INDEX = "index"
    FX = "fx"
    COIN = "coin"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol, taken apart.

    Attributes:
        kind: What it is of; OTHER where that cannot be told.
        text: The whole of it, the same for all of its spellings.
        root: A share's or an index's name alone.
        share_class: A share's class, empty for none.
        mic: The exchange of a share or an index; empty in the US, and where it is not known.
        base: A currency, or a coin;
        quote_currency: what one of it is paid in.
    """

    kind: Kind
    text: str
    root: str = ""
    share_class: str = ""
    mic: str = ""
    base: str = ""
    quote_currency: str = ""

    @property
    def exchange(self) -> Exchange | None:
        """Where it is traded; None where that is not known, or is no exchange."""
        known = self.kind is Kind.SHARE or (self.kind is Kind.INDEX and self.root in INDICES)
        return (exchange_of(self.mic) or US) if known else None

    def __str__(self) -> str:
        return self.text


def clean_symbol(symbol: str) -> str:
    """The one text of a symbol, in upper case.

    Raises:
        InvalidSymbolError: It can be no symbol.
    """
    return parse(symbol).text


def parse(text: str) -> Symbol:
    """A symbol from any of its spellings; see the module.

    Raises:
        InvalidSymbolError: Not 1 to 32 letters, digits or . _ - ^ = with a letter or digit among them, nor up
            to LONGEST_SYMBOL of them with a colon, too; or a slash in what is no pair.
    """
    if not isinstance(text, str) or not SYMBOL.fullmatch(text):
        raise InvalidSymbolError(text)
    preferred = _MASSIVE_PREFERRED.fullmatch(text)
    found = _parse("{}.PR{}".format(*preferred.groups()) if preferred else text.upper())
    if found.kind is Kind.OTHER and "/" in text:
        raise InvalidSymbolError(text)
    return found


@lru_cache(maxsize=10_000)
def _parse(text: str) -> Symbol:
    found = _of_source(text) or _pair(text) or _index(text) or _issue(text) or _share(text)
    return found or Symbol(Kind.OTHER, text)


def _of_source(text: str) -> Symbol | None:
    """In one provider's words that can mean nothing else: EURUSD.FOREX, X:BTCUSD, GSPC.INDX, I:SPX, .SPX."""
    if found := _MARKED_PAIR.fullmatch(text):
        return _pair("-".join(filter(None, found.groups())))
    if found := _MARKED_INDEX.fullmatch(text):
        name = next(filter(None, found.groups()))
        return _index(f"^{name}") if name in INDICES or name in OTHER_NAMES else None
    return None


def _pair(text: str) -> Symbol | None:
    if found := _YAHOO_PAIR.fullmatch(text):
        base, paid_in = found[1] or "USD", found[2]
        return _currencies(base, paid_in) if {base, paid_in} <= CURRENCIES and base != paid_in else None
    if found := _PAIR.fullmatch(text):
        base, paid_in = found.groups()
        if base == paid_in:
            return None
        if {base, paid_in} <= CURRENCIES:
            return _currencies(base, paid_in)
        if paid_in in _PAID_IN and (base not in CURRENCIES or paid_in in _DOLLARS):
            base = _OTHER_COINS.get(base, base)
            return Symbol(Kind.COIN, f"{base}-{paid_in}", base=base, quote_currency=paid_in)
    return None


def _currencies(base: str, paid_in: str) -> Symbol:
    return Symbol(Kind.FX, f"{base}/{paid_in}", base=base, quote_currency=paid_in)


def _index(text: str) -> Symbol | None:
    found = _INDEX.fullmatch(text)
    if found is None:
        return None
    root = OTHER_NAMES.get(found[1], found[1])
    return Symbol(Kind.INDEX, f"^{root}", root, mic=INDICES[root].mic if root in INDICES else "")


def _issue(text: str) -> Symbol | None:
    found = _ISSUE.fullmatch(text)
    if found is None:
        return None
    series = found["PR"] or found["P"]
    issue = f"PR{series}" if series else next(name for name in ("WS", "U", "RT") if found[name])
    return Symbol(Kind.SHARE, f"{found[1]}.{issue}", found[1], issue)


def _share(text: str) -> Symbol | None:
    if found := _SLASHED.fullmatch(text):
        text = f"{found[1]}-{found[2]}"
        if issue := _issue(text):
            return issue
    text = _LONDONS_DOT.sub(r"\1.", text)
    found = _SHARE.fullmatch(text) or _LONG_CLASS.fullmatch(text)
    if found is None:
        return None
    root, share_class, suffix = found[1], found[2] or "", found[3] or ""
    if share_class and not suffix and text[len(root)] == ".":
        # VOD.L names an exchange, BRK.B a class.
        exchange = exchange_of(share_class)
        share_class, suffix = ("", share_class) if exchange else (share_class, "")
    exchange = exchange_of(suffix) if suffix else US
    unclear = exchange is None or (exchange is US and (len(share_class) > 1 or not re.search("[A-Z]", root)))
    if exchange is None or unclear:
        return None
    if exchange.mic == "XHKG" and root.isdigit():
        root = root.lstrip("0").zfill(4)  # 700, 0700 and 00700 are one
    # MKC-V is a class, MKC.V would be an exchange; no class behind a dot is long.
    dash = (exchange is US and exchange_of(share_class)) or len(share_class) > _LONGEST_CLASS
    written = root + (f"{'-' if dash else '.'}{share_class}" if share_class else "")
    if exchange is US:
        return Symbol(Kind.SHARE, written, root, share_class)
    written += f".{exchange.suffix or exchange.mic}"
    # Some indices have names like a share's; no share has such a name.
    return (
        _index(f"^{SHARE_LIKE[written]}")
        if written in SHARE_LIKE
        else Symbol(Kind.SHARE, written, root, share_class, exchange.mic)
    )


FAMILIAR: Mapping[str, str] = MappingProxyType(
    {"": "", **{exchange.mic: f".{exchange.suffix}" for exchange in EXCHANGES if exchange.suffix}}
)
"""MIC → what stands behind a share's name at those who use the familiar suffixes."""

ELSEWHERE = "ask another provider"
_LONGEST_US = 5  # letters of a ticker there, without the class
_UNMARKED = "{base}{quote}"  # nothing tells such a pair from a ticker
_CIK = re.compile(r"[0-9]{10}")


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a provider writes symbols. Of a kind that is left out it has none; with nothing said, US shares.

    Attributes:
        dash: Between the name of a US share and its class,
        abroad: and of one listed elsewhere; None: there it has no classes.
        exchanges: MIC, empty for the US → what stands behind the name of a share; it has none of another.
        index: What it calls the indices.
        fx: A pair of currencies, as in "{base}/{quote}".
        coin: The same, of a coin and what it is paid in,
        paid_in: which is one of these; empty for any,
        coins: and what it calls a coin whose usual name is another coin's there.
        issues: What stands behind a US company's name for its preferred shares ("PR"; "{}" is the series),
            warrants ("WS"), units ("U") and rights ("RT"), where it is not written as a class is; empty: it
            has none.
        own: Characters beside letters, digits and ._- in texts that may be its own, as the colon in I:SPX;
            None: it has none such.
    """

    dash: str = "."
    abroad: str | None = "-"
    exchanges: Mapping[str, str] = field(default_factory=lambda: {"": ""})
    index: Names | None = None
    fx: str = ""
    coin: str = ""
    paid_in: frozenset[str] = frozenset()
    coins: Mapping[str, str] = field(default_factory=dict)
    issues: Mapping[str, str] = field(default_factory=dict)
    own: str | None = ""

    def __call__(self, symbol: Symbol) -> str:
        """The provider's spelling.

        Raises:
            InvalidSymbolError: It has no such symbol.
        """
        if written := remedy_of(symbol):
            raise InvalidSymbolError(symbol.text, written)
        spelled = self._spelled(symbol)
        if spelled:
            return spelled
        if _CIK.fullmatch(symbol.text):
            raise InvalidSymbolError(
                symbol.text, "a CIK is known to sec_edgar only; ask for a ticker, as in AAPL"
            )
        raise InvalidSymbolError(symbol.text, f"{_NONE[symbol.kind]} there: {ELSEWHERE}")

    def of_shares(self) -> "Spelling":
        """The same of shares alone."""
        return replace(self, index=None, fx="", coin="")

    def _spelled(self, symbol: Symbol) -> str:
        """Empty where there is none."""
        match symbol.kind:
            case Kind.SHARE:
                return self._share(symbol)
            case Kind.INDEX:
                return self.index.of(symbol.root) if self.index else ""
            case Kind.FX:
                return self.fx.format(base=symbol.base, quote=symbol.quote_currency)
            case Kind.COIN:
                if self.paid_in and symbol.quote_currency not in self.paid_in:
                    return ""
                base = self.coins.get(symbol.base, symbol.base)
                return self.coin.format(base=base, quote=symbol.quote_currency)
        more = None if self.own is None else re.escape(self.own)
        own = more is not None and re.fullmatch(rf"[A-Z0-9._\-{more}]+", symbol.text)
        return symbol.text if own and not _CIK.fullmatch(symbol.text) else ""

    def _share(self, symbol: Symbol) -> str:
        dash, behind = self.abroad if symbol.mic else self.dash, self.exchanges.get(symbol.mic)
        if behind is None or (symbol.share_class and dash is None):
            return ""
        listed = f"{dash}{symbol.share_class}" if symbol.share_class else ""
        if listed and not symbol.mic:
            issue, series = (
                (found[1], found[2]) if (found := _SERIES.fullmatch(symbol.share_class)) else ("", "")
            )
            issue = issue or symbol.share_class
            listed = self.issues.get(issue, listed).format(series)
            if not listed:
                return ""
        spelled = symbol.root + listed + behind
        # Where an index or a pair has the name of a share, nobody gets the price of the wrong one.
        is_index = self.index is not None and spelled in self.index.all()
        return "" if is_index or self._is_pair(spelled) else spelled

    def _is_pair(self, spelled: str) -> bool:
        base, paid_in = spelled[:-3], spelled[-3:]
        is_fx = self.fx == _UNMARKED and {base, paid_in} <= CURRENCIES
        is_coin = self.coin == _UNMARKED and len(spelled) > _LONGEST_US and paid_in in self.paid_in
        return is_fx or is_coin


HYPHENATED = MappingProxyType({"PR": "-P{}", "WS": "-WT", "U": "-UN", "RT": "-RI"})
"""What else a US company has listed, as Yahoo writes it, and others after it."""


def remedy_of(symbol: Symbol) -> str:
    """What to write instead of what names no share, but something else; empty where it may name one."""
    text = symbol.text
    found = _BEFORE.fullmatch(text) or _BEHIND.fullmatch(text)
    if symbol.kind is Kind.OTHER and found and found["code"] in CODES_BEFORE:
        share = _parse(f"{found['name']}.{CODES_BEFORE[found['code']]}")
        return (
            f"an exchange stands behind it by its suffix: write {share.text}"
            if share.kind is Kind.SHARE
            else ""
        )
    if text.isdigit() and not _CIK.fullmatch(text):
        return "a number is a share's only with its exchange behind it, as in 7203.T; a CIK has ten digits"
    if symbol.kind is not Kind.SHARE or symbol.mic or symbol.share_class:
        return ""
    if _ISIN.fullmatch(text) or _FIGI.fullmatch(text):
        return "that is an ISIN or a FIGI: write the ticker, with its exchange, as in AAPL or VOD.L"
    # Nothing tells such a pair from a ticker, but that no ticker in the US is so long.
    found = _KRAKENS_PAIR.fullmatch(text) or _UNMARKED_PAIR.fullmatch(text)
    pair = _pair("-".join(found.groups())) if found else None
    known = pair is not None and (pair.kind is Kind.FX or pair.quote_currency in _COMMON)
    return f"a pair has its parts apart: write {pair.text}" if pair and known else ""


_BEFORE = re.compile(r"(?P<code>[A-Z]{2,12}):(?P<name>[A-Z0-9.\-]+)")
_BEHIND = re.compile(r"(?P<name>[A-Z0-9.\-]+)\.(?P<code>[A-Z]{3,12})")
_ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")
_FIGI = re.compile(r"BBG[A-Z0-9]{9}")
_KRAKENS_PAIR = re.compile(r"X([A-Z]{3})Z([A-Z]{3})")
_COMMON = _DOLLARS | {"USD", "EUR", "GBP", "JPY", "BTC", "ETH"}  # ZZZTOP is not paid in Tonga's money
_UNMARKED_PAIR = re.compile(r"([A-Z0-9]{3,10}?)(USD[TC]|[A-Z]{3})")
_SERIES = re.compile(r"(PR)([A-Z])")

_NONE = {
    Kind.SHARE: "no shares of this exchange, or of this form,",
    Kind.INDEX: "no such index",
    Kind.FX: "no pairs of currencies",
    Kind.COIN: "no coins",
    Kind.OTHER: "no symbol of this form",
}
