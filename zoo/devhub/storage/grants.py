"""What the hub hands out and later recognises without keeping it: claims, signed, that expire.

A grant is one word: its kind, its claims as base64url JSON, and a signature; it outlives a restart of the hub with
the same users. Of the kinds, `code` is traded once for a token, and `oauth` is a token in its user's name.
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

Sign = Callable[[str], str]
PREFIX = "hf_oauth_"  # of a token
READ_ONLY = ("openid", "profile", "email", "read-repos")
WRITING = ("contribute-repos", "write-repos", "manage-repos", "write-discussions")  # told apart on the real Hub only
SCOPES = READ_ONLY + WRITING


def seal(sign: Sign, kind: str, claims: dict[str, Any], lasts_s: int) -> str:
    """A grant of these claims, good for `lasts_s` seconds."""
    text = json.dumps(claims | {"exp": int(time.time()) + lasts_s})
    body = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return f"{body}.{sign(f'{kind} {body}')}"


def unseal(sign: Sign, kind: str, grant: str) -> dict[str, Any] | None:
    """Its claims; None where it is not ours, of another kind, or expired."""
    body, _, signature = grant.partition(".")
    if not hmac.compare_digest(signature.encode(), sign(f"{kind} {body}").encode()):
        return None
    try:
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if claims["exp"] > time.time() else None


def token(sign: Sign, user: str, scope: str, lasts_s: int) -> str:
    """An access token for `user`, limited to the scopes, which a blank separates."""
    return PREFIX + seal(sign, "oauth", {"user": user, "scope": scope}, lasts_s)


def bearer(sign: Sign, text: str) -> dict[str, Any] | None:
    """The claims `user`, `scope` and `exp` of a token; None where it is none of ours."""
    return unseal(sign, "oauth", text.removeprefix(PREFIX)) if text.startswith(PREFIX) else None


def may_write(scope: str) -> bool:
    """Whether one of the scopes lets its app change anything."""
    return bool(set(scope.split()) & set(WRITING))
