"""The exchanges a symbol may name: their codes, clocks and currencies. Data, and how to find a row of it.

The codes are MICs (ISO 10383), the currencies ISO 4217's. The suffixes are the most familiar there are,
those of Yahoo Finance (its help page "Exchanges and data providers", SLN2310); an exchange without one is
written by its MIC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange.

    Attributes:
        mic: Its Market Identifier Code (ISO 10383).
        suffix: What stands behind the dot in a symbol of it.
        zone: Its clock.
        currency: What most of its shares are traded in.
        minor: The unit their prices are usually quoted in, where that is a part of the currency: see
            `MINOR_UNITS`.
        also: Other suffixes that can mean nothing else. They are read, never written.
    """

    mic: str
    suffix: str
    zone: str
    currency: str
    minor: str = ""
    also: tuple[str, ...] = ()


MINOR_UNITS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("GBX", "GBp", "GBP0.01"), ("GBP", 100)),
        "ILA": ("ILS", 100),
        **dict.fromkeys(("ZAC", "ZAX"), ("ZAR", 100)),
        "KWF": ("KWD", 1_000),
        "USX": ("USD", 100),  # of grain, sugar, coffee and cattle
    }
)
"""As providers write it → the currency, and how many make one. What is in capitals here is read in any case,
what is not as it stands: GBp is pence, GBP and gbp are pounds."""

_BERLIN, _NEW_YORK, _TORONTO = "Europe/Berlin", "America/New_York", "America/Toronto"

US = Exchange(
    "XNYS", "", _NEW_YORK, "USD", also=("US", "XNAS", "XNGS", "XNMS", "XNCM", "XASE", "ARCX", "BATS", "IEXG")
)
"""All US exchanges: they share a symbol's name, so it has no suffix. AAPL.XNAS is AAPL."""

EXCHANGES: tuple[Exchange, ...] = (
    US,
    # Americas.
    Exchange("XTSE", "TO", _TORONTO, "CAD", also=("TRT",)),
    Exchange("XTSX", "V", _TORONTO, "CAD", also=("TRV",)),
    Exchange("XCNQ", "CN", _TORONTO, "CAD"),
    Exchange("NEOE", "NE", _TORONTO, "CAD", also=("NEO",)),
    Exchange("XMEX", "MX", "America/Mexico_City", "MXN"),
    Exchange("BVMF", "SA", "America/Sao_Paulo", "BRL", also=("SAO",)),
    Exchange("XBUE", "BA", "America/Argentina/Buenos_Aires", "ARS"),
    Exchange("XSGO", "SN", "America/Santiago", "CLP"),
    Exchange("XBOG", "CL", "America/Bogota", "COP"),
    Exchange("XLIM", "LM", "America/Lima", "PEN", also=("LIM",)),
    Exchange("BVCA", "CR", "America/Caracas", "VES"),
    # Europe.
    Exchange("XLON", "L", "Europe/London", "GBP", minor="GBX", also=("LON", "LSE")),
    Exchange("XDUB", "IR", "Europe/Dublin", "EUR"),
    Exchange("XETR", "DE", _BERLIN, "EUR", also=("DEX", "XETRA")),
    Exchange("XFRA", "F", _BERLIN, "EUR", also=("FRK",)),
    Exchange("XBER", "BE", _BERLIN, "EUR"),
    Exchange("XBRE", "BM", _BERLIN, "EUR"),
    Exchange("XDUS", "DU", _BERLIN, "EUR"),
    Exchange("XHAM", "HM", _BERLIN, "EUR"),
    Exchange("XHAN", "HA", _BERLIN, "EUR"),
    Exchange("XMUN", "MU", _BERLIN, "EUR"),
    Exchange("XSTU", "SG", _BERLIN, "EUR", also=("STU",)),
    Exchange("XPAR", "PA", "Europe/Paris", "EUR", also=("PAR",)),
    Exchange("XAMS", "AS", "Europe/Amsterdam", "EUR", also=("AMS",)),
    Exchange("XBRU", "BR", "Europe/Brussels", "EUR", also=("BRU",)),
    Exchange("XLIS", "LS", "Europe/Lisbon", "EUR", also=("LIS",)),
    Exchange("XMAD", "MC", "Europe/Madrid", "EUR"),
    Exchange("XMIL", "MI", "Europe/Rome", "EUR", also=("MTAA",)),
    Exchange("XSWX", "SW", "Europe/Zurich", "CHF", also=("VX",)),
    Exchange("XWBO", "VI", "Europe/Vienna", "EUR"),
    Exchange("XSTO", "ST", "Europe/Stockholm", "SEK"),
    Exchange("XCSE", "CO", "Europe/Copenhagen", "DKK"),
    Exchange("XOSL", "OL", "Europe/Oslo", "NOK"),
    Exchange("XHEL", "HE", "Europe/Helsinki", "EUR"),
    Exchange("XICE", "IC", "Atlantic/Reykjavik", "ISK"),
    Exchange("XTAL", "TL", "Europe/Tallinn", "EUR"),
    Exchange("XRIS", "RG", "Europe/Riga", "EUR"),
    Exchange("XLIT", "VS", "Europe/Vilnius", "EUR"),
    Exchange("XWAR", "WA", "Europe/Warsaw", "PLN", also=("WAR",)),
    Exchange("XPRA", "PR", "Europe/Prague", "CZK"),
    Exchange("XBUD", "BD", "Europe/Budapest", "HUF", also=("BUD",)),
    Exchange("XBSE", "RO", "Europe/Bucharest", "RON"),
    Exchange("ASEX", "AT", "Europe/Athens", "EUR", also=("XATH",)),
    Exchange("XIST", "IS", "Europe/Istanbul", "TRY"),
    Exchange("MISX", "ME", "Europe/Moscow", "RUB"),
    # Africa and the Middle East.
    Exchange("XJSE", "JO", "Africa/Johannesburg", "ZAR", minor="ZAC", also=("JSE",)),
    Exchange("XCAI", "CA", "Africa/Cairo", "EGP", also=("EGX",)),
    Exchange("XNAI", "", "Africa/Nairobi", "KES"),
    Exchange("XNSA", "", "Africa/Lagos", "NGN"),
    Exchange("XCAS", "", "Africa/Casablanca", "MAD"),
    Exchange("XTAE", "TA", "Asia/Jerusalem", "ILS", minor="ILA"),
    Exchange("XSAU", "SR", "Asia/Riyadh", "SAR"),
    Exchange("DSMD", "QA", "Asia/Qatar", "QAR"),
    Exchange("XKUW", "KW", "Asia/Kuwait", "KWD", minor="KWF"),
    Exchange("XDFM", "AE", "Asia/Dubai", "AED"),
    Exchange("XADS", "", "Asia/Dubai", "AED"),
    # Asia and Oceania.
    Exchange("XTKS", "T", "Asia/Tokyo", "JPY", also=("XJPX",)),
    Exchange("XHKG", "HK", "Asia/Hong_Kong", "HKD"),
    Exchange("XSHG", "SS", "Asia/Shanghai", "CNY", also=("SHH", "SHG")),
    Exchange("XSHE", "SZ", "Asia/Shanghai", "CNY", also=("SHZ", "SHE")),
    Exchange("XTAI", "TW", "Asia/Taipei", "TWD"),
    Exchange("ROCO", "TWO", "Asia/Taipei", "TWD"),
    Exchange("XKRX", "KS", "Asia/Seoul", "KRW", also=("KO",)),
    Exchange("XKOS", "KQ", "Asia/Seoul", "KRW"),
    Exchange("XNSE", "NS", "Asia/Kolkata", "INR", also=("NSE",)),
    Exchange("XBOM", "BO", "Asia/Kolkata", "INR", also=("BSE",)),
    Exchange("XKAR", "KA", "Asia/Karachi", "PKR", also=("KAR",)),
    Exchange("XCOL", "CM", "Asia/Colombo", "LKR"),
    Exchange("XSES", "SI", "Asia/Singapore", "SGD"),
    Exchange("XKLS", "KL", "Asia/Kuala_Lumpur", "MYR", also=("KLSE",)),
    Exchange("XBKK", "BK", "Asia/Bangkok", "THB"),
    Exchange("XIDX", "JK", "Asia/Jakarta", "IDR"),
    Exchange("XPHS", "PS", "Asia/Manila", "PHP", also=("PSE",)),
    Exchange("XSTC", "VN", "Asia/Ho_Chi_Minh", "VND"),
    Exchange("XASX", "AX", "Australia/Sydney", "AUD", also=("AU",)),
    Exchange("XNZE", "NZ", "Pacific/Auckland", "NZD"),
)

_BY_NAME = {
    name: exchange
    for exchange in EXCHANGES
    for name in (exchange.mic, exchange.suffix, *exchange.also)
    if name
}


def exchange_of(name: str) -> Exchange | None:
    """The exchange of a suffix or a MIC, in upper case; None where the table has none."""
    return _BY_NAME.get(name)


_BEFORE = (
    "NASDAQ:US NYSE:US NYSEARCA:US NYSEAMERICAN:US AMEX:US OTCMKTS:US OTC:US TSX:TO TSXV:V CVE:V NEO:NE "
    "BMV:MX BVMF:SA BMFBOVESPA:SA BCBA:BA LON:L LSE:L ETR:DE XETRA:DE FRA:F FWB:F EPA:PA AMS:AS EBR:BR "
    "ELI:LS BME:MC BIT:MI MIL:MI SWX:SW SIX:SW VTX:SW VIE:VI STO:ST CPH:CO HEL:HE WSE:WA IST:IS BIST:IS "
    "MCX:ME MOEX:ME JSE:JO TLV:TA TASE:TA TADAWUL:SR TYO:T HKG:HK HKEX:HK SHA:SS SSE:SS SHE:SZ SZSE:SZ "
    "TPE:TW TWSE:TW KRX:KS KOSDAQ:KQ NSE:NS BOM:BO BSE:BO SGX:SI KLSE:KL BKK:BK IDX:JK ASX:AX NZE:NZ "
    "NZX:NZ"
)
CODES_BEFORE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((US.mic, *US.also[1:]), US.also[0]),
        **{exchange.mic: exchange.mic for exchange in EXCHANGES if exchange is not US},
        **dict(pair.split(":") for pair in _BEFORE.split()),
    }
)
"""What Google, TradingView and others write before a share, as in LON:VOD → what stands behind it here.

Such a text is not read as that share: the same letters are tickers, too, as Entergy's in ETR:ASSETS. TSE is
left out, which is Toronto to the one and Tokyo to the other.
"""
