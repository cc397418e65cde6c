"""The worker's gate: no words reach a provider and no picture is stored before the detectors let them through."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tintype import safety
from tintype.catalog.operations import Model
from tintype.db import session as db
from tintype.db.session import Database
from tintype.generations import screening
from tintype.generations.claims import Claim
from tintype.generations.screening import Words
from tintype.providers.contract import Output
from tintype.safety import Detectors, Facts, Stage, Verdict
from tintype.verdicts import operations as verdicts
from tintype.verdicts.operations import Judged


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The detectors of this worker, and where their verdicts are written down."""

    database: Database
    detectors: Detectors

    async def let_words_through(self, claim: Claim, model: Model) -> list[Judged]:
        """Judge a request's words with the text detectors, where there are any; the API asked the word floor only.

        Returns the verdicts to record when the generation completes; a refusal is recorded here.

        Raises:
            safety.BlockedError: they ask for what is not made here.
            safety.SafetyUnavailableError: a detector cannot judge them right now.
        """
        facts = screening.facts_of(model, Stage.PROMPT)
        if not facts.needs_detector or not any(each.text_labels for each in self.detectors.ready.values()):
            return []
        return [await self._judge_words(claim, words, facts) for words in screening.words_of(claim.parameters)]

    async def _judge_words(self, claim: Claim, words: Words, facts: Facts) -> Judged:
        def judge() -> Verdict:
            return safety.screen_text(
                words.text, facts, negative=words.negative, field=words.field, detectors=self.detectors
            )

        return await self._judged(claim, judge, words.content)

    async def let_picture_through(self, claim: Claim, model: Model, output: Output) -> list[Judged]:
        """Judge a picture that was made; one that no detector needs to see passes at once.

        Returns the verdict to record when the generation completes; a refusal is recorded here.

        Raises:
            safety.BlockedError: it may not be made.
            safety.SafetyUnavailableError: no detector can judge it right now.
        """
        facts = screening.facts_of(model, Stage.OUTPUT)
        if not facts.needs_detector:
            return []

        def judge() -> Verdict:
            return safety.judge_image(output.pixels, facts, self.detectors)

        return [await self._judged(claim, judge, output.pixels.tobytes())]

    async def _judged(self, claim: Claim, judge: Callable[[], Verdict], content: bytes) -> Judged:
        try:
            return await asyncio.to_thread(lambda: verdicts.judged(judge(), content))
        except safety.BlockedError as blocked:
            refused = verdicts.judged(blocked.verdict, content)
            await db.persistently(
                self.database,
                lambda session: verdicts.record(session, claim.owner_id, [refused], generation_id=claim.id),
            )
            raise
