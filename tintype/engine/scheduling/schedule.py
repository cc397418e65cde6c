"""Which pictures make the next evaluation together on one device.

The shortest go first, what was begun is completed, and equal sharing says how long that may make others wait:

- Parties, each with its first picture, stand in the order in which equal sharing among them would complete those. So
  each other party that is there holds a picture up by at most its own length, those that come later by that length
  once more between them; what its own party has before it, the batch that runs and loading come on top.
- The pictures of a party stand likewise, with lengths counted `patience` times, which favours the short ones.
- Loading a model counts as time to go, `swap_weight` times, so that a loaded model is kept for a turn.

The first picture leads; those that may share its evaluation join it as far as the measured costs say that it pays.
"""

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tintype.engine.scheduling import shortages
from tintype.engine.scheduling.costs import CostTable
from tintype.engine.scheduling.fairness import Account, Accounts
from tintype.engine.scheduling.residency import Place, Placement, Residency, Swap
from tintype.engine.scheduling.shortages import Shortages, TooLargeError
from tintype.engine.scheduling.values import Advance, Failure, Phase, Policy, Tick, Ticket


@dataclass(eq=False)
class Row:
    """A picture in work: `done` evaluations of its phase number `turn` are made.

    `account` is its party's, `since_s` each picture's share of it when this one came. `alone_lines` is what its
    evaluations take in each phase when nobody shares them, `promised_s` the moment it was chosen for: what it then
    takes longer in company does not count.
    """

    ticket: Ticket
    account: Account
    since_s: float
    alone_lines: tuple[int, ...]
    turn: int = 0
    done: int = 0
    promised_s: float = math.inf

    @property
    def phase(self) -> Phase:
        """The stretch it is in."""
        return self.ticket.phases[self.turn]

    def advance(self) -> bool:
        """Take down one evaluation; whether it was the last of its phase."""
        self.done += 1
        if self.done < self.phase.evaluations:
            return False
        self.turn, self.done = self.turn + 1, 0
        return True

    def is_mate(self, other: "Row") -> bool:
        """Whether the two may share an evaluation."""
        mine, its = self.phase, other.phase
        is_same_work = mine.key == its.key and mine.model == its.model and mine.shape == its.shape
        is_same_promise = self.ticket.mode == other.ticket.mode != "strict"
        is_same_batch = self.ticket.mode == "fast" or self.alone_lines[self.turn] == other.alone_lines[other.turn]
        return is_same_work and is_same_promise and is_same_batch


class TickOutdatedError(RuntimeError):
    """This tick is not the latest decision, or was reported before; report each tick once, before asking for more."""


class Schedule:
    """The pictures in work on one device. Used by one thread, which reports every tick before it asks for another."""

    def __init__(self, *, residency: Residency, costs: CostTable, policy: Policy) -> None:
        self.residency = residency
        self.costs = costs
        self._policy = policy
        self._rows: dict[int, Row] = {}
        self._accounts = Accounts()
        self._shortages = Shortages()
        self._number = 0
        self._open: Tick | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def admit(self, ticket: Ticket) -> None:
        """Take in a picture; the residency has learnt its models before.

        Raises:
            TooLargeError: it can never run on this device.
        """
        alone_lines = tuple(self._alone_lines(ticket, phase) for phase in ticket.phases)
        for phase, lines in zip(ticket.phases, alone_lines, strict=True):
            if not self._is_possible(phase, lines):
                raise TooLargeError(phase.model, self.residency.device_limit_bytes)
        account = self._accounts.join(ticket.on_behalf_of)
        self._rows[ticket.id] = Row(ticket=ticket, account=account, since_s=account.picture_s, alone_lines=alone_lines)

    def drop(self, ticket_id: int) -> None:
        """Take a picture out, also from the tick that is running; one that is not there is no error."""
        if (row := self._rows.pop(ticket_id, None)) is not None:
            self._accounts.leave(row.ticket.on_behalf_of)

    def cancel(self, request: str) -> tuple[int, ...]:
        """Take all pictures of a request out; which they were."""
        found = tuple(row.ticket.id for row in self._rows.values() if row.ticket.request == request)
        for ticket_id in found:
            self.drop(ticket_id)
        return found

    def next(self) -> Tick | None:
        """What to run now; None when nothing can be until more is admitted or a model is no longer in use."""
        ordered = self._order()
        if not ordered:
            return None
        rows, padded_lines = self._fill(ordered)
        phase = rows[0].phase
        swap = self.residency.plan(
            phase.model,
            activation_bytes=padded_lines * max(row.phase.activation_bytes for row in rows),
            keep={row.phase.model for row in self._rows.values()},
            brings={name for row in rows for name in row.phase.brings},
            is_alone=self._shortages.is_alone(phase.model),
        )
        self._number += 1
        self._open = Tick(
            number=self._number,
            model=phase.model,
            shape=phase.shape,
            tickets=tuple(row.ticket.id for row in rows),
            lines=sum(row.phase.lines for row in rows),
            padded_lines=padded_lines,
            swap=swap,
        )
        return self._open

    def swapped(self, swap: Swap, seconds: float) -> None:
        """The runner did what the swap says; it took `seconds`."""
        for shed in swap.shed:
            self.residency.shed(shed)
        for eviction in swap.evict:
            self.residency.evict(eviction)
        if swap.load is not None:
            self.residency.load(swap.load, swap.placement)
            self.costs.note_loading(swap.load, swap.origin, seconds)

    def ran(self, tick: Tick, seconds: float) -> Advance:
        """The tick is computed; it took `seconds`. Each picture is reported as finished once.

        Raises:
            TickOutdatedError: it is not the latest decision, or was reported before.
        """
        self._close(tick)
        self.costs.note(tick.model, tick.shape, tick.padded_lines, seconds)
        self.residency.touch(tick.model)
        self._shortages.note_success(tick.model)
        rows = self._present(tick)
        shares: defaultdict[str, float] = defaultdict(float)
        for row in rows:
            shares[row.ticket.on_behalf_of] += seconds * row.phase.lines / tick.lines
        self._accounts.charge(shares)
        ended = [row for row in rows if row.advance()]
        finished = tuple(row.ticket.id for row in ended if row.turn == len(row.ticket.phases))
        for ticket_id in finished:
            self.drop(ticket_id)
        return Advance(finished=finished, turned=tuple(row.ticket.id for row in ended if row.ticket.id in self._rows))

    def load_failed(self, tick: Tick) -> tuple[Failure, ...]:
        """There was no memory for the tick's model, after its evictions; the pictures that fail for it.

        None the first time: the next tick evicts everything else and tries again. Then all that wait for the model.
        """
        self.load_broke(tick)
        if self._shortages.note_loading(tick.model):
            return ()
        waiting = [row.ticket.id for row in self._rows.values() if row.phase.model == tick.model]
        return self._fail(waiting, shortages.LOADING.format(model=tick.model), retryable=True)

    def load_broke(self, tick: Tick) -> None:
        """The tick's model could not be loaded, after its evictions, for a reason that is not memory."""
        self._close(tick)
        for shed in tick.swap.shed if tick.swap else ():
            self.residency.shed(shed)
        for eviction in tick.swap.evict if tick.swap else ():
            self.residency.evict(eviction)
        self.residency.release(tick.model)

    def batch_failed(self, tick: Tick) -> tuple[Failure, ...]:
        """There was no memory for the tick's evaluation, which counts as not made; the pictures that fail for it.

        None as long as there is something left to try: everything else evicted, half the batch, each picture alone.
        """
        self._close(tick)
        rows = self._present(tick)
        if not rows:
            return ()
        is_fixed = rows[0].ticket.mode == "bucket"
        least_lines = min(row.phase.lines for row in rows)
        if self._shortages.note_batch(tick, least_lines=least_lines, is_fixed=is_fixed):
            return ()
        return self._fail(tick.tickets, shortages.FILLING if is_fixed else shortages.COMPUTING)

    def decode_failed(self, ticket_id: int, model: str) -> Swap | Failure:
        """There was no memory to decode a picture: what to evict before one more try, or that there is nothing left."""
        swap = self.residency.plan(model, activation_bytes=0, is_alone=True)
        return swap or Failure(ticket=ticket_id, detail=shortages.DECODING)

    def abandon(self, tick: Tick) -> None:
        """The tick was not computed, for a reason that is not memory; what cannot go on is to be dropped."""
        self._close(tick)

    def _close(self, tick: Tick) -> None:
        if self._open is None or self._open.number != tick.number:
            raise TickOutdatedError(TickOutdatedError.__doc__)
        self._open = None

    def _present(self, tick: Tick) -> list[Row]:
        return [self._rows[ticket_id] for ticket_id in tick.tickets if ticket_id in self._rows]

    def _fail(self, ticket_ids: Iterable[int], detail: str, *, retryable: bool = False) -> tuple[Failure, ...]:
        present = [ticket_id for ticket_id in ticket_ids if ticket_id in self._rows]
        for ticket_id in present:
            self.drop(ticket_id)
        return tuple(Failure(ticket=ticket_id, detail=detail, retryable=retryable) for ticket_id in present)

    def _order(self) -> list[Row]:
        """The picture that leads, and after it those that may share its evaluation, the first first; empty if none can.

        Each is placed at the moment, in virtual time, when it would be done.
        """
        heads: dict[str, tuple[float, Row]] = {}
        moments: dict[Row, float] = {}
        loading_s = {model: self._loading_s(model) for model in {row.phase.model for row in self._rows.values()}}
        blocked = self._blocked() if self.residency.is_pinned else ()
        for row in self._rows.values():
            if row in blocked:
                continue
            party, wait_s, remaining_s = row.ticket.on_behalf_of, loading_s[row.phase.model], self._remaining_s(row)
            moments[row] = min(row.promised_s, row.account.had_s + remaining_s + wait_s / self._accounts.present)
            place = row.since_s + self._policy.patience * remaining_s + wait_s / row.account.pictures
            if party not in heads or place < heads[party][0]:
                heads[party] = place, row
        if not heads:
            return []
        lead = min((row for _, row in heads.values()), key=moments.__getitem__)
        if self.costs.is_known(lead.phase.model, lead.phase.shape, lead.alone_lines[lead.turn]):
            lead.promised_s = moments[lead]
        mates = (row for row in moments if row is not lead and lead.is_mate(row))
        return [lead, *sorted(mates, key=moments.__getitem__)]

    def _fill(self, ordered: list[Row]) -> tuple[list[Row], int]:
        """How many of them share the evaluation, and how many lines the batch is filled up to."""
        lead, phase = ordered[0], ordered[0].phase
        sums = list(itertools.accumulate(row.phase.lines for row in ordered))
        if lead.ticket.mode != "fast":
            lines = lead.alone_lines[lead.turn]
            return ordered[: bisect.bisect_right(sums, lines)], lines
        most = self._most_lines(ordered)
        count = self.costs.count_worthwhile(phase.model, phase.shape, sums, most)
        padded = self.costs.size(sums[count - 1]) if self._policy.is_padding else 0
        return ordered[:count], padded if sums[count - 1] <= padded <= most else sums[count - 1]

    def _most_lines(self, ordered: list[Row]) -> int:
        """As many as have memory, with no model evicted that somebody waits for, and were not too many before."""
        phase = ordered[0].phase
        keep = {row.phase.model for row in self._rows.values()}
        room = self.residency.room_bytes(phase.model, keep, phase.lines * phase.activation_bytes)
        fitting = room // max(1, *(row.phase.activation_bytes for row in ordered))
        return min(fitting, self._shortages.most_lines(phase.model, phase.shape) or fitting)

    def _remaining_s(self, row: Row) -> float:
        """The predicted seconds until the picture is done, alone."""
        phase, lines = row.phase, row.alone_lines
        total = (phase.evaluations - row.done) * self.costs.seconds(phase.model, phase.shape, lines[row.turn])
        for turn in range(row.turn + 1, len(lines)):
            phase = row.ticket.phases[turn]
            total += phase.evaluations * self.costs.seconds(phase.model, phase.shape, lines[turn])
        return total

    def _loading_s(self, model: str) -> float:
        """What loading the model counts as, in seconds remaining."""
        origin = self.residency.place(model)
        if origin is Place.DEVICE:
            return 0.0
        seconds = self.costs.loading_s(model, origin, self.residency.weights_bytes(model))
        return self._policy.swap_weight * seconds

    def _blocked(self) -> set[Row]:
        """The pictures that have no memory as long as models are in use that would have to leave for them."""
        needs: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
        for row in self._rows.values():
            needs[row.phase.model, row.alone_lines[row.turn] * row.phase.activation_bytes].append(row)
        return {row for need, rows in needs.items() if not self.residency.can_make_room(*need) for row in rows}

    def _alone_lines(self, ticket: Ticket, phase: Phase) -> int:
        """The lines of an evaluation nobody shares; the fixed batch depends on the device, never on the load."""
        if ticket.mode != "bucket":
            return phase.lines
        sizes = [size for size in self._policy.sizes if phase.lines <= size <= self._policy.bucket_lines]
        fitting = [size for size in sizes if self._is_possible(phase, size)]
        return max(fitting, default=phase.lines)

    def _is_possible(self, phase: Phase, lines: int) -> bool:
        return self.residency.choose(phase.model, lines * phase.activation_bytes) is not Placement.REFUSED
