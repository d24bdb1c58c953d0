"""How long to wait before work is tried again."""

import random
from collections.abc import Callable

FIRST_S = 1.0
LONGEST_S = 30.0
#: 2 to the power of this is well over the longest pause; more would only make large numbers.
_MAX_DOUBLINGS = 10


def backoff_s(num_delivered: int, *, chance: Callable[[], float] = random.random) -> float:
    """Return the pause after a failed try, in seconds: doubled each time, and never the same for all.

    Half of it is by chance, so that jobs that failed together, because a server was away, do not come back
    together.
    """
    whole_s = min(LONGEST_S, FIRST_S * 2.0 ** min(num_delivered - 1, _MAX_DOUBLINGS))
    return whole_s * (0.5 + 0.5 * chance())
