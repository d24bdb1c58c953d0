"""What is read when somebody looks at the metrics, rather than counted when it happens."""

from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from bus.port import Bus
from server.embeddings import Embeddings


def observe(meter: Meter, bus: Bus, embeddings: Embeddings) -> None:
    """Let the metrics read what these know about themselves."""

    def lookups(_: CallbackOptions) -> Iterable[Observation]:
        return (
            Observation(embeddings.num_known, {"result": "hit"}),
            Observation(embeddings.num_unknown, {"result": "miss"}),
        )

    def pending(_: CallbackOptions) -> Iterable[Observation]:
        return (Observation(embeddings.num_pending),)

    def dropped(_: CallbackOptions) -> Iterable[Observation]:
        return (Observation(bus.num_dropped),)

    meter.create_observable_counter(
        "towhee.cache.lookups", [lookups], description="Inputs looked up among remembered vectors, by result."
    )
    meter.create_observable_gauge(
        "towhee.interactive.pending",
        [pending],
        description="Commands of the interactive lane that this server waits for.",
    )
    meter.create_observable_counter(
        "towhee.bus.dropped",
        [dropped],
        description="Messages lost because this process did not keep up with what it follows.",
    )
