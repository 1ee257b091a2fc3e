"""The best-known indices: where their shares are traded, and what they are called where not as here.

Here an index has Yahoo's name, the most familiar one, without the mark. Other names are those that the
providers' own lists and examples show (Massive's indices, Twelve Data's /indices, EODHD's exchange INDX).
Where an index has none, the provider is not asked for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Index:
    """One index.

    Attributes:
        mic: The exchange whose days and clock it has; empty for the US.
        names: Service → its name there; empty where it has none.
        also: Names it is known by, too; they are read, never written.
    """

    mic: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()


INDICES: Mapping[str, Index] = MappingProxyType(
    {
        # US.
        "GSPC": Index(
            names={"polygon": "I:SPX", "twelvedata": "SPX", "tradier": "SPX"}, also=("SPX", "INX", "SP500")
        ),
        "DJI": Index(names={"polygon": "I:DJI", "twelvedata": "DJI"}, also=("DJIA",)),
        "IXIC": Index(names={"polygon": "I:COMP", "twelvedata": "IXIC"}, also=("COMP",)),
        "NDX": Index(names={"polygon": "I:NDX", "twelvedata": "NDX", "tradier": "NDX"}),
        "RUT": Index(names={"polygon": "I:RUT", "tradier": "RUT"}),
        "VIX": Index(names={"polygon": "I:VIX", "tradier": "VIX"}),
        "OEX": Index(names={"polygon": "I:OEX"}),
        "NYA": Index(),
        "SOX": Index(),
        "TNX": Index(),
        # Americas.
        "GSPTSE": Index("XTSE"),
        "BVSP": Index("BVMF"),
        "MXX": Index("XMEX"),
        "MERV": Index("XBUE"),
        # Europe.
        "FTSE": Index("XLON", names={"twelvedata": "FTSE"}, also=("UKX",)),
        "FTMC": Index("XLON"),
        "GDAXI": Index("XETR", also=("DAX",)),
        "MDAXI": Index("XETR"),
        "FCHI": Index("XPAR", also=("CAC", "CAC40")),
        "STOXX50E": Index("XETR", also=("SX5E",)),
        "AEX": Index("XAMS"),
        "BFX": Index("XBRU"),
        "IBEX": Index("XMAD"),
        "FTSEMIB": Index("XMIL", names={"yahoo": "FTSEMIB.MI", "fmp": "FTSEMIB.MI", "eodhd": ""}),
        "SSMI": Index("XSWX", also=("SMI",)),
        "ATX": Index("XWBO"),
        "OMX": Index("XSTO"),
        # Asia and Oceania.
        "N225": Index("XTKS", also=("NKY", "NI225")),
        "HSI": Index("XHKG"),
        "SSEC": Index("XSHG", names={"yahoo": "000001.SS", "fmp": "000001.SS", "eodhd": "000001.SHG"}),
        "CSI300": Index("XSHG", names={"yahoo": "000300.SS", "fmp": "000300.SS"}),
        "TWII": Index("XTAI"),
        "KS11": Index("XKRX", also=("KOSPI",)),
        "NSEI": Index("XNSE", also=("NIFTY",)),
        "BSESN": Index("XBOM", also=("SENSEX",)),
        "STI": Index("XSES"),
        "JKSE": Index("XIDX"),
        "KLSE": Index("XKLS"),
        "AXJO": Index("XASX", also=("XJO",)),
        "AORD": Index("XASX"),
    }
)
"""Name without the mark → the index."""

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {other: name for name, index in INDICES.items() for other in index.also}
)
"""Another name → ours."""

SHARE_LIKE: Mapping[str, str] = MappingProxyType(
    {
        index.names["yahoo"]: name
        for name, index in INDICES.items()
        if not index.names.get("yahoo", "^").startswith("^")
    }
)
"""Yahoo's name of an index that looks like a share's, as 000001.SS → ours."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a provider calls the indices.

    Attributes:
        service: The provider.
        template: What it makes of our name, as in "^{}"; empty where it has only those with a name above.
    """

    service: str
    template: str = ""

    def of(self, root: str) -> str:
        """Its name of an index, empty where it has none."""
        names = INDICES[root].names if root in INDICES else {}
        return names.get(self.service, self.template.format(root))

    @cache  # noqa: B019 - a few rows have one each, for good; asked for every symbol of every message
    def all(self) -> frozenset[str]:
        """The names it has of the indices above."""
        return frozenset(filter(None, map(self.of, INDICES)))
