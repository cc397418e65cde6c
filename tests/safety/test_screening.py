"""The two questions the rest asks, with stand-in detectors: what is refused, how it reads, and what fails closed."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tintype import errors, safety
from tintype.safety import Detectors, Facts, Label, Reason, Stage, policy, refusals
from tintype.safety.contract import Pixels, Scores

PIXELS = np.zeros((4, 6, 3), dtype=np.uint8)
DRAWN = {"has_person_source": False, "has_foreign_source": False, "model_draws_people": False}
PEOPLE = {**DRAWN, "model_draws_people": True}
OUTPUT = Facts(stage=Stage.OUTPUT, **PEOPLE)
PROMPT = Facts(stage=Stage.PROMPT, **PEOPLE)
SECRET = "somethingveryprivate"


class StandIn:
    """A detector that says what it was told to, and counts how often it was asked."""

    def __init__(
        self,
        image: Scores | None = None,
        text: Scores | None = None,
        fault: Exception | None = None,
        **promised: object,
    ) -> None:
        self.image, self.text, self.fault, self.asked = image or {}, text or {}, fault, 0
        self.image_labels = frozenset(self.image) | promised.get("promised", frozenset())  # pyright: ignore
        self.text_labels = frozenset(self.text)

    def _said(self, scores: Scores) -> Scores:
        self.asked += 1
        if self.fault:
            raise self.fault
        return scores

    def score_text(self, text: str) -> Scores:
        return self._said(self.text)

    def score_image(self, pixels: Pixels) -> Scores:
        return self._said(self.image)


def of(*detectors: StandIn, broken: Mapping[str, str] | None = None) -> Detectors:
    return Detectors(ready={f"d{index}": found for index, found in enumerate(detectors)}, broken=broken or {})


CALM = {Label.SEXUAL: 0.01, Label.SUGGESTIVE: 0.02}


def test_a_calm_picture_passes_and_the_verdict_says_who_looked():
    verdict = safety.judge_image(PIXELS, OUTPUT, of(StandIn(CALM), StandIn({Label.PERSON: 0.1})))
    assert not verdict.is_blocked
    assert not verdict.shows_person
    assert verdict.detectors == ("d0", "d1")
    assert verdict.scores == {**CALM, Label.PERSON: 0.1}


def test_one_detector_that_sees_it_is_enough():
    with pytest.raises(safety.BlockedError) as refused:
        safety.judge_image(PIXELS, OUTPUT, of(StandIn(CALM), StandIn({Label.SEXUAL: 0.9})))
    assert refused.value.verdict.reason is Reason.SEXUAL


@pytest.mark.parametrize(
    "detectors",
    [
        of(),
        of(StandIn({Label.PERSON: 0.0})),
        of(StandIn(text={Label.SEXUAL: 0.0})),
        of(StandIn(CALM), broken={"other": "ImportError: no"}),
        of(StandIn(CALM), StandIn(CALM, fault=RuntimeError(SECRET))),
        of(StandIn(CALM, promised=frozenset({Label.MINOR}))),
        of(StandIn({Label.SEXUAL: float("nan")})),
        of(StandIn({Label.SEXUAL: 1.5})),
        of(StandIn({Label.SEXUAL: 0.0, "lewd": 1.0})),  # pyright: ignore[reportArgumentType]
    ],
    ids=["none", "only people", "only texts", "broken", "raises", "incomplete", "not a number", "too high", "unknown"],
)
def test_a_picture_that_cannot_be_judged_is_not_let_through(detectors: Detectors, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(safety.SafetyUnavailableError) as refused:
        safety.judge_image(PIXELS, OUTPUT, detectors)
    error = refused.value
    assert (error.status, error.code, error.retryable) == (503, "safety_unavailable", True)
    assert isinstance(error, errors.UnavailableError)
    assert error.__cause__ is None
    assert SECRET not in error.detail + capsys.readouterr().err


def test_what_nothing_in_the_lineage_could_make_unsafe_needs_no_detector():
    eager = StandIn({Label.SEXUAL: 1.0})
    verdict = safety.judge_image(PIXELS, Facts(stage=Stage.OUTPUT, **DRAWN), of(eager, broken={"other": "no"}))
    assert not verdict.is_blocked
    assert not verdict.shows_person
    assert eager.asked == 0


@pytest.mark.parametrize("name", ["has_person_source", "has_foreign_source", "model_draws_people"])
def test_any_one_fact_is_enough_to_need_a_detector(name: str):
    with pytest.raises(safety.SafetyUnavailableError):
        safety.judge_image(PIXELS, Facts(stage=Stage.OUTPUT, **{**DRAWN, name: True}), of())


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_a_mistake_of_the_caller(pixels: Pixels):
    with pytest.raises(TypeError, match="uint8"):
        safety.judge_image(pixels, Facts(stage=Stage.OUTPUT, **DRAWN), of())


def test_a_text_detector_hears_what_the_words_do_not_say():
    subtle = StandIn(text={Label.SEXUAL: 0.8})
    assert not safety.screen_text("two friends at the seaside", PROMPT).is_blocked
    with pytest.raises(safety.BlockedError):
        safety.screen_text("two friends at the seaside", PROMPT, detectors=of(subtle))


def test_no_text_detector_can_overrule_the_words():
    with pytest.raises(safety.BlockedError):
        safety.screen_text("nude portrait", PROMPT, detectors=of(StandIn(text={Label.SEXUAL: 0.0})))


def test_a_text_detector_that_fails_lets_nothing_through():
    for detectors in (of(StandIn(text=CALM, fault=ValueError(SECRET))), of(broken={"other": "no"})):
        with pytest.raises(safety.SafetyUnavailableError):
            safety.screen_text("a house by the sea", PROMPT, detectors=detectors)


def test_a_refused_text_names_its_field_and_what_to_change_and_nothing_of_what_was_said():
    with pytest.raises(safety.BlockedError) as refused:
        safety.screen_text("nude portrait of zanzibarina", PROMPT, field="caption")
    error = refused.value
    assert (error.status, error.code, error.retryable) == (422, "content_blocked", False)
    assert error.fields[0].loc == ("body", "caption")
    assert error.detail.startswith("caption ")
    assert "describe" in error.detail
    assert "zanzibarina" not in repr(error) + str(error) + repr(error.fields)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("make", [refusals.of_text, refusals.of_picture])
def test_every_refusal_is_one_kind_sentence_without_a_score(
    stage: Stage, reason: Reason, make: Callable[..., Exception]
):
    verdict = policy.Verdict(stage=stage, reason=reason, scores={Label.SEXUAL: 0.731})
    error = make(verdict, reason, field="prompt")
    assert isinstance(error, safety.BlockedError)
    assert not any(character.isdigit() for character in error.detail)
    assert any(word in error.detail for word in ("describe", "choose", "leave", "ask for"))
    assert len(error.detail) < 200


PLUGIN = {
    "good": "class D:\n    text_labels = frozenset()\n    image_labels = frozenset({'sexual'})\ncreate = D",
    "empty": "create = lambda: None",
    "broken": "def create(): raise OSError('weights are missing')",
    "blind": "class D:\n    text_labels = image_labels = frozenset()\ncreate = D",
}


def loaded(folder: Path, *names: str) -> list[str]:
    """What the registry finds in a fresh process with these plug-ins installed, and whether a picture gets through."""
    for name in names:
        (folder / f"detector_{name}.py").write_text(PLUGIN[name])
        info = folder / f"detector_{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: detector-{name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[tintype.detectors]\nx{name} = detector_{name}:create\n")
    script = """
        import sys
        from tintype.safety import registry
        found = registry.load()
        print(*sorted(n for n in found.ready if n.startswith('x')), '|',
              *sorted(n for n in found.broken if n.startswith('x')))
        print(*sorted(n for n in registry.names() if n.startswith('x')))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=folder)
    return [line.strip() for line in done.stdout.splitlines() if not line.startswith("{")][-2:]


def test_detectors_are_found_by_entry_point_and_broken_ones_are_reported(tmp_path: Path):
    ready, named = loaded(tmp_path, "good", "empty", "broken", "blind")
    assert ready == "xgood | xblind xbroken"
    assert named == "xblind xbroken xempty xgood"


def test_texts_are_screened_without_any_machine_learning_or_database():
    script = (
        "import sys; from tintype import safety; "
        "safety.screen_text('a house by the sea', safety.Facts(stage=safety.Stage.PROMPT)); "
        "print([m for m in ('torch', 'transformers', 'onnxruntime', 'sqlalchemy', 'fastapi') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
