"""Links to local files that work without an account until they expire.

A link is `<path>?expires=<unix seconds>&signature=<base64url>`; the signature is HMAC-SHA256 over a fixed
label, the path and the time, so it opens that one path and cannot be prolonged. The key lies in the data
folder: every process that shares the folder signs and accepts alike, and deleting the file revokes every
link.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import time
from pathlib import Path

from tintype.errors import SetupError, TintypeError

LABEL = b"tintype-link-v1"
SECRET_BYTES = 32
SECRET_FILE = Path("secrets") / "url-signing.key"


class SignatureExpiredError(TintypeError):
    """This link has expired; ask for a new one."""

    status = 403
    code = "link_expired"


class SignatureInvalidError(TintypeError):
    """This link is not valid: it was changed, cut off, or made for another file."""

    status = 403
    code = "link_invalid"


def sign_path(secret: bytes, path: str, expires_at: int) -> str:
    """The query, `?expires=..&signature=..`, that opens `path` (decoded, without a query) for a while.

    `expires_at` is in seconds since 1970; from that second on the link is refused. Nothing in the query needs
    escaping.
    """
    return f"?expires={expires_at}&signature={_signature(secret, path, str(expires_at))}"


def verify(secret: bytes, path: str, expires: str, signature: str, *, now_s: float | None = None) -> None:
    """Accept a link as it arrived (`path` decoded, `expires` and `signature` from its query), or raise.

    The signature is judged first, in constant time: a forged link never learns that it is only too old.

    Raises:
        SignatureInvalidError: not signed by us for this path and time.
        SignatureExpiredError: ours, but its time is over.
    """
    expected = _signature(secret, path, expires)
    if not (expires.isascii() and expires.isdigit()):
        raise SignatureInvalidError
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise SignatureInvalidError
    if (time.time() if now_s is None else now_s) >= int(expires):
        raise SignatureExpiredError


def load_secret(home: Path) -> bytes:
    """The key that signs this data folder's links, made on first use (mode 600 in a folder of mode 700).

    Processes that start at once agree on one key: it is written aside and linked into place, and only one
    link wins.

    Raises:
        SetupError: others can read the key or replace it, it is damaged, or it cannot be made.
    """
    path = home / SECRET_FILE
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise SetupError(f"the key for signed links cannot be used: {error}") from error


def _create(path: Path) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            os.link(aside, path)
    finally:
        aside.unlink()


def _read(path: Path) -> bytes:
    if path.parent.stat().st_mode & 0o022:
        raise SetupError(f"others can replace what is in {path.parent}: run `chmod 700 {path.parent}`")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise SetupError(f"others can read {path}: run `chmod 600 {path}`, or delete it to revoke every link")
        secret = file.read(SECRET_BYTES + 1)
    if len(secret) != SECRET_BYTES:
        raise SetupError(f"{path} is damaged: delete it; links given out so far stop working")
    return secret


def _signature(secret: bytes, path: str, expires: str) -> str:
    message = b"\n".join((LABEL, path.encode("utf-8", "replace"), expires.encode("utf-8", "replace")))
    digest = hmac.new(secret, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
