"""A request on its way through one server: a prompt for each of its pictures, whose ids all follow from one token."""

import uuid
from dataclasses import dataclass
from typing import Self

from tintype.comfy.runs import Ticket


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is sent to `server` for one request: `runs` prompts."""

    id: uuid.UUID
    server: str
    runs: int

    @classmethod
    def new(cls, server: str, *, runs: int) -> Self:
        """A job nobody has sent yet."""
        return cls(id=uuid.uuid4(), server=server, runs=runs)

    @property
    def token(self) -> str:
        """The job as one text, for a `Checkpoint`: stored before anything is sent, it finds every prompt again."""
        return f"{self.id} {self.runs} {self.server}"

    @classmethod
    def parse(cls, token: str) -> Self:
        """The job of a token.

        Raises:
            ValueError: it is none.
        """
        job_id, runs, server = token.split(" ", 2)
        return cls(id=uuid.UUID(job_id), server=server, runs=int(runs))

    def tickets(self) -> list[Ticket]:
        """The prompts, by run."""
        return [self._ticket(run) for run in range(self.runs)]

    def _ticket(self, run: int) -> Ticket:
        return Ticket(
            server=self.server,
            prompt_id=str(uuid.uuid5(self.id, f"prompt {run}")),
            client_id=uuid.uuid5(self.id, f"client {run}").hex,
        )

    def prefix(self, request_id: str, run: int) -> str:
        """How the names of the files of a run begin.

        No other job's begin so: a server that has drawn the same before would else give an old file's name.
        """
        return f"{folder_of(request_id)}/{run}-{self.id.hex[:12]}"


def folder_of(request_id: str) -> str:
    """Where in the server's output folder the files of a request lie."""
    return f"tintype/{request_id}"
