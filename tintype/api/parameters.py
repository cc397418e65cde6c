"""Parameters of an address that no route takes: refused, because they are usually typing mistakes."""

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import ParamTypes

from tintype import errors
from tintype.errors import FieldError


class ParameterUnknownError(errors.InvalidRequestError):
    """The address has a parameter that this route does not take."""

    code = "invalid_request"


async def refuse_unknown(request: Request) -> None:
    """Refuse a request whose address says what its route would ignore.

    Raises:
        ParameterUnknownError: all of them are named, with what there is.
    """
    fields = get_flat_params(request.scope["route"].dependant)
    known = [field.alias for field in fields if getattr(field.field_info, "in_", None) == ParamTypes.query]
    there = f"send {', '.join(known)} at most" if known else "this route takes none"
    said = f"there is no such parameter; {there}"
    if unknown := [name for name in dict.fromkeys(request.query_params) if name not in known]:
        problems = tuple(FieldError(loc=("query", name), msg=said) for name in unknown)
        raise ParameterUnknownError(f"{', '.join(unknown)}: {said}", fields=problems)
