"""The named facts of storage, and the one place where obstore's exceptions become them.

obstore says most things in prose: a full disk is a `GenericError` whose text ends in `(os error 28)`, a full
MinIO one that quotes HTTP 507. What is read out of those texts is read here, and pinned by tests against a
full disk and a server that answers 507.
"""

import errno
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar

import obstore.exceptions

from tintype.errors import InvalidRequestError, NotFoundError, TintypeError, UnavailableError

# EFBIG belongs here: a file size limit (`ulimit -f`, FAT32) refuses the bytes as a full disk does.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
OS_ERROR = re.compile(r"\(os error (\d+)\)")
REMOTE_FULL = re.compile(r"status code: 507\b|StorageFull</Code>|QuotaExceeded</Code>")
BAD_RANGE = re.compile(r"status code: 416\b|Requested range was invalid")


class ObjectNotFoundError(NotFoundError):
    """The stored file is missing."""

    code = "file_missing"


class InvalidKeyError(InvalidRequestError):
    """This is not the name of a stored file."""

    code = "invalid_key"


class RangeNotSatisfiableError(InvalidRequestError):
    """The file has no bytes in the range asked for."""

    status = 416
    code = "range_not_satisfiable"


class StorageFullError(TintypeError):
    """There is no space left to store files; free some, or point storage elsewhere."""

    status = 507
    code = "storage_full"
    retryable: ClassVar[bool] = True


class StorageUnavailableError(UnavailableError):
    """The file storage cannot be used right now; try again shortly.

    `reason` is one line for operators (`doctor`, logs); it may name hosts and paths, so no client is shown
    it.
    """

    code = "storage_unavailable"
    retryable: ClassVar[bool] = True

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


@contextmanager
def named(*, missing_is_fault: bool = False) -> Generator[None]:
    """Turn what obstore and the file system raise inside into the facts above.

    `missing_is_fault`: nothing can be missing in this operation (a put, a listing), so a 404 means the bucket
    or the folder itself is gone.
    """
    try:
        yield
    except FileNotFoundError as error:
        if missing_is_fault or "NoSuchBucket" in str(error):
            raise StorageUnavailableError(_first_line(error)) from error
        raise ObjectNotFoundError from error
    except OSError as error:
        raise of_system(error) from error
    except obstore.exceptions.BaseError as error:
        raise _fact(error) from error


def of_system(error: OSError) -> StorageFullError | StorageUnavailableError:
    """What the file system's refusal to write or read means here."""
    return StorageFullError() if error.errno in FULL else StorageUnavailableError(_first_line(error))


def _fact(error: obstore.exceptions.BaseError) -> TintypeError:
    text = str(error)
    numbers = {int(number) for number in OS_ERROR.findall(text)}
    if numbers & FULL or REMOTE_FULL.search(text):
        return StorageFullError()
    if BAD_RANGE.search(text):
        return RangeNotSatisfiableError()
    return StorageUnavailableError(_first_line(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
