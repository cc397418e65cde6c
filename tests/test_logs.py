"""Structured logs: one JSON object a line, never a secret in it."""

import json
import logging
import subprocess
import sys

import pytest

from tintype import logs

SCRIPT = """
import logging, warnings
from tintype import logs, settings
logs.configure(settings.Logs(format="json"), process="probe")
log = logs.get("part")
log.info("said", url="postgresql://me:hunter2@host/db", nested={"password": "hunter2", "list": ["Bearer hunter2"]})
log.debug("not said")
logging.getLogger("third.party").warning("connecting to %s", "postgresql://me:hunter2@host/db")
logging.getLogger("third.party").info("not said either")
warnings.warn("careful with password=hunter2")
try:
    raise ValueError("https://bucket/key?X-Amz-Signature=hunter2&X-Amz-Expires=10")
except ValueError:
    log.exception("broke")
    logging.getLogger("third.party").exception("broke elsewhere")
"""


def test_every_line_is_json_and_holds_no_secret_wherever_it_came_from():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == ""
    assert "hunter2" not in ran.stderr
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["event"][:13] for line in lines] == [
        "said",
        "connecting to",
        lines[2]["event"][:13],
        "broke",
        "broke elsewhe",
    ]
    assert "careful" in lines[2]["event"]
    for line in lines:
        assert {"process": "probe", "level": line["level"]}.items() <= line.items()
        assert line["timestamp"].endswith("Z")
    assert lines[0]["nested"] == {"password": "[redacted]", "list": ["Bearer [redacted]"]}
    assert lines[0]["url"] == "postgresql://me:[redacted]@host/db"
    assert all("ValueError" in line["exception"] for line in lines[3:])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p4ss@h:5432/d", "postgresql://u:[redacted]@h:5432/d"),
        ("postgresql+asyncpg://u:p4ss@h/d", "postgresql+asyncpg://u:[redacted]@h/d"),
        ("redis://:p4ss@h/0", "redis://:[redacted]@h/0"),
        ("postgresql://u:p4/ss@w@h/d", "postgresql://u:[redacted]@h/d"),
        ("GET /c?expires=1&signature=p4ss", "GET /c?expires=1&signature=[redacted]"),
        ("u?X-Amz-Signature=p4ss&a=b", "u?X-Amz-Signature=[redacted]&a=b"),
        ("u?a=b&X-Amz-Security-Token=p4ss", "u?a=b&X-Amz-Security-Token=[redacted]"),
        ("u?X-Amz-Credential=p4ss/x/y", "u?X-Amz-Credential=[redacted]"),
        ("Authorization: Bearer p4ss", "Authorization: Bearer [redacted]"),
        ("Basic cDRzcw==", "Basic [redacted]"),
        ("host=h password=p4ss user=u", "host=h password=[redacted] user=u"),
        ('{"aws_secret_access_key": "p4ss", "a": 1}', '{"aws_secret_access_key": "[redacted]", "a": 1}'),
        ("api_key: p4ss", "api_key: [redacted]"),
    ],
)
def test_a_secret_in_a_text_is_taken_out_and_the_rest_stays(text, shown):
    assert logs.redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8000/api/generate",
        "postgresql://u@h/d",
        "a red circle: 100% of it, user@example.org",
        "password authentication failed for user",
        "step 3 of 9 (eta 4.5 s)",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text):
    assert logs.redact_text(text) == text


@pytest.mark.parametrize(
    "name", ["password", "db_password", "AWS_SECRET_ACCESS_KEY", "token", "api_key", "Cookie", "signature"]
)
def test_a_value_under_a_telling_name_is_taken_out_whatever_it_is(name):
    assert logs.redact(None, "info", {name: ["x"], "other": 1}) == {name: "[redacted]", "other": 1}


def test_levels_are_those_of_the_settings():
    script = SCRIPT.replace('format="json"', 'format="json", level="error"')
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert {json.loads(line)["level"] for line in ran.stderr.splitlines()} == {"error"}
    assert logging.getLogger("third.party").handlers == []
