"""Who has had how much of the device: fair queueing by seconds, after Parekh and Gallager's virtual time.

Each party owns an equal share while it has work. Virtual time is what a party would have had by now with exactly its
share; a party that comes back after a pause starts there, so a pause saves nothing up.
"""

from collections import Counter
from collections.abc import Mapping


class Accounts:
    """Seconds of the device by party."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        self._had_s: dict[str, float] = {}
        self._pictures = Counter[str]()

    def join(self, party: str) -> None:
        """One more picture of this party is there."""
        if not self._pictures[party]:
            self._forget_the_settled()
            self._had_s[party] = max(self._had_s.get(party, 0.0), self._virtual_s)
        self._pictures[party] += 1

    def leave(self, party: str) -> None:
        """One picture of this party less; what it had beyond its share stays on record until time has passed it."""
        self._pictures[party] -= 1
        if not self._pictures[party]:
            del self._pictures[party]

    def had_s(self, party: str) -> float:
        """What the party has had, in virtual seconds."""
        return self._had_s[party]

    def charge(self, shares: Mapping[str, float]) -> None:
        """Book seconds to those who had them; call it while they still have pictures here."""
        for party, seconds in shares.items():
            self._had_s[party] = self._had_s.get(party, self._virtual_s) + seconds
        self._virtual_s += sum(shares.values()) / max(len(self._pictures), 1)

    def _forget_the_settled(self) -> None:
        self._had_s = {
            party: had_s for party, had_s in self._had_s.items() if party in self._pictures or had_s > self._virtual_s
        }
