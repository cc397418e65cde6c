"""How a refusal reads: which part, and what to change. Never what exactly was found, and never how surely."""

from typing import ClassVar

from tintype import errors
from tintype.errors import FieldError
from tintype.safety.policy import Reason, Stage, Verdict

PICTURES = {
    Stage.PROMPT: "the picture",
    Stage.INPUT: "the picture you sent",
    Stage.TRAINING: "a training picture",
    Stage.PREVIEW: "the picture that was being made",
    Stage.OUTPUT: "the picture that was made",
    Stage.FRAME: "the video that was made",
}
MADE = (Stage.PREVIEW, Stage.OUTPUT, Stage.FRAME)
ASKED = {
    Reason.SEXUAL: "asks for nudity or sexual content, which is not made here; describe a scene with people dressed",
    Reason.PERSON: "asks for something too revealing for the picture of a person; describe everyday clothes and poses",
    Reason.MINOR: "puts young people beside sexual or revealing content; leave that content out",
    Reason.UNDRESS: "asks to take somebody's clothes off, which is not done here; ask for a change of clothes instead",
    Reason.FACE_SWAP: "asks to put a face onto somebody else, which is not done here; describe a new person instead",
}
SHOWN = {
    Reason.PERSON: "is too revealing for the picture of a person; choose one with everyday clothes and poses",
    Reason.MINOR: "may show young people in a revealing way; choose another picture",
}
SHOWN_ELSE = "shows nudity or sexual content, which is not used here; choose another picture"
CAME_OUT = {
    Reason.PERSON: "came out too revealing for the picture of a person, and nothing was kept; describe everyday "
    "clothes and try again",
    Reason.MINOR: "may show young people in a revealing way, and nothing was kept; describe something else",
}
CAME_OUT_ELSE = "came out with nudity or sexual content, and nothing was kept; describe the clothes and try again"


class BlockedError(errors.TintypeError):
    """This is not made here."""

    status = 422
    code = "content_blocked"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, verdict: Verdict, field: str) -> None:
        super().__init__(detail, fields=(FieldError(loc=("body", field), msg=detail),))
        self.verdict = verdict
        self.field = field


class SafetyUnavailableError(errors.UnavailableError):
    """A safety check cannot run right now, and nothing is made unchecked."""

    code = "safety_unavailable"
    retryable: ClassVar[bool] = True


def of_text(verdict: Verdict, reason: Reason, *, field: str) -> BlockedError:
    """The refusal of a text that stood in `field`."""
    return BlockedError(f"{field} {ASKED[reason]}", verdict=verdict, field=field)


def of_picture(verdict: Verdict, reason: Reason, *, field: str) -> BlockedError:
    """The refusal of a picture that came in or came out."""
    said = CAME_OUT.get(reason, CAME_OUT_ELSE) if verdict.stage in MADE else SHOWN.get(reason, SHOWN_ELSE)
    return BlockedError(f"{PICTURES[verdict.stage]} {said}", verdict=verdict, field=field)
