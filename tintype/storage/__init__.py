"""Where pictures are kept: one local folder or one S3-compatible bucket, behind the same few functions.

Callers write `from tintype import storage` and `await storage.put(...)`. Signed links to local files are made
and checked in `tintype.storage.signing`; an S3 bucket signs its own (`storage.sign`).
"""

from tintype.storage.faults import (
    InvalidKeyError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    StorageFullError,
    StorageUnavailableError,
)
from tintype.storage.store import (
    Health,
    Store,
    check,
    delete,
    get,
    open,  # noqa: A004 - `storage.open(...)` reads as what it does
    put,
    sign,
    size,
    stream,
)

__all__ = [
    "Health",
    "InvalidKeyError",
    "ObjectNotFoundError",
    "RangeNotSatisfiableError",
    "StorageFullError",
    "StorageUnavailableError",
    "Store",
    "check",
    "delete",
    "get",
    "open",
    "put",
    "sign",
    "size",
    "stream",
]
