"""What follows from scores: the rules, their order, and that nothing unreadable passes for harmless."""

import inspect
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.safety import policy
from tintype.safety.contract import Label
from tintype.safety.policy import Facts, Reason, Stage

SCORES = st.dictionaries(st.sampled_from(list(Label)), st.floats(0, 1))
FACTS = st.builds(
    Facts,
    stage=st.sampled_from(list(Stage)),
    has_person_source=st.booleans(),
    has_foreign_source=st.booleans(),
    model_draws_people=st.booleans(),
)


def reason(stage: Stage = Stage.OUTPUT, *, person: bool = False, **scores: float) -> Reason | None:
    facts = Facts(stage=stage, has_person_source=person)
    return policy.decide({Label(name): score for name, score in scores.items()}, facts).reason


@pytest.mark.parametrize(
    ("count", "fps", "judged"),
    [
        (1, 24, (0,)),
        (2, 24, (0, 1)),
        (17, 8, (0, 4, 8, 12, 16)),
        (25, 24, (0, 12, 24)),
        (49, 23.976, (0, 12, 24, 36, 48)),
        (5, 1, (0, 1, 2, 3, 4)),
        (3, 0.1, (0, 1, 2)),
    ],
)
def test_of_a_video_the_first_the_last_and_two_frames_a_second_are_judged(count, fps, judged):
    assert policy.frames_to_judge(count, fps) == judged


@given(st.integers(1, 4000), st.floats(0.5, 240))
def test_never_more_than_half_a_second_of_a_video_passes_unseen(count: int, fps: float):
    judged = policy.frames_to_judge(count, fps)
    assert (judged[0], judged[-1]) == (0, count - 1)
    assert all(later - earlier <= max(1, fps / 2 + 1) for earlier, later in itertools.pairwise(judged))


@pytest.mark.parametrize("stage", list(Stage))
def test_what_is_sexual_is_blocked_at_every_stage(stage: Stage):
    assert reason(stage, sexual=policy.SEXUAL) is Reason.SEXUAL
    assert reason(stage, sexual=policy.SEXUAL - 0.01) is None


@pytest.mark.parametrize("stage", list(Stage))
def test_beside_a_persons_picture_half_as_much_is_enough(stage: Stage):
    assert reason(stage, person=True, sexual=policy.SEXUAL / 2) is Reason.PERSON
    assert reason(stage, person=True, sexual=policy.SEXUAL / 2 - 0.01) is None


@pytest.mark.parametrize("stage", list(Stage))
def test_a_persons_holiday_photo_may_come_in_but_nothing_suggestive_may_be_made_of_it(stage: Stage):
    expected = None if stage is Stage.INPUT else Reason.PERSON
    assert reason(stage, person=True, suggestive=policy.SUGGESTIVE) is expected
    assert reason(stage, person=False, suggestive=1.0) is None


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("kind", ["sexual", "suggestive"])
def test_beside_a_minor_the_least_hint_is_enough(stage: Stage, kind: str):
    assert reason(stage, minor=policy.MINOR, **{kind: policy.LOWEST}) is Reason.MINOR
    assert reason(stage, minor=1.0, **{kind: policy.LOWEST - 0.01}) is None
    assert reason(stage, minor=1.0) is None


def test_the_threshold_beside_a_minor_is_the_lowest_there_is():
    assert min(policy.SEXUAL / 2, policy.SUGGESTIVE, policy.INTENT, policy.MINOR) >= policy.LOWEST


def test_undressing_and_face_swaps_are_intents_and_blocked_as_such():
    assert reason(Stage.PROMPT, undress=1.0) is Reason.UNDRESS
    assert reason(Stage.PROMPT, face_swap=1.0) is Reason.FACE_SWAP


def test_a_fact_that_is_left_out_is_assumed_to_be_the_worst():
    facts = Facts(stage=Stage.OUTPUT)
    assert facts.has_person_source
    assert facts.needs_detector
    assert not Facts(
        stage=Stage.OUTPUT, has_person_source=False, has_foreign_source=False, model_draws_people=False
    ).needs_detector


def test_a_picture_counts_as_a_persons_until_a_detector_says_otherwise():
    facts = Facts(stage=Stage.INPUT)
    assert policy.decide({}, facts).shows_person
    assert policy.decide({Label.PERSON: policy.PERSON}, facts).shows_person
    assert not policy.decide({Label.PERSON: policy.PERSON - 0.01}, facts).shows_person


def test_the_highest_score_of_any_detector_counts():
    scores = policy.highest([{Label.SEXUAL: 0.1, Label.MINOR: 0.4}, {Label.SEXUAL: 0.9}, {}])
    assert scores == {Label.SEXUAL: 0.9, Label.MINOR: 0.4}


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1])
def test_a_score_that_is_none_is_refused_instead_of_read_as_harmless(score: float):
    with pytest.raises(ValueError, match="sexual"):
        policy.decide({Label.SEXUAL: score}, Facts(stage=Stage.OUTPUT))


def test_a_label_nobody_knows_is_refused_instead_of_passed_over():
    with pytest.raises(ValueError, match="nsfw"):
        policy.highest([{"nsfw": 1.0}])  # pyright: ignore[reportArgumentType]


@given(scores=SCORES, facts=FACTS, label=st.sampled_from([label for label in Label if label is not Label.PERSON]))
def test_a_higher_score_never_lifts_a_block(scores: dict[Label, float], facts: Facts, label: Label):
    if policy.decide(scores, facts).is_blocked:
        assert policy.decide({**scores, label: 1.0}, facts).is_blocked


@given(scores=SCORES, stage=st.sampled_from(list(Stage)))
def test_a_persons_picture_never_lifts_a_block(scores: dict[Label, float], stage: Stage):
    if policy.decide(scores, Facts(stage=stage, has_person_source=False)).is_blocked:
        assert policy.decide(scores, Facts(stage=stage, has_person_source=True)).is_blocked


def test_no_rule_takes_a_threshold_or_a_switch():
    assert list(inspect.signature(policy.decide).parameters) == ["scores", "facts", "detectors"]
    assert set(Facts.__dataclass_fields__) == {
        "stage",
        "has_person_source",
        "has_foreign_source",
        "model_draws_people",
    }
