"""The servers' protocol (RESP2): by hiredis, which is faster, where it is installed; else in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import hiredis
except ModuleNotFoundError:
    hiredis = None  # type: ignore[assignment]  # it is an extra

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What a reader has while a reply is not complete.
NOTHING = object()
_END = b"\r\n"


class ProtocolError(Exception):
    """What came is no server's reply."""


def pack(command: Sequence[str | bytes | float]) -> bytes:
    """A command as it is sent."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Reader:
    """Makes replies of what comes, in pieces of any size.

    Args:
        error: What a server's error becomes; it is returned, not raised.
    """

    def __init__(self, error: Callable[[str], Exception]) -> None:
        self._error = error
        self._data = bytearray()

    def feed(self, data: bytearray, start: int, size: int) -> None:
        """Take so many bytes from there on."""
        self._data += data[start : start + size]

    def gets(self) -> Any:
        """The next reply, or ``NOTHING``.

        Raises:
            ProtocolError: What came is none.
        """
        try:
            reply, end = self._reply(0)
        except IndexError:
            return NOTHING
        del self._data[:end]
        return reply

    def _reply(self, start: int) -> tuple[Any, int]:
        """The reply that begins there, and where it ends.

        Raises:
            IndexError: It has not come in full.
        """
        at = self._data.find(_END, start)
        if at < 0:
            raise IndexError
        kind, told, end = self._data[start : start + 1], bytes(self._data[start + 1 : at]), at + 2
        if kind == b"+":
            return told, end
        if kind == b"-":
            return self._error(told.decode("utf-8", "replace")), end
        try:
            number = int(told)
        except ValueError:
            raise ProtocolError(f"{bytes(kind) + told[:80]!r} begins no reply") from None
        if kind == b":":
            return number, end
        if kind == b"$":
            return (None, end) if number < 0 else self._text(end, number)
        if kind == b"*":
            return (None, end) if number < 0 else self._list(end, number)
        raise ProtocolError(f"{bytes(kind) + told[:80]!r} begins no reply")

    def _text(self, start: int, size: int) -> tuple[bytes, int]:
        end = start + size
        if len(self._data) < end + 2:
            raise IndexError
        if self._data[end : end + 2] != _END:
            raise ProtocolError(f"a text of {size} bytes does not end there")
        return bytes(self._data[start:end]), end + 2

    def _list(self, start: int, size: int) -> tuple[list[Any], int]:
        found = []
        for _ in range(size):
            reply, start = self._reply(start)
            found.append(reply)
        return found, start


def packer() -> Callable[..., bytes]:
    """The fastest there is."""
    return pack if hiredis is None else hiredis.pack_command


def reader(error: Callable[[str], Exception]) -> Any:
    """The same for replies."""
    if hiredis is None:
        return Reader(error)
    return hiredis.Reader(protocolError=ProtocolError, replyError=error, notEnoughData=NOTHING)
