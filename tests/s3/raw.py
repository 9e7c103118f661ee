"""S3 by hand: SigV4 over a plain socket, so that a test can send what no SDK would."""

import datetime
import hashlib
import hmac
import socket
import urllib.parse
from dataclasses import dataclass, field

EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict
    body: bytes
    continued: bool = False
    """Whether a 100 (Continue) came first."""
    complete: bool = True
    """Whether the body had the length that it declared."""

    @property
    def code(self):
        """The code of an error document, or ''."""
        text = self.body.decode(errors="replace")
        return text.split("<Code>", 1)[1].split("</Code>", 1)[0] if "<Code>" in text else ""


@dataclass
class Raw:
    """One site and one access key."""

    endpoint: str
    key: str
    secret: str
    region: str = "us-east-1"
    skew: float = 0
    """Seconds that the client's clock is ahead."""
    host: str = field(init=False)
    port: int = field(init=False)

    def __post_init__(self):
        url = urllib.parse.urlsplit(self.endpoint)
        self.host, self.port = url.hostname, url.port or 80

    @staticmethod
    def of(site, **changes):
        """The client of a site's endpoints.env."""
        values = dict(
            endpoint=site["AWS_ENDPOINT_URL"],
            key=site["AWS_ACCESS_KEY_ID"],
            secret=site["AWS_SECRET_ACCESS_KEY"],
        )
        return Raw(**{**values, **changes})

    def now(self):
        """The client's idea of the time, as SigV4 writes it."""
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.skew)
        return at.strftime("%Y%m%dT%H%M%SZ")

    def signing_key(self, date):
        key = f"AWS4{self.secret}".encode()
        for part in (date[:8], self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key

    def scope(self, date):
        return f"{date[:8]}/{self.region}/s3/aws4_request"

    def sign(self, method, path, query="", headers=None, payload="UNSIGNED-PAYLOAD", unsigned=None):
        """Headers of a signed request. `path` and `query` are as sent; `unsigned` are not signed.

        Returns (headers, signature, date): the last two seed the chunk signatures.
        """
        date = self.now()
        signed = {"host": f"{self.host}:{self.port}", "x-amz-date": date, "x-amz-content-sha256": payload}
        signed.update({name.lower(): str(value) for name, value in (headers or {}).items()})
        pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
        canonical_query = "&".join(sorted(f"{name}={value}" for name, value in pairs))
        names = sorted(signed)
        canonical = "\n".join(
            [method, path, canonical_query]
            + [f"{name}:{' '.join(signed[name].split())}" for name in names]
            + ["", ";".join(names), payload]
        )
        text = "\n".join(["AWS4-HMAC-SHA256", date, self.scope(date), hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.new(self.signing_key(date), text.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{self.scope(date)}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        signed.update(unsigned or {})
        return signed, signature, date

    def chunks(self, pieces, seed, date, trailers=None):
        """A signed aws-chunked body. `trailers`: name -> value."""
        key, previous, out = self.signing_key(date), seed, b""

        def step(kind, *lines):
            text = "\n".join([f"AWS4-HMAC-SHA256-{kind}", date, self.scope(date), previous, *lines])
            return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

        for piece in [*pieces, b""]:
            previous = step("PAYLOAD", EMPTY, hashlib.sha256(piece).hexdigest())
            out += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece + (b"\r\n" if piece else b"")
        if trailers is not None:
            lines = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
            signature = step("TRAILER", hashlib.sha256(lines.encode()).hexdigest())
            out += lines.replace("\n", "\r\n").encode() + f"x-amz-trailer-signature:{signature}\r\n".encode()
        return out + b"\r\n"

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=30)

    def send(self, method, target, headers, body=b"", finish=True, wait_continue=False):
        """Sends a request as it is and reads the answer.

        `finish=False`: the sending side is closed after `body`, whatever was declared.
        `wait_continue`: the body is sent only after a 100 (Continue).
        """
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
        with self.connect() as sock:
            sock.sendall(head.encode("latin-1"))
            reader = sock.makefile("rb")
            if not wait_continue:
                self._send_body(sock, body, finish)
                return read_answer(reader, method)
            first = read_answer(reader, method)
            if first.status != 100:
                return first
            self._send_body(sock, body, finish)
            answer = read_answer(reader, method)
            answer.continued = True
            return answer

    @staticmethod
    def _send_body(sock, body, finish):
        try:
            sock.sendall(body)
            if not finish:
                try:
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # The server has answered and closed already.
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has answered and closed; what it said is still to be read

    def request(self, method, path, query="", headers=None, body=b"", payload=None, unsigned=None, **how):
        """A signed request with a Content-Length that is right."""
        payload = payload or hashlib.sha256(body).hexdigest()
        signed, _, _ = self.sign(method, path, query, headers, payload, unsigned)
        if body or method in ("PUT", "POST"):
            signed.setdefault("content-length", str(len(body)))
        return self.send(method, f"{path}?{query}" if query else path, signed, body, **how)


def read_answer(reader, method):
    """Reads one answer off a connection."""
    line = reader.readline().decode()
    assert line.startswith("HTTP/1.1 "), f"no answer but {line!r}"
    status, headers = int(line.split()[1]), {}
    while (line := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if status == 100 or status == 304 or method == "HEAD":
        return Answer(status, headers, b"")
    if "content-length" in headers:
        length = int(headers["content-length"])
        body = reader.read(length)
        return Answer(status, headers, body, complete=len(body) == length)
    return Answer(status, headers, reader.read())
