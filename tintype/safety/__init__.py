"""What Tintype does not make, and how it tells: detectors score, one policy decides, a refusal says what to change.

Callers write `from tintype import safety` and `safety.screen_text(...)` or `safety.judge_image(...)`. There is no way
to turn either off, and no setting that either reads.
"""

from tintype.safety.contract import Detector, Label
from tintype.safety.policy import Facts, Reason, Stage, Verdict
from tintype.safety.refusals import BlockedError, SafetyUnavailableError
from tintype.safety.registry import Detectors
from tintype.safety.screening import judge_image, screen_text

__all__ = [
    "BlockedError",
    "Detector",
    "Detectors",
    "Facts",
    "Label",
    "Reason",
    "SafetyUnavailableError",
    "Stage",
    "Verdict",
    "judge_image",
    "screen_text",
]
