"""The servers' protocol in Python, which says what hiredis says."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.stores.lines import ReplyError
from resilience.stores.resp import NOTHING, ProtocolError, Reader, pack

INTEGERS = st.integers(-(2**63), 2**63 - 1)
LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def listed(replies: list[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


REPLIES = st.recursive(
    st.one_of(
        LINE.map(lambda text: b"+%b\r\n" % text.encode()),
        LINE.map(lambda text: b"-ERR %b\r\n" % text.encode()),
        INTEGERS.map(lambda number: b":%d\r\n" % number),
        st.binary().map(bulk),
        st.sampled_from([b"$-1\r\n", b"*-1\r\n"]),
    ),
    lambda inner: st.lists(inner, max_size=5).map(listed),
    max_leaves=12,
)


def plain(reply):
    """Comparable: errors are equal where they say the same."""
    if isinstance(reply, list):
        return [plain(one) for one in reply]
    return ("error", str(reply)) if isinstance(reply, Exception) else reply


def read(reader, sent: bytes, cuts: list[int]) -> list:
    found, start = [], 0
    for end in (*sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)):
        reader.feed(bytearray(sent), start, end - start)
        start = end
        while (reply := reader.gets()) is not NOTHING:
            found.append(plain(reply))
    return found


@given(st.lists(REPLIES, min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=6))
def test_replies_in_any_pieces_are_read_as_hiredis_reads_them(replies, cuts):
    theirs = hiredis.Reader(replyError=ReplyError, notEnoughData=NOTHING)
    sent = b"".join(replies)
    found = read(Reader(ReplyError), sent, cuts)
    assert found == read(theirs, sent, cuts)
    assert len(found) == len(replies)


@given(st.lists(st.one_of(st.binary(), LINE, INTEGERS), min_size=1))
def test_commands_are_sent_as_hiredis_sends_them(command):
    assert pack(command) == hiredis.pack_command(tuple(command))


@pytest.mark.parametrize("sent", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$x\r\n", b"$2\r\nabcd\r\n", b"\r\n"])
def test_what_is_no_reply_is_said(sent):
    reader = Reader(ReplyError)
    reader.feed(bytearray(sent), 0, len(sent))
    with pytest.raises(ProtocolError):
        reader.gets()
