"""The words of a request, looked at before anything is kept; and who was refused too often to be heard at all."""

from collections.abc import Iterator
from typing import Any, cast

from tintype import safety
from tintype.accounts.actors import Actor
from tintype.catalog.operations import Model
from tintype.db import session as db
from tintype.db.session import WriteSession
from tintype.safety import Facts, Stage
from tintype.verdicts import operations as verdicts


async def let_through(session: WriteSession, actor: Actor, model: Model, parameters: dict[str, Any]) -> None:
    """Look at the words a model would get, styles and options included.

    A refusal is on record even though the caller's transaction is rolled back; the words are not.

    Raises:
        verdicts.PausedError: the actor was refused too often of late.
        safety.BlockedError: the words ask for what is not made here.
    """
    await verdicts.check_not_paused(session, actor)
    facts = Facts(
        stage=Stage.PROMPT,
        has_person_source=False,
        has_foreign_source=False,
        model_draws_people=model.can_draw_people,
    )
    drawn = parameters["drawn"]
    texts = [("prompt", drawn["prompt"], drawn["negative_prompt"])]
    texts += [("options", text, "") for text in _texts(parameters["options"])]
    for field, text, negative in texts:
        content = f"{text}\0{negative}".encode()
        try:
            verdict = safety.screen_text(text, facts, negative=negative, field=field)
        except safety.BlockedError as blocked:
            refused = verdicts.judged(blocked.verdict, content)
            db.note_on_rollback(session, lambda later: verdicts.record(later, actor.id, [refused]))  # noqa: B023  raised at once
            raise
        if any(verdict.scores.values()):
            await verdicts.record(session, actor.id, [verdicts.judged(verdict, content)])


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
