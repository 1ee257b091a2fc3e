"""A store's URL: what it says works, or is refused with the reason and without a password."""

from __future__ import annotations

import pytest

from resilience import CircuitBreaker, ConfigurationError
from resilience.stores.address import MAX_CONNECTIONS, AddressError, parse


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "shown"),
    [
        ("redis://", "redis", [("localhost", 6379)], ""),
        ("REDIS://host", "redis", [("host", 6379)], "host"),
        ("rediss://u:p@host:1/2", "redis", [("host", 1)], "host:1/2"),
        ("redis://[::1]", "redis", [("::1", 6379)], "[::1]"),
        ("redis://:secret@[fe80::1%25eth0]:1/0", "redis", [("fe80::1%eth0", 1)], "[fe80::1%25eth0]:1/0"),
        ("cluster://[::1]:1,[::2]:2", "cluster", [("::1", 1), ("::2", 2)], "[::1]:1,[::2]:2"),
        ("sentinel://u:secret@[::1]:1,h:2/m/3", "sentinel", [("::1", 1), ("h", 2)], "[::1]:1,h:2/m/3"),
        ("redis+sentinel://h:1/m", "sentinel", [("h", 1)], "h:1/m"),
    ],
)
def test_where_it_points(url, kind, hosts, shown):
    address = parse(url)
    assert (address.kind, list(address.hosts), address.shown) == (kind, hosts, shown)


def test_what_it_says_besides():
    address = parse("redis://us%65r:p%40ss@host/7?timeout=0.5&max_connections=5&wait_replicas=2")
    assert (address.username, address.password, address.database) == ("user", "p@ss", 7)
    assert (address.seconds, address.most, address.replicas, address.tls) == (0.5, 5, 2, None)
    plain = parse("sentinel://h:1/m/3")
    assert (plain.seconds, plain.most, plain.replicas) == (None, MAX_CONNECTIONS, 0)
    assert (plain.master, plain.database) == ("m", 3)
    assert parse("redis://h?db=4").database == 4
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:secret@h/abc", "'abc' is no number"),
        ("redis://:secret@h/1/2", "'1/2' is no number"),
        ("redis://:secret@h?decode_responses=true", "'decode_responses' is unknown"),
        ("redis://:secret@h?health_check_interval=3", "'health_check_interval' is unknown"),
        ("redis://:secret@h?socket_timeout=1", "'socket_timeout' is unknown"),
        ("cluster://:secret@h:1?protocol=3", "'protocol' is unknown"),
        ("sentinel://:secret@h:1/m?nonsense=1", "'nonsense' is unknown"),
        ("redis://:secret@h?timeout=soon", "timeout is seconds"),
        ("redis://:secret@h?timeout=nan", "timeout is seconds"),
        ("redis://:secret@h?timeout=0", "timeout is seconds"),
        ("redis://:secret@h?max_connections=0", "max_connections is connections"),
        ("redis://:secret@h?max_connections=2.5", "max_connections is connections"),
        ("redis://:secret@h?wait_replicas=-1", "wait_replicas is replicas"),
        ("redis://:secret@h?ssl_ca_certs=x", "says how to use TLS"),
        ("rediss://:secret@h?ssl_cert_reqs=perhaps", "ssl_cert_reqs is one of"),
        ("redis://:secret@::1:6379", "in brackets"),
        ("redis://:secret@h:0", "the port 0 is none"),
        ("redis://:secret@h:99999", "the port 99999 is none"),
        ("redis://:secret@h:port", "host:port"),
        ("redis://:sec/ret@h", "percent-encoded"),
        ("redis://:sec?ret@h", "percent-encoded"),
        ("redis://:sec#ret@h", "percent-encoded"),
        ("cluster://:secret@h", "host:port,host:port"),
        ("cluster://:secret@h:1/3", "no databases"),
        ("sentinel://:secret@h:1", "name of the master"),
    ],
)
def test_what_cannot_be_is_refused_by_name(url, told):
    with pytest.raises(AddressError, match=told):
        parse(url)
    with pytest.raises(ConfigurationError, match=told) as caught:
        CircuitBreaker("p", store=url)
    assert "sec" not in str(caught.value).replace("seconds", "")
    assert caught.value.__suppress_context__
