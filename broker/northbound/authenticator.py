"""Who callers are, by the accounts of the moment.

Rules kept here
- A person proves itself with a password, a service with a certificate that the authority in that account's own anchor
  issued for the anchor's sp_id. An authority counts for its own accounts alone, whatever name it writes.
- Whether an account exists does not show: unknown ones cost as much, and are throttled alike.
- Attempts count before they are judged, so that many at once gain nothing; after `FREE_ATTEMPTS` in a row each failure
  doubles the wait, up to `MAX_WAIT_S`. What is counted is bounded and in memory.
- A service's token is bound to its certificate. A disabled account is refused at once, also with a live token; roles are
  those of the present document.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from broker.accounts.pki import CertificateError, is_issued_by, subject_sp_id
from broker.accounts.secrets import Passwords, UnusableHash
from broker.northbound import tokens
from broker.northbound.auth import ClientCertificate, Credentials, Password, Principal
from broker.northbound.wrong_calls import AuthError, AuthReason, Throttled
from broker.settings.administered import AccountDoc, AdminState
from broker.settings.present import Administered
from capability_registry.keys import SigningKey
from service_model.clock import Clock

LIFETIME = timedelta(minutes=15)
FREE_ATTEMPTS = 5
MAX_WAIT_S = 60.0
MAX_COUNTED = 10_000
MAX_NAME = 64
"""Longer than any account's name: what is longer need not be told apart."""
HASHES_AT_ONCE = 2
"""Each takes 64 MiB."""
LOGINS_AT_ONCE = 100
"""So many wait for their password to be judged."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Attempts:
    failed: int = 0
    not_before: datetime | None = None


class Throttle:
    """Counts attempts by account; the least recently tried is forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Attempts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def attempt(self, account: str, now: datetime) -> None:
        """Count an attempt, as failed until `succeeded`. Raises Throttled, and counts nothing, while it has to wait."""
        account = account[:MAX_NAME]
        known = self._known.setdefault(account, _Attempts())
        self._known.move_to_end(account)
        if len(self._known) > MAX_COUNTED:
            self._known.popitem(last=False)
        if known.not_before is not None and now < known.not_before:
            raise Throttled((known.not_before - now).total_seconds())
        known.failed += 1
        if known.failed >= FREE_ATTEMPTS:
            wait = min(MAX_WAIT_S, 2.0 ** min(known.failed - FREE_ATTEMPTS, 16))
            known.not_before = now + timedelta(seconds=wait)

    def succeeded(self, account: str) -> None:
        self._known.pop(account[:MAX_NAME], None)


class AccountAuthenticator:
    """Authenticator over the administered accounts. `signing_keys` gives the keys of the moment: the first signs, all
    are accepted. `new_id` makes a token's id."""

    def __init__(
        self,
        *,
        sp_id: str,
        administered: Callable[[], Administered],
        passwords: Passwords,
        signing_keys: Callable[[], Sequence[SigningKey]],
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._sp_id = sp_id
        self._administered = administered
        self._passwords = passwords
        self._signing_keys = signing_keys
        self._clock = clock
        self._new_id = new_id
        self._throttle = Throttle()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)
        self._logging_in = 0

    async def issue(self, credentials: Credentials) -> tuple[str, datetime]:
        """See Authenticator."""
        if isinstance(credentials, Password):
            account = await self._by_password(credentials)
            bound = None
        else:
            account = self._by_certificate(credentials)
            bound = credentials.thumbprint
        now = self._clock.now()
        token = tokens.mint(
            self._signing_keys()[0],
            sp_id=self._sp_id,
            account=account.name,
            roles=account.roles,
            now=now,
            lifetime=LIFETIME,
            token_id=self._new_id(),
            thumbprint=bound,
        )
        return token, now.replace(microsecond=0) + LIFETIME

    def authenticate(self, token: str, peer_cert_thumbprint: str | None) -> Principal:
        """See Authenticator."""
        keys = {key.kid: key.public for key in self._signing_keys()}
        try:
            claims = tokens.verify(token, keys, self._sp_id, self._clock.now(), peer_cert_thumbprint)
        except tokens.TokenRefused as refused:
            log.info("token_refused", reason=refused.reason)
            if refused.reason is tokens.Reason.EXPIRED:
                raise AuthError(AuthReason.TOKEN_EXPIRED, "the token has expired: get a new one") from None
            raise AuthError(AuthReason.TOKEN_INVALID, "the token is not valid here") from None
        account = self._account(claims.account)
        if account is None or (account.type == "service") != (claims.thumbprint is not None):
            raise AuthError(AuthReason.TOKEN_INVALID, "the token is not valid here")
        _in_use(account)
        return Principal(account.name, frozenset(account.roles), claims.expires_at)

    def partner_roots(self) -> bytes:
        """The authorities (PEM) of all services that may call."""
        found = {
            a.anchor.ca.strip()
            for a in self._administered().accounts
            if a.type == "service" and a.anchor is not None and a.state is not AdminState.DISABLED
        }
        return "".join(f"{pem}\n" for pem in sorted(found)).encode()

    def _account(self, name: str) -> AccountDoc | None:
        return self._administered().find(AccountDoc, name)

    async def _by_password(self, given: Password) -> AccountDoc:
        if self._logging_in >= LOGINS_AT_ONCE:
            raise Throttled(1.0)
        self._logging_in += 1
        try:
            return await self._judged(given)
        finally:
            self._logging_in -= 1

    async def _judged(self, given: Password) -> AccountDoc:
        self._throttle.attempt(given.account, self._clock.now())
        account = self._account(given.account)
        stored = account.password_hash if account is not None and account.type == "person" else None
        async with self._hashing:
            try:
                right = await asyncio.to_thread(self._passwords.verify, stored, given.secret)
            except UnusableHash:
                log.error("password_hash_unusable", account=given.account)
                right = False
        present = self._account(given.account)  # it may have changed meanwhile
        if not right or present is None or present.password_hash != stored:
            log.info("login_refused", known=account is not None)
            raise _refused()
        self._throttle.succeeded(given.account)
        _in_use(present)
        return present

    def _by_certificate(self, given: ClientCertificate) -> AccountDoc:
        account = self._account(given.account)
        anchor = account.anchor if account is not None and account.type == "service" else None
        if account is None or anchor is None or not is_issued_by(given.pem, anchor.ca.encode()):
            raise _refused()
        try:
            named = subject_sp_id(given.pem)
        except CertificateError:
            raise _refused() from None
        if named != anchor.sp_id:
            raise _refused()
        _in_use(account)
        return account


def _refused() -> AuthError:
    return AuthError(AuthReason.CREDENTIALS_REFUSED, "account or credentials are wrong")


def _in_use(account: AccountDoc) -> None:
    if account.state is AdminState.DISABLED:
        raise AuthError(AuthReason.ACCOUNT_DISABLED, "this account is disabled")
