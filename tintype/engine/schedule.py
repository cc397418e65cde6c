"""Which work comes next. Decides with integers only; the runner executes with tensors and knows nothing of order."""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass
class Row:
    """One picture in work: `step` of `steps` model evaluations are done."""

    index: int
    seed: int
    steps: int
    step: int = 0

    @property
    def is_done(self) -> bool:
        """Whether only decoding is left."""
        return self.step >= self.steps


class Schedule:
    """The rows of one request, run one after the other: the next tick belongs to the first that is not done.

    Pictures whose index is in `finished` were made before and are left out.
    """

    def __init__(self, *, seeds: Sequence[int], steps: int, finished: Collection[int] = ()) -> None:
        rows = (Row(index=index, seed=seed, steps=steps) for index, seed in enumerate(seeds))
        self._rows = deque(row for row in rows if row.index not in finished)
        self.total = len(seeds) * steps
        self.done = len(finished) * steps

    def pick(self) -> Row | None:
        """The row the next tick runs, None when all are finished."""
        return self._rows[0] if self._rows else None

    def advance(self, row: Row) -> None:
        """Note that `row` has made one step."""
        row.step += 1
        self.done += 1
        if row.is_done:
            self._rows.remove(row)
