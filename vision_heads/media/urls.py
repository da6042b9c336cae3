"""URLs without their secrets: for messages, names, results and pages.

Cameras are named by URLs that hold passwords: before the host, in the query, in the path. Nothing
that is shown or written may repeat them. Where it is unclear what is a secret, too much is
hidden rather than too little.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, unquote_plus

HIDDEN = "***"
_SCHEME = re.compile(r"^\s*([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", re.ASCII)
_PLAIN_KEY = re.compile(r"[A-Za-z][\w.-]{0,31}", re.ASCII)
_TOKEN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w~+=%-]{24,}", re.ASCII)


def is_url(text: str) -> bool:
    """Tell whether a text begins like a URL, scheme://..."""
    return _SCHEME.match(text) is not None


def scheme_of(url: str) -> str:
    """Return a URL's scheme in lower case, "" for anything else."""
    match = _SCHEME.match(url)
    return match.group(1).lower() if match else ""


def redact_url(url: str) -> str:
    """Return a URL without user, password, query values, fragment and tokens in its path.

    Args:
        url: the whole text is one URL, also when a password in it holds spaces, slashes or @.

    Example:
        >>> redact_url("rtsp://admin:p%40ss@10.0.0.5:554/live?channel=1&token=abc")
        'rtsp://***@10.0.0.5:554/live?channel=***&token=***'
    """
    match = _SCHEME.match(url)
    if match is None:
        return url
    rest, user = url[match.end() :].rstrip(), ""
    credentials = _credentials(rest)
    if credentials == rest:
        return f"{match.group(1)}://{HIDDEN}"
    if credentials is not None:
        rest = rest[len(credentials) + 1 :]
        user = f"{HIDDEN}@" if credentials else "@"  # udp://@239.0.0.1 is usual
    cut = min((rest.find(mark) for mark in "?#" if mark in rest), default=len(rest))
    address, _, path = rest[:cut].partition("/")
    slash = "/" if "/" in rest[:cut] else ""
    parts = re.split(r"([?#&;])", rest[cut:])
    tail = "".join(part if part in "?#&;" else _value(part) for part in parts)
    shown = "/".join(_segment(part) for part in path.split("/"))
    return f"{match.group(1)}://{user}{address}{slash}{shown}{tail}"


def redact(text: str) -> str:
    """Return a text with every URL in it redacted; a URL ends at the next white space."""
    return _IN_TEXT.sub(lambda match: redact_url(match.group()), text)


def host_of(url: str) -> str:
    """Return scheme://host of a URL and nothing else: webhooks hold secrets in their path."""
    shown = redact_url(url)
    scheme, _, rest = shown.partition("://")
    return f"{scheme}://{re.split(r'[/?#]', rest.rpartition('@')[2])[0]}"


class Secrets:
    """What must not be seen of one URL, in any spelling.

    Libraries repeat URLs in their errors, whole, decoded or in parts.

    Args:
        url: of a source; anything that is no URL has no secrets.
    """

    def __init__(self, url: str) -> None:
        self._shown = redact_url(url)
        self._url = url
        self._words = sorted(_secret_words(url), key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return `text` without the URL's secrets, and without those of any other URL."""
        if is_url(self._url):
            text = text.replace(self._url, self._shown)
        text = redact(text)
        for word in self._words:
            if len(word) >= 4:
                text = text.replace(word, HIDDEN)
            else:  # whole words only: a password "a" would make every message unreadable
                text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", HIDDEN, text)
        return text


def _credentials(rest: str) -> str | None:
    """Return what stands before the host in a URL without its scheme, None if nothing does.

    A password may hold any character, although it should not; so it reaches to the last @ unless
    what stands before that is plainly a host and a path. Where an @ may belong to a password as
    well as to a query, or to values in the path, everything is returned.
    """
    before, found, _ = rest.rpartition("@")
    if not found:
        return None
    secret = ":" in before or "@" in before
    if "?" in before or "#" in before:
        return rest if secret else None
    if "/" not in before:
        return before
    if not secret:
        return None
    return rest if "=" in before else before


def _value(part: str) -> str:
    key, found, value = part.partition("=")
    if not part:
        return ""
    named = found and value.strip("=") and _PLAIN_KEY.fullmatch(key) and not _TOKEN.fullmatch(key)
    return f"{key}={HIDDEN}" if named else HIDDEN


def _segment(part: str) -> str:
    """Hide what looks like a secret in the path: /user=admin&password=x/, or a long token."""
    if "=" in part or "%3d" in part.lower():
        key = re.split(r"=|%3[dD]", part)[0]
        return f"{key if _PLAIN_KEY.fullmatch(key) else ''}={HIDDEN}"
    return HIDDEN if _TOKEN.fullmatch(part) else part


def _secret_words(url: str) -> set[str]:
    match = _SCHEME.match(url)
    if match is None:
        return set()
    rest = url[match.end() :].rstrip()
    words: set[str] = set()
    credentials = _credentials(rest)
    if credentials == rest:
        return {part for part in re.split(r"[:@/?#&;=]", rest) if part} | {rest}
    if credentials is not None:
        user, _, password = credentials.partition(":")
        words |= {credentials, password} | ({user} if not password else set())
        rest = rest[len(credentials) + 1 :]
    cut = min((rest.find(mark) for mark in "?#" if mark in rest), default=len(rest))
    for part in re.split(r"[?#&;]", rest[cut:]):
        key, found, value = part.partition("=")
        words.add(value if found and value.strip("=") else key)
    spelt = {spelling(word) for word in words for spelling in (unquote, unquote_plus, quote)}
    # Channel numbers and the like are no secrets, and digits are in every message.
    return {word for word in words | spelt if word and not (word.isdecimal() and len(word) < 4)}
