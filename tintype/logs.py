"""Structured logs: one event a line, with request and generation ids, never a secret."""

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any, cast

import structlog

from tintype import settings

SECRET_NAMES = re.compile(r"password|passwd|secret|token|authorization|api_?key|cookie|signature", re.IGNORECASE)
SECRET_TEXT = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:)[^\s\"']+(?=@)"
    r"|(?P<query>[?&][\w-]*(?:signature|token|credential|secret|password|key)=)[^&\s\"']+"
    r"|(?P<pair>\b\w*(?:password|passwd|secret|access_key|api_?key)\w*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"
    r"|(?P<bearer>\b(?:Bearer|Basic)\s+)[^\s\"']+",
    re.IGNORECASE,
)
REDACTED = "[redacted]"


def configure(logs: settings.Logs, *, process: str) -> None:
    """Send every log line of this process to standard error; `process` names it in each line."""
    console = logs.format == "console" or (logs.format == "auto" and sys.stderr.isatty())
    pid = os.getpid()

    def named(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"process": process, "pid": pid, **event}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        named,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if console else structlog.processors.JSONRenderer()
    )
    level = getattr(logging, logs.level.upper())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(formatter)
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(max(level, logging.WARNING))


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `part=name`."""
    return structlog.get_logger(part=name)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what may be a secret: values under telling names, passwords in URLs, signatures, bearer tokens."""
    for name, value in event.items():
        event[name] = REDACTED if SECRET_NAMES.search(name) else _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact_text(value)
        case dict():
            parts = cast("dict[Any, Any]", value)
            return {k: REDACTED if SECRET_NAMES.search(str(k)) else _redacted(v) for k, v in parts.items()}
        case list() | tuple():
            return [_redacted(item) for item in cast("list[Any]", value)]
        case _:
            return value


def redact_text(text: str) -> str:
    """`text` without the passwords, signatures and tokens in it."""
    return SECRET_TEXT.sub(lambda m: "".join(g for g in m.groups() if g) + REDACTED, text)
