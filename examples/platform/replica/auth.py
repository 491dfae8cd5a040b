"""Who may call: logins, and the signed tokens (JWT, HS256) every other API call carries. `now` is passed in."""

from __future__ import annotations

import hmac
from typing import Any

import jwt

_CACHED_TOKENS = 4096


class AuthError(Exception):
    """The caller's fault; the message says what was wrong with the credentials or the token."""


class Authority:
    """Issues and checks tokens of one platform: a token of one system is good at the others, as behind one SSO."""

    def __init__(self, secret: str, password: str, token_ttl_s: float) -> None:
        self._secret = secret
        self._password = password.encode()
        self.token_ttl_s = token_ttl_s
        self._expiries: dict[str, float] = {}

    def login(self, username: str, password: str, now: float) -> str:
        """A token for `username`. AuthError when the password is not the platform's."""
        if not username or not hmac.compare_digest(password.encode(), self._password):
            raise AuthError("invalid credentials")
        return self.issue(username, now)

    def issue(self, subject: str, now: float) -> str:
        """A token for `subject`, good for the platform's token life from `now` (Unix seconds)."""
        claims: dict[str, Any] = {"sub": subject, "iat": now, "exp": now + self.token_ttl_s}
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def check(self, authorization: str | None, now: float) -> None:
        """AuthError unless `authorization` is `Bearer` and a token of this platform that has not expired."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthError("missing bearer token")
        expiry = self._expiries.get(token)
        if expiry is None:
            expiry = self._read_expiry(token)
            if len(self._expiries) >= _CACHED_TOKENS:
                self._expiries.clear()
            self._expiries[token] = expiry
        if now >= expiry:
            raise AuthError("token has expired")

    def _read_expiry(self, token: str) -> float:
        # Expiry and issue time are held against `now`, not against PyJWT's own reading of the clock.
        options: Any = {"require": ["exp", "sub"], "verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], options=options)
            return float(claims["exp"])
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise AuthError("token is not valid") from error


class ServiceToken:
    """The token a system calls the others with, renewed in the last third of its life."""

    def __init__(self, authority: Authority, service: str) -> None:
        self._authority = authority
        self._subject = f"service:{service}"
        self._header = ""
        self._renew_at = 0.0

    def header(self, now: float) -> str:
        """The `Authorization` header to send at `now` (Unix seconds)."""
        if now >= self._renew_at:
            self._header = f"Bearer {self._authority.issue(self._subject, now)}"
            self._renew_at = now + self._authority.token_ttl_s * 2 / 3
        return self._header
