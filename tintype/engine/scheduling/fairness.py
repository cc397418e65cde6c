"""Who has had how much of the device: fair queueing by seconds, after Parekh and Gallager's virtual time.

Each party owns an equal share while it has work, and within it each of its pictures. Virtual time is what one would
have had by now with exactly its share; a party that comes back after a pause starts there, so a pause saves nothing up.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class Account:
    """What a party has had, in virtual seconds of the device, and what each of its `pictures` would have by now."""

    had_s: float = 0.0
    picture_s: float = 0.0
    pictures: int = 0


class Accounts:
    """Seconds of the device by party; `present` counts those that have pictures here."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self.present = 0
        self._virtual_s = 0.0

    def join(self, party: str) -> Account:
        """The account of a party that has one more picture now."""
        account = self._accounts.setdefault(party, Account())
        if not account.pictures:
            self.present += 1
            account.had_s = max(account.had_s, self._virtual_s)
        account.pictures += 1
        return account

    def leave(self, party: str) -> None:
        """One picture of this party less; what it had beyond its share stays on record until time has passed it."""
        account = self._accounts[party]
        account.pictures -= 1
        if not account.pictures:
            self.present -= 1
            self._forget_the_settled()

    def charge(self, shares: Mapping[str, float]) -> None:
        """Book seconds to parties that have pictures here."""
        for party, seconds in shares.items():
            account = self._accounts[party]
            account.had_s += seconds
            account.picture_s += seconds / account.pictures
        self._virtual_s += sum(shares.values()) / max(self.present, 1)

    def _forget_the_settled(self) -> None:
        settled = [
            party
            for party, account in self._accounts.items()
            if not account.pictures and account.had_s <= self._virtual_s
        ]
        for party in settled:
            del self._accounts[party]
