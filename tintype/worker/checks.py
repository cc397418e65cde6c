"""The worker's gate: nothing reaches a provider, is shown or is stored before the detectors let it through."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tintype import safety
from tintype.db import session as db
from tintype.db.session import Database
from tintype.generations import screening
from tintype.generations.claims import Claim
from tintype.generations.lineage import Lineage
from tintype.generations.screening import Words
from tintype.media.tables import Media
from tintype.providers.contract import Frames
from tintype.safety import Detectors, Facts, Stage, Verdict, policy
from tintype.safety.contract import Pixels
from tintype.verdicts import operations as verdicts
from tintype.verdicts.operations import Judged


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A picture that may pass: whether it shows a person (None where nobody could tell), and what goes on record."""

    shows_person: bool | None
    judged: list[Judged] = field(default_factory=list[Judged])


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The detectors of this worker, and where their verdicts are written down."""

    database: Database
    detectors: Detectors

    async def let_words_through(self, claim: Claim, known: Lineage) -> list[Judged]:
        """Judge a request's words with the text detectors, where there are any; the API asked the word floor only.

        Returns the verdicts to record when the generation completes; a refusal is recorded here.

        Raises:
            safety.BlockedError: they ask for what is not made here.
            safety.SafetyUnavailableError: a detector cannot judge them right now.
        """
        facts = known.facts(Stage.PROMPT)
        if not facts.needs_detector or not any(each.text_labels for each in self.detectors.ready.values()):
            return []
        return [await self._judge_words(claim, words, facts) for words in screening.words_of(claim.parameters)]

    async def _judge_words(self, claim: Claim, words: Words, facts: Facts) -> Judged:
        def judge() -> Verdict:
            return safety.screen_text(
                words.text, facts, negative=words.negative, field=words.field, detectors=self.detectors
            )

        return (await self._judged(claim, judge, lambda: words.content))[1]

    async def let_input_through(self, claim: Claim, row: Media, pixels: Pixels, *, field: str) -> Seen:
        """Judge a picture that comes in, by what is known of it alone; one that the built-in model drew passes.

        Raises:
            safety.BlockedError, safety.SafetyUnavailableError: as for an output.
        """
        facts = Facts(
            stage=Stage.INPUT,
            has_person_source=row.person_in_lineage,
            has_foreign_source=row.is_foreign,
            model_draws_people=False,
        )
        return await self._look_at(claim, pixels, facts, field=field)

    async def let_preview_through(self, claim: Claim, known: Lineage, pixels: Pixels) -> None:
        """Judge what a picture looks like so far; only a refusal goes on record, there are too many of the others.

        Raises:
            safety.BlockedError, safety.SafetyUnavailableError: as for an output.
        """
        await self._look_at(claim, pixels, known.facts(Stage.PREVIEW))

    async def let_picture_through(self, claim: Claim, known: Lineage, pixels: Pixels) -> Seen:
        """Judge a picture that was made; one that no detector needs to see passes at once.

        Its verdict is to be recorded when the generation completes; a refusal is recorded here.

        Raises:
            safety.BlockedError: it may not be made.
            safety.SafetyUnavailableError: no detector can judge it right now.
        """
        return await self._look_at(claim, pixels, known.facts(Stage.OUTPUT))

    async def let_frames_through(self, claim: Claim, known: Lineage, video: Frames) -> Seen:
        """Judge a video that was made, by the frames that `policy` names; it shows a person where one of them does.

        Raises:
            safety.BlockedError, safety.SafetyUnavailableError: as for an output; one frame is enough.
        """
        facts = known.facts(Stage.FRAME)
        if not facts.needs_detector:
            return Seen(shows_person=False)
        places = policy.frames_to_judge(len(video.pixels), video.fps)
        seen = [await self._look_at(claim, np.asarray(video.pixels[place]), facts) for place in places]
        found = {each.shows_person for each in seen}
        shows_person = True if True in found else None if None in found else False
        return Seen(shows_person=shows_person, judged=[one for each in seen for one in each.judged])

    async def _look_at(self, claim: Claim, pixels: Pixels, facts: Facts, *, field: str = "image") -> Seen:
        if not facts.needs_detector:
            return Seen(shows_person=False)

        def judge() -> Verdict:
            return safety.judge_image(pixels, facts, self.detectors, field=field)

        verdict, judged = await self._judged(claim, judge, pixels.tobytes)
        return Seen(shows_person=verdict.found_person, judged=[judged])

    async def _judged(
        self, claim: Claim, judge: Callable[[], Verdict], content: Callable[[], bytes]
    ) -> tuple[Verdict, Judged]:
        def work() -> tuple[Verdict, Judged]:
            verdict = judge()
            return verdict, verdicts.judged(verdict, content())

        try:
            return await asyncio.to_thread(work)
        except safety.BlockedError as blocked:
            refused_verdict = blocked.verdict
            refused = await asyncio.to_thread(lambda: verdicts.judged(refused_verdict, content()))
            await db.persistently(
                self.database,
                lambda session: verdicts.record(session, claim.owner_id, [refused], generation_id=claim.id),
            )
            raise
