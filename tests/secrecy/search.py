"""Searches files for secrets: as they are, as hex, as base64 in all three alignments, as UTF-16."""

import base64

BLOCK = 4 << 20


def forms(secret):
    """{name: bytes}: what a secret looks like, wherever in a longer text it stands."""
    found = {
        "raw": secret,
        "hex": secret.hex().encode(),
        "HEX": secret.hex().upper().encode(),
    }
    for at in range(3):
        # Of the base64 of a longer text, what these bytes alone decide: a character stands for six bits,
        # those at the rims are shared with what stands before and behind.
        text = base64.b64encode(b"\0" * at + secret + b"\0" * (-(at + len(secret)) % 3))
        text = text[(at * 8 + 5) // 6 : (at + len(secret)) * 8 // 6]
        found[f"base64 at {at}"] = text
        found[f"base64url at {at}"] = text.replace(b"+", b"-").replace(b"/", b"_")
    try:
        text = secret.decode("ascii")
        found["utf-16-le"], found["utf-16-be"] = text.encode("utf-16-le"), text.encode("utf-16-be")
    except UnicodeDecodeError:
        pass  # A key of any bytes is no text.
    return found


class Search:
    """Looks for many secrets at once.

    `markers`: {name: text}, all with one prefix: that is looked for, so that their number costs nothing.
    `secrets`: {name: bytes} that others drew.
    """

    def __init__(self, prefix, markers, secrets):
        self.markers = {name: forms(text.encode()) for name, text in markers.items()}
        self.needles = {(f"prefix as {form}", needle) for form, needle in forms(prefix.encode()).items()}
        self.needles |= {(f"{name} as {form}", n) for name, s in secrets.items() for form, n in forms(s).items()}
        self.overlap = max(len(needle) for _, needle in self.needles)

    def file(self, path):
        """What is found in a file: `[(what, offset)]`, the first of each; and how many bytes were searched."""
        found, at, rest, size = {}, 0, b"", 0
        with open(path, "rb") as stream:
            while block := stream.read(BLOCK):
                size += len(block)
                # Most of a preallocated segment is zeros.
                if block.count(0) != len(block):
                    window = rest + block
                    for what, needle in self.needles:
                        if what not in found and (hit := window.find(needle)) >= 0:
                            found[what] = at - len(rest) + hit
                            found |= {self.name(window, hit): at - len(rest) + hit} if "prefix" in what else {}
                    rest = window[-self.overlap :]
                else:
                    rest = block[-self.overlap :]
                at += len(block)
        return sorted(found.items()), size

    def name(self, window, hit):
        """Which marker stands about here."""
        near = window[max(0, hit - 64) : hit + 400]
        known = (f"{name} as {form}" for name, all_forms in self.markers.items() for form, n in all_forms.items() if n in near)
        return next(known, "a marker cut short")

    def tree(self, folder):
        """`{relative path: what was found}` of all files below a folder, and the bytes that were searched."""
        found, total = {}, 0
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
            hits, size = self.file(path)
            total += size
            if hits:
                found[str(path.relative_to(folder))] = hits
        return found, total
