"""Named facts that stop an operation.

Every error a user may meet derives from `TintypeError`, lives beside the code that raises it, and carries what the
API needs to answer: an HTTP status, a stable snake_case code and a sentence that says what to do.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """What is wrong with one field of a request: where (`("body", "width")`) and what to send instead."""

    loc: tuple[str | int, ...]
    msg: str


class TintypeError(Exception):
    """Something went wrong in Tintype itself."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retry_after_s: int | None = None
    """When the same request may work, where that is known."""

    def __init__(self, detail: str | None = None, *, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail or self.title())
        self.detail = detail or self.title()
        self.fields = fields

    @classmethod
    def title(cls) -> str:
        """The fact in one line: the first line of the class's docstring."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


class NotFoundError(TintypeError):
    """Nothing with this id exists, or it is not yours."""

    status = 404
    code = "not_found"


class InvalidRequestError(TintypeError):
    """The request does not fit what is offered."""

    status = 422
    code = "invalid_request"


class ConflictError(TintypeError):
    """The request contradicts the present state."""

    status = 409
    code = "conflict"


class UnavailableError(TintypeError):
    """A part this request needs is not available right now."""

    status = 503
    code = "unavailable"


class SetupError(TintypeError):
    """The installation or its configuration is wrong; nothing can start until it is mended."""

    code = "setup"
