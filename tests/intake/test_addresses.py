"""Addresses: the open internet and nothing else, whatever they are dressed as."""

import ipaddress
import random

import pytest

from tintype.intake import addresses

INSIDE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "192.0.0.192", "100.100.100.200", "168.63.129.16", "198.18.0.1", "224.0.0.1", "239.1.1.1"),
    *("255.255.255.255", "240.0.0.1", "192.0.2.1", "192.88.99.1", "203.0.113.9"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1", "2001:0:7f00:1::"),
    *("2001:db8::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1"),
    *("100::1", "5f00::1", "3fff::1", "2606:4700::1%eth0"),
    *("", "localhost", "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "1.1.1.1 ", "1.1.1.1/32", "[::1]"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_what_lies_inside_or_is_no_address_is_not_public(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "2606:4700:4700::1111", "2a00::1"]
)
def test_what_lies_on_the_open_internet_is_public(address):
    assert addresses.is_public(address)


def test_nothing_that_python_calls_special_is_public():
    dice = random.Random(3)
    for _ in range(20_000):
        for found in (ipaddress.IPv4Address(dice.getrandbits(32)), ipaddress.IPv6Address(dice.getrandbits(128))):
            special = found.is_multicast or found.is_private or found.is_reserved or found.is_link_local
            assert not (special and addresses.is_public(str(found))), found
