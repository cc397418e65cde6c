"""moto's S3 over HTTP, made as strict about presigned URLs as S3 is: `python s3_server.py PORT`.

moto answers any presigned URL, expired or forged. The gate before it computes Signature Version 4 anew
(independent of obstore) and refuses what AWS refuses.
"""

import hashlib
import hmac
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

SECRET = "test-secret"


def refuse(start_response, message):
    body = f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>".encode()
    start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def presigned_problem(environ):
    """Why S3 would refuse this presigned request; None when it would not."""
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    given = query.pop("X-Amz-Signature")
    signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if datetime.now(UTC) > signed_at + timedelta(seconds=int(query["X-Amz-Expires"])):
        return "Request has expired"
    _, date, region, service, _ = query["X-Amz-Credential"].split("/")
    canonical_query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(query.items()))
    path = quote(environ["PATH_INFO"], safe="/-_.~")
    host = f"host:{environ['HTTP_HOST']}"
    canonical = "\n".join([environ["REQUEST_METHOD"], path, canonical_query, host, "", "host", "UNSIGNED-PAYLOAD"])
    scope = f"{date}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return None if hmac.compare_digest(expected, given) else "SignatureDoesNotMatch"


def gate(app):
    def answer(environ, start_response):
        if "X-Amz-Signature=" in environ["QUERY_STRING"]:
            if problem := presigned_problem(environ):
                return refuse(start_response, problem)
        elif "HTTP_AUTHORIZATION" not in environ and not environ["PATH_INFO"].startswith("/moto-api"):
            return refuse(start_response, "Anonymous requests are refused")
        return app(environ, start_response)

    return answer


if __name__ == "__main__":
    app = gate(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True, request_handler=MotoRequestHandler)
