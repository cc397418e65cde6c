"""Names for links that a test's own server answers to: its folder first on PYTHONPATH puts a resolver into a process.

LINK_NAMES is a JSON object of addresses by name, LINK_PORT the server's port. The loopback counts as public here, and
nothing else does that does not elsewhere.
"""

import dataclasses
import json
import os
from collections.abc import Sequence

from tintype.intake import addresses, fetching
from tintype.intake.fetching import Fetched, Rules

names: dict[str, list[str]] = json.loads(os.environ["LINK_NAMES"])
fetch_truly = fetching.fetch_under


async def resolve(host: str, port: int) -> Sequence[str]:
    return names.get(host, [host])


async def fetch_under(url: str, rules: Rules) -> Fetched:
    return await fetch_truly(
        url,
        dataclasses.replace(
            rules,
            resolve=resolve,
            is_allowed=lambda address: address == "127.0.0.1" or addresses.is_public(address),
            ports=rules.ports | {int(os.environ["LINK_PORT"])},
        ),
    )


fetching.fetch_under = fetch_under
