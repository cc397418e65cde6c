"""Which addresses on the network a stranger may send us to: public ones, and no others."""

import ipaddress

# Python's own answer is not enough: 3.11.7 calls 192.0.0.192 (where Oracle's cloud keeps credentials), 64:ff9b::/96,
# 2002::/16 and multicast global. 168.63.129.16 is a public address behind which Azure keeps its machines' secrets.
REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        # All of IPv6 but 2000::/3, where the open internet lies. This holds loopback, private, link- and site-local,
        # multicast, and IPv4 as compatible, mapped or translated (64:ff9b::/96). Then what is special inside 2000::/3:
        # Teredo and its neighbours, documentation, 6to4, AS112.
        *("::/3", "4000::/2", "8000::/1"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)


def is_public(address: str) -> bool:
    """Whether `address` (an IP address in text) is somewhere on the open internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    scope = found.scope_id if isinstance(found, ipaddress.IPv6Address) else None
    return found.is_global and scope is None and not any(found in network for network in REFUSED)
