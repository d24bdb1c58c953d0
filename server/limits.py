"""Throttling in memory: buckets of attempts that refill with time."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from server.errors import RateLimited

#: Buckets that are remembered; the one unused for longest is forgotten first.
_MAX_BUCKETS = 20_000
#: No address is longer; what is sent may be.
_MAX_KEY_CHARACTERS = 254
#: A provider hands out a whole /64 to one customer.
_IPV6_NETWORK_BITS = 64


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """``burst`` attempts at once, and one more every ``refill_s`` seconds."""

    burst: int
    refill_s: float


class _Bucket(msgspec.Struct):
    tokens: float
    at: float


class Throttle:
    """Counts attempts by key, at one rate. Belongs to one event loop."""

    def __init__(
        self, rate: Rate, *, clock: Callable[[], float] = time.monotonic, max_buckets: int = _MAX_BUCKETS
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """How long until an attempt is free; 0 when one is."""
        bucket = self._find(key)
        return 0.0 if bucket is None else max(0.0, (1.0 - bucket.tokens) * self._rate.refill_s)

    def take(self, key: str) -> None:
        """Use up one attempt."""
        bucket = self._find(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(tokens=float(self._rate.burst), at=self._clock())
            while len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        bucket.tokens -= 1.0
        self._buckets.move_to_end(key)

    def give_back(self, key: str) -> None:
        """Return an attempt that should not count."""
        bucket = self._find(key)
        if bucket is not None:
            bucket.tokens = min(bucket.tokens + 1.0, float(self._rate.burst))

    def _find(self, key: str) -> _Bucket | None:
        bucket = self._buckets.get(key)
        if bucket is None:
            return None
        now = self._clock()
        bucket.tokens += (now - bucket.at) / self._rate.refill_s
        bucket.at = now
        if bucket.tokens >= self._rate.burst:
            # Full is what an unknown bucket is.
            del self._buckets[key]
            return None
        return bucket


class Attempt:
    """One attempt, counted under several keys; ``give_back`` makes it uncounted."""

    def __init__(self, taken: Sequence[tuple[Throttle, str]]) -> None:
        self._taken = taken

    def give_back(self) -> None:
        """Don't count this attempt: it was no wrong guess."""
        for throttle, key in self._taken:
            throttle.give_back(key)
        self._taken = ()


class AccountLimits:
    """Slows down guessing and mass sign-up.

    Failed log-ins are counted by address *and* network, so that a stranger can't lock the owner of an
    account out, and by network alone, so that trying one password on many accounts ends too. What succeeds
    is not counted.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._by_account = Throttle(Rate(burst=20, refill_s=30.0), clock=clock)
        self._by_network = Throttle(Rate(burst=200, refill_s=3.0), clock=clock)
        self._sign_ups = Throttle(Rate(burst=1000, refill_s=3.6), clock=clock)

    def begin_log_in(self, email: str, ip_address: str | None) -> Attempt:
        """Count one attempt to log in, before its outcome is known.

        Raises:
            RateLimited: too many have failed.
        """
        network = network_of(ip_address)
        account = f"{network} {email[:_MAX_KEY_CHARACTERS].casefold()}"
        return _begin([(self._by_account, account), (self._by_network, network)])

    def begin_sign_up(self, ip_address: str | None) -> Attempt:
        """Count one new account.

        Raises:
            RateLimited: this network makes too many.
        """
        return _begin([(self._sign_ups, network_of(ip_address))])


def network_of(ip_address: str | None) -> str:
    """Return what stands for one customer of a provider: an IPv4 address, or an IPv6 /64."""
    try:
        address = ipaddress.ip_address(ip_address or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
    return str(address)


def _begin(wanted: Sequence[tuple[Throttle, str]]) -> Attempt:
    wait_s = max(throttle.wait_s(key) for throttle, key in wanted)
    if wait_s > 0:
        raise RateLimited("Too many attempts; wait before the next one.", retry_after_s=wait_s)
    for throttle, key in wanted:
        throttle.take(key)
    return Attempt(wanted)
