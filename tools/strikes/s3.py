"""A small S3 client: one per thread, signed with SigV4."""

import datetime, hashlib, hmac, http.client, urllib.parse

BUCKET = "strikes"
# Seconds without an answer after which a request has failed.
PATIENCE = 10


class S3:
    """Requests of one thread, signed with SigV4; connections are kept."""

    def __init__(self, site, bucket=BUCKET, patience=PATIENCE):
        self.site, self.bucket, self.patience, self.links = site, bucket, patience, {}

    def request(self, node, method, key, body=b"", query=""):
        """(status, headers, body). Raises ConnectionRefusedError if nothing was sent; status 0: the connection broke."""
        url, path, headers = self.signed(node, method, key, body, query)
        host = url.netloc
        link = self.links.pop(host, None) or self.connect(url)
        try:
            link.request(method, f"{path}?{query}" if query else path, body=body, headers=headers)
            answer = link.getresponse()
            found = answer.read()
        except ConnectionRefusedError:
            link.close()
            raise
        except (OSError, http.client.HTTPException):
            link.close()
            return 0, {}, b""
        self.links[host] = link
        return answer.status, answer.headers, found

    def stream(self, node, key):
        """The body of an object, piece by piece. Raises if it breaks off."""
        url, path, headers = self.signed(node, "GET", key, b"", "")
        link = self.connect(url)
        link.request("GET", path, headers=headers)
        answer = link.getresponse()
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        while piece := answer.read(1 << 20):
            yield piece
        link.close()

    def signed(self, node, method, key, body, query):
        """Where a request goes, its path, and its headers."""
        env = self.site.env
        url = urllib.parse.urlsplit(env[f"BENTENG_NODE_{node}_S3_URL"])
        host = url.netloc
        path = f"/{self.bucket}" + (f"/{urllib.parse.quote(key, safe='/')}" if key else "")
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day, digest = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d"), hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        signed = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{digest}"
        scope = f"{day}/{env['AWS_REGION']}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        mac = ("AWS4" + env["AWS_SECRET_ACCESS_KEY"]).encode()
        for part in (day, env["AWS_REGION"], "s3", "aws4_request", text):
            mac = hmac.new(mac, part.encode(), hashlib.sha256).digest()
        credential = f"{env['AWS_ACCESS_KEY_ID']}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={mac.hex()}")
        return url, path, headers

    def connect(self, url):
        if url.scheme == "https":
            return http.client.HTTPSConnection(url.netloc, timeout=self.patience, context=self.site.tls)
        return http.client.HTTPConnection(url.netloc, timeout=self.patience)
