"""Sign in with this hub: OpenID Connect's code flow, as a Space's `gr.LoginButton` walks it.

For development: no app is registered, so any client id and secret will do, and a user is chosen, not proven; the
only user of a hub is approved at once. So it answers to this machine only, and sends nobody away from it. Tokens
carry scopes: without one that writes, a token only reads. Needs joserfc, which `gradio[oauth]` brings.
Docs: https://huggingface.co/docs/hub/oauth, https://openid.net/specs/openid-connect-core-1_0.html
"""

import base64
import binascii
import html
import importlib.util
import ipaddress
import secrets
import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from zoo.devhub.access import LoggedIn, TheHub, base_url
from zoo.devhub.bodies import Route
from zoo.devhub.errors import HubError, bad_request, forbidden
from zoo.devhub.storage import grants, repos

CODE_S = 120
TOKEN_S = 8 * 3600
_ALGORITHM = "ES256"


async def on_this_machine(request: Request) -> None:
    """Choosing a user takes no token, so it is for who sits here."""
    if request.client is None or not _is_loopback(request.client.host):
        raise forbidden("Signing in by choice of a user is for browsers and apps on the hub's own machine.")


router = APIRouter(route_class=Route, dependencies=[Depends(on_this_machine)])


@router.get("/.well-known/openid-configuration")
async def configuration(request: Request) -> dict[str, Any]:
    base = base_url(request)
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "userinfo_endpoint": f"{base}/oauth/userinfo",
        "jwks_uri": f"{base}/oauth/jwks",
        "scopes_supported": list(grants.SCOPES),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [_ALGORITHM],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


@router.get("/oauth/jwks")
async def public_keys(request: Request) -> dict[str, Any]:
    return {"keys": [_key(request).as_dict(private=False)]}


@router.get("/oauth/authorize")
async def authorize(
    request: Request,
    hub: TheHub,
    client_id: str,
    redirect_uri: str,
    response_type: str = "code",
    scope: str = "openid profile",
    state: str = "",
    nonce: str = "",
    user: str | None = None,
) -> Response:
    """Back to the app with a code for `user`; without one, a page that asks which, unless there is only one."""
    _check_app(redirect_uri, response_type, scope)
    chosen = next(iter(hub.users)) if len(hub.users) == 1 else user
    if chosen is None:
        return HTMLResponse(_page(list(hub.users), client_id, scope, dict(request.query_params)))
    if chosen not in hub.users:
        raise bad_request(f"No user {chosen!r} here.")
    claims = {"user": chosen, "client": client_id, "to": redirect_uri, "scope": scope, "nonce": nonce}
    code = grants.seal(hub.sign, "code", claims | {"id": secrets.token_hex(8)}, CODE_S)
    answer = urlencode({"code": code} | ({"state": state} if state else {}))
    return RedirectResponse(f"{redirect_uri}{'&' if urlsplit(redirect_uri).query else '?'}{answer}", 302)


@router.post("/oauth/token")
async def token(request: Request, hub: TheHub) -> JSONResponse:
    """Trade a code, once, for an access token and an ID token. The body is a form."""
    form = {name: values[-1] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
    client = _client(request.headers.get("authorization", ""), form)
    claims = grants.unseal(hub.sign, "code", form.get("code", ""))
    fits = claims and (claims["client"], claims["to"]) == (client, form.get("redirect_uri"))
    if form.get("grant_type") != "authorization_code":
        return _refused("unsupported_grant_type", "only authorization_code")
    if claims is None or not fits or claims["id"] in _spent(request):
        return _refused("invalid_grant", "the code is unknown, used, expired, or was for another app or address")
    _spent(request)[claims["id"]] = claims["exp"]
    user, scope = claims["user"], claims["scope"]
    answer = {
        "access_token": grants.token(hub.sign, user, scope, TOKEN_S),
        "token_type": "bearer",
        "expires_in": TOKEN_S,
        "scope": scope,
    }
    if "openid" in scope.split():
        answer["id_token"] = _id_token(request, user, client, claims["nonce"])
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


@router.get("/oauth/userinfo")
async def userinfo(request: Request, user: LoggedIn) -> dict[str, Any]:
    return _profile(base_url(request), user)


def _profile(base: str, user: str) -> dict[str, Any]:
    return {
        "sub": repos.object_id("user", user), "name": user, "preferred_username": user, "profile": f"{base}/{user}",
        "picture": "", "website": "",
    }  # fmt: skip


def _id_token(request: Request, user: str, client: str, nonce: str) -> str:
    from joserfc import jwt

    base, at, key = base_url(request), int(time.time()), _key(request)
    claims = _profile(base, user) | {"iss": base, "aud": client, "iat": at, "exp": at + TOKEN_S, "auth_time": at}
    claims |= {"nonce": nonce} if nonce else {}
    return jwt.encode({"alg": _ALGORITHM, "kid": key.kid}, claims, key)


def _key(request: Request) -> Any:
    """The key that signs ID tokens, made for this run of the hub."""
    if importlib.util.find_spec("joserfc") is None:
        raise HubError(501, "Signing in needs joserfc; run `pip install 'gradio[oauth]'` where the hub runs.")
    from joserfc.jwk import ECKey

    if not hasattr(request.app.state, "oauth_key"):
        request.app.state.oauth_key = ECKey.generate_key("P-256", {"use": "sig"}, auto_kid=True)
    return request.app.state.oauth_key


def _spent(request: Request) -> dict[str, int]:
    """Codes that were traded and have not expired yet, with the second in which they will."""
    kept = getattr(request.app.state, "oauth_spent", {})
    request.app.state.oauth_spent = {code: exp for code, exp in kept.items() if exp > time.time()}
    return request.app.state.oauth_spent


def _client(header: str, form: dict[str, str]) -> str:
    """The client id, from Basic authentication or from the form; empty without a secret, whatever that is."""
    client, secret = form.get("client_id", ""), form.get("client_secret", "")
    if header.startswith("Basic "):
        try:
            given = base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        client, _, secret = (unquote(part) for part in given.partition(":"))
    return client if secret else ""


def _check_app(redirect_uri: str, response_type: str, scope: str) -> None:
    to = urlsplit(redirect_uri)
    if to.scheme not in ("http", "https") or not _is_loopback(to.hostname or ""):
        raise bad_request(f"redirect_uri: got {redirect_uri!r}; only addresses on this machine are answered.")
    if response_type != "code":
        raise bad_request(f"response_type: got {response_type!r}, expected 'code'.")
    if unknown := sorted(set(scope.split()) - set(grants.SCOPES)):
        raise bad_request(f"scope: unknown {', '.join(unknown)}; known: {', '.join(grants.SCOPES)}.")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(code: str, words: str) -> JSONResponse:
    return JSONResponse({"error": code, "error_description": words}, 400)


def _page(users: list[str], client: str, scope: str, asked: dict[str, str]) -> str:
    links = "".join(
        f'<p><a href="/oauth/authorize?{html.escape(urlencode(asked | {"user": user}))}">{html.escape(user)}</a></p>'
        for user in users
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Sign in</title><body>"
        f"<h1>Sign in</h1><p>{html.escape(client)} asks for: {html.escape(scope)}</p>{links}</body></html>"
    )
