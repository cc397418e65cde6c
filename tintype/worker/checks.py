"""The worker's gate: no words reach a provider and no picture is stored before the detectors let them through."""

import asyncio
from dataclasses import dataclass

from tintype import safety
from tintype.catalog.operations import Model
from tintype.db import session as db
from tintype.db.session import Database
from tintype.generations.claims import Claim
from tintype.providers.contract import Output
from tintype.safety import Detectors, Facts, Stage
from tintype.verdicts import operations as verdicts


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The detectors of this worker, and where their verdicts are written down."""

    database: Database
    detectors: Detectors

    async def let_words_through(self, claim: Claim, model: Model) -> None:
        """Judge a prompt with the text detectors, where there are any; the API asked the word floor only.

        Raises:
            safety.BlockedError: it asks for what is not made here; the verdict is on record.
            safety.SafetyUnavailableError: a detector cannot judge it right now.
        """
        facts = _facts(Stage.PROMPT, model)
        if not facts.needs_detector or not any(each.text_labels for each in self.detectors.ready.values()):
            return
        drawn = claim.parameters["drawn"]
        content = f"{drawn['prompt']}\0{drawn['negative_prompt']}".encode()
        try:
            verdict = await asyncio.to_thread(
                safety.screen_text,
                drawn["prompt"],
                facts,
                negative=drawn["negative_prompt"],
                detectors=self.detectors,
            )
        except safety.BlockedError as blocked:
            await self._record(claim, blocked.verdict, content)
            raise
        await self._record(claim, verdict, content)

    async def let_picture_through(self, claim: Claim, model: Model, output: Output) -> None:
        """Judge a picture that was made; one that no detector needs to see passes at once.

        Raises:
            safety.BlockedError: it may not be made; the verdict is on record.
            safety.SafetyUnavailableError: no detector can judge it right now.
        """
        facts = _facts(Stage.OUTPUT, model)
        if not facts.needs_detector:
            return
        try:
            verdict = await asyncio.to_thread(safety.judge_image, output.pixels, facts, self.detectors)
        except safety.BlockedError as blocked:
            await self._record(claim, blocked.verdict, output.pixels.tobytes())
            raise
        await self._record(claim, verdict, output.pixels.tobytes())

    async def _record(self, claim: Claim, verdict: safety.Verdict, content: bytes) -> None:
        judged = await asyncio.to_thread(verdicts.judged, verdict, content)
        await db.persistently(
            self.database,
            lambda session: verdicts.record(session, claim.owner_id, [judged], generation_id=claim.id),
        )


def _facts(stage: Stage, model: Model) -> Facts:
    return Facts(
        stage=stage, has_person_source=False, has_foreign_source=False, model_draws_people=model.can_draw_people
    )
