"""What the C2PA library works with: made once per process and set of credentials, and kept off the network.

A picture can name an address where its manifest is said to lie, and by default the library would go there. Ours goes
nowhere but to the time stamp authority, when signing. A forked child cannot use what its parent made.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tintype.media.provenance.credentials import USAGES, Credentials

if TYPE_CHECKING:
    import c2pa


def signing(credentials: Credentials) -> "c2pa.Context":
    """This process's context that signs with these credentials; any thread may use it."""
    return _signing(credentials, os.getpid())


def reading(roots: str) -> "c2pa.Context":
    """This process's context that reads, and trusts `roots` (PEM); any thread may use it."""
    return _reading(roots, os.getpid())


@lru_cache(maxsize=4)
def _signing(credentials: Credentials, process_id: int) -> "c2pa.Context":
    import c2pa

    hosts = [urlsplit(credentials.tsa_url).netloc] if credentials.tsa_url else []
    info = c2pa.C2paSignerInfo(
        credentials.algorithm, credentials.chain_pem.encode(), credentials.key_pem.encode(), credentials.tsa_url
    )
    return c2pa.Context.from_dict(
        _settings(roots=credentials.roots_pem, hosts=hosts), signer=c2pa.Signer.from_info(info)
    )


@lru_cache(maxsize=4)
def _reading(roots: str, process_id: int) -> "c2pa.Context":
    import c2pa

    return c2pa.Context.from_dict(_settings(roots=roots))


def _settings(*, roots: str = "", hosts: Sequence[str] = ()) -> dict[str, Any]:
    trust = {"trust_config": "\n".join(usage.dotted_string for usage in USAGES) + "\n"}
    return {
        "version": 1,
        "core": {"allowed_network_hosts": list(hosts)},
        "verify": {
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
            "verify_after_sign": False,  # `gate.open` tries the credentials once, which is what could be wrong
            "verify_trust": True,
        },
        "builder": {"thumbnail": {"enabled": False}},
        "trust": trust | ({"user_anchors": roots} if roots else {}),
    }
