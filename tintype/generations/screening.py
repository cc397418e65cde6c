"""The words of a request, looked at before anything is kept; and who was refused too often to be heard at all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tintype import safety
from tintype.accounts.actors import Actor
from tintype.db import session as db
from tintype.db.session import WriteSession
from tintype.generations.lineage import Lineage
from tintype.safety import Facts, Stage
from tintype.verdicts import operations as verdicts


@dataclass(frozen=True, kw_only=True)
class Words:
    """A text that a model would get, where it stands in the request, and what is to be avoided beside it."""

    field: str
    text: str
    negative: str = ""

    @property
    def content(self) -> bytes:
        """What the hash of a verdict is taken of."""
        return f"{self.text}\0{self.negative}".encode()


def words_of(parameters: Mapping[str, Any]) -> list[Words]:
    """Every text in resolved parameters that a model would get: the styled prompt, and all inside its own options."""
    drawn = parameters["drawn"]
    prompt = Words(field="prompt", text=drawn["prompt"], negative=drawn["negative_prompt"])
    return [prompt, *(Words(field="options", text=text) for text in _texts(parameters["options"]))]


async def let_through(session: WriteSession, actor: Actor, known: Lineage, parameters: Mapping[str, Any]) -> None:
    """Look at the words a model would get, styles and options included, beside what is known of the pictures.

    A refusal is on record even though the caller's transaction is rolled back; the words are not.

    Raises:
        verdicts.PausedError: the actor was refused too often of late.
        safety.BlockedError: the words ask for what is not made here.
    """
    await verdicts.check_not_paused(session, actor)
    facts = known.facts(Stage.PROMPT)
    for words in words_of(parameters):
        await _look_at(session, actor, words, facts)


async def _look_at(session: WriteSession, actor: Actor, words: Words, facts: Facts) -> None:
    try:
        verdict = safety.screen_text(words.text, facts, negative=words.negative, field=words.field)
    except safety.BlockedError as blocked:
        refused = verdicts.judged(blocked.verdict, words.content)
        db.note_on_rollback(session, lambda later: verdicts.record(later, actor.id, [refused]))
        raise
    if any(verdict.scores.values()):
        await verdicts.record(session, actor.id, [verdicts.judged(verdict, words.content)])


def _texts(value: object) -> Iterator[str]:
    """Every text inside a JSON value, names of fields too."""
    match value:
        case str():
            yield value
        case dict():
            for name, item in cast("dict[str, object]", value).items():
                yield name
                yield from _texts(item)
        case list():
            for item in cast("list[object]", value):
                yield from _texts(item)
        case _:
            return
