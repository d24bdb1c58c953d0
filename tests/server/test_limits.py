"""Throttling: failures slow the one who fails, and nobody else."""

import pytest

from server.errors import RateLimited
from server.limits import AccountLimits, Rate, Throttle, network_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> AccountLimits:
    return AccountLimits(clock=clock)


def fail(limits: AccountLimits, email: str, ip_address: str, *, times: int) -> None:
    for _ in range(times):
        limits.begin_log_in(email, ip_address)


def test_failures_are_limited_and_the_answer_says_how_long(limits: AccountLimits, clock: Clock) -> None:
    fail(limits, "a@b.example", "192.0.2.1", times=20)

    with pytest.raises(RateLimited) as refused:
        limits.begin_log_in("A@b.example", "192.0.2.1")
    assert 30.0 == refused.value.retry_after_s

    clock.now += refused.value.retry_after_s
    limits.begin_log_in("a@b.example", "192.0.2.1")


def test_a_stranger_cannot_lock_the_owner_out(limits: AccountLimits) -> None:
    fail(limits, "a@b.example", "192.0.2.1", times=20)

    limits.begin_log_in("a@b.example", "192.0.2.2")


def test_one_network_cannot_try_all_accounts(limits: AccountLimits) -> None:
    for number in range(200):
        limits.begin_log_in(f"{number}@b.example", "192.0.2.1")

    with pytest.raises(RateLimited):
        limits.begin_log_in("another@b.example", "192.0.2.1")
    limits.begin_log_in("another@b.example", "192.0.2.2")


def test_success_is_not_counted(limits: AccountLimits) -> None:
    for _ in range(1000):
        attempt = limits.begin_log_in("a@b.example", "192.0.2.1")
        attempt.give_back()
        attempt.give_back()

    fail(limits, "a@b.example", "192.0.2.1", times=20)
    with pytest.raises(RateLimited):
        limits.begin_log_in("a@b.example", "192.0.2.1")


def test_sign_ups_of_one_network_are_limited(limits: AccountLimits) -> None:
    for _ in range(1000):
        limits.begin_sign_up("192.0.2.1")

    with pytest.raises(RateLimited):
        limits.begin_sign_up("192.0.2.1")
    limits.begin_sign_up("192.0.2.2")


def test_the_number_of_buckets_is_bounded(clock: Clock) -> None:
    throttle = Throttle(Rate(burst=1, refill_s=10.0), clock=clock, max_buckets=3)
    for key in "abcd":
        throttle.take(key)

    assert 3 == len(throttle._buckets)
    assert [0.0, 10.0] == [throttle.wait_s("a"), throttle.wait_s("d")]


def test_a_full_bucket_is_forgotten(clock: Clock) -> None:
    throttle = Throttle(Rate(burst=2, refill_s=10.0), clock=clock)
    throttle.take("a")
    clock.now += 10.0

    assert 0.0 == throttle.wait_s("a")
    throttle.give_back("a")
    assert {} == throttle._buckets


@pytest.mark.parametrize(
    ("ip_address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_customer_is_an_ipv4_address_or_an_ipv6_network(ip_address: str | None, expected: str) -> None:
    assert expected == network_of(ip_address)
