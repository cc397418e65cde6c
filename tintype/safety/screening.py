"""The two questions the rest asks: may this text be worked on, and may this picture be used or shown."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from tintype import logs
from tintype.safety import policy, refusals
from tintype.safety.contract import Detector, Label, Pixels, Scores
from tintype.safety.policy import Facts, Stage, Verdict
from tintype.safety.refusals import SafetyUnavailableError
from tintype.safety.registry import Detectors
from tintype.safety.text.floor import WordFloor

FLOOR = WordFloor()
FLOOR_NAME = "words"
NO_DETECTORS = Detectors()
MEND = "whoever runs this server sees why with `tintype doctor`"

log = logs.get("safety")


def screen_text(
    text: str, facts: Facts, *, negative: str = "", field: str = "prompt", detectors: Detectors = NO_DETECTORS
) -> Verdict:
    """Let a text through, or refuse it; `negative` is what it is to avoid, `field` where it stands in the request.

    Without `detectors` only words and patterns are looked at, in about a millisecond and without a model: what the
    API does when a request arrives. A worker gives the detectors it has loaded.

    Raises:
        BlockedError: it asks for what is not made here.
        SafetyUnavailableError: a detector that is needed is broken or failed.
    """
    results = {FLOOR_NAME: FLOOR.score_text(text)}
    highest = [results[FLOOR_NAME], FLOOR.score_negative(negative)]
    if facts.needs_detector:
        for name, detector in _all_ready(detectors):
            if detector.text_labels:
                results[name] = _asked(name, detector.text_labels, lambda d=detector: d.score_text(text))
                highest.append(results[name])
    verdict = policy.decide(policy.highest(highest), facts, detectors=tuple(results))
    if verdict.reason is not None:
        raise refusals.of_text(verdict, verdict.reason, field=field)
    return verdict


def judge_image(pixels: Pixels, facts: Facts, detectors: Detectors, *, field: str = "image") -> Verdict:
    """Let a picture through, or refuse it; takes as long as the detectors do, so not on an event loop.

    Where nothing in the lineage can show a person, no detector is asked.

    Raises:
        BlockedError: it shows what is not made here.
        SafetyUnavailableError: no detector can judge pictures, or one is broken or failed.
        TypeError: not uint8 RGB of shape [height, width, 3].
    """
    _require_picture(pixels)
    if not facts.needs_detector:
        return Verdict(stage=facts.stage, reason=None, scores={Label.PERSON: 0.0})
    able = {name: detector for name, detector in _all_ready(detectors) if detector.image_labels}
    if not any(Label.SEXUAL in detector.image_labels for detector in able.values()):
        raise SafetyUnavailableError("no detector that can judge pictures is installed; install one and try again")
    results = {
        name: _asked(name, detector.image_labels, lambda d=detector: d.score_image(pixels))
        for name, detector in able.items()
    }
    verdict = policy.decide(policy.highest(results.values()), facts, detectors=tuple(results))
    if facts.stage is Stage.INPUT and verdict.shows_person:  # it is a person's picture itself
        facts = replace(facts, has_person_source=True)
        verdict = policy.decide(verdict.scores, facts, detectors=verdict.detectors)
    if verdict.reason is not None:
        raise refusals.of_picture(verdict, verdict.reason, field=field)
    return verdict


def _all_ready(detectors: Detectors) -> Iterator[tuple[str, Detector]]:
    for name in detectors.broken:
        raise SafetyUnavailableError(f"the safety detector {name!r} does not work; {MEND}")
    yield from detectors.ready.items()


def _asked(name: str, promised: frozenset[Label], ask: Callable[[], Scores]) -> Scores:
    """The scores of one detector, complete and well formed, or the fact that it cannot judge."""
    try:
        scores = policy.highest([ask()])
    except Exception as error:  # noqa: BLE001  a plug-in may raise anything, and then nothing is let through
        # Neither logged nor chained in full: its message may repeat what the detector was shown.
        log.error("detector failed", detector=name, error=type(error).__name__, where=_where(error))
        raise SafetyUnavailableError(f"the safety detector {name!r} failed; try again, or {MEND}") from None
    if missing := promised - scores.keys():
        log.error("detector left out labels", detector=name, missing=sorted(missing))
        raise SafetyUnavailableError(f"the safety detector {name!r} gave no answer; {MEND}")
    return scores


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""


def _require_picture(pixels: Pixels) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise TypeError(f"not uint8 of shape [height, width, 3]: {pixels.dtype} of shape {pixels.shape}")
