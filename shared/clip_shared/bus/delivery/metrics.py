"""The metrics of a service's consumers."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clip_shared.bus.backlog import Backlog
from clip_shared.bus.delivery.dead_letters import DeadLetterReason
from clip_shared.bus.delivery.retries import Retries
from clip_shared.bus.partitions import Partitions


class DeliveryMetrics:
    """What Prometheus scrapes about delivered messages, by topic."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "clips_events",
            "Attempts at messages by outcome: handled, dead_lettered, retried (redelivered after a pause; a"
            " batch that failed counts once).",
            ["topic", "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "clips_event_seconds",
            "Duration of one attempt at a message (or a batch of messages), successful or not.",
            ["topic"],
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
            registry=registry,
        )
        self.in_progress = Gauge(
            "clips_events_in_progress",
            "Messages (or batches of messages) in handlers now.",
            ["topic"],
            registry=registry,
        )
        self.held_back = Gauge(
            "clips_dead_letters_held_back",
            "Messages held back, with their partitions, because the dead-letter limit or the skip limit is"
            " reached.",
            ["topic"],
            registry=registry,
        )
        self.oldest_retry = Gauge(
            "clips_oldest_retry_seconds",
            "Time since the first failure of the message that has been redelivered for longest; 0 if no"
            " message is redelivered.",
            ["topic"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "clips_dead_letters",
            "Messages dead-lettered (put into the .dlq topic), by reason: invalid (breaks its contract),"
            " refused (can never be handled), given_up (failed for hours while others succeeded),"
            " record_refused (Kafka refuses the event that follows from it), killed_process (crashed its"
            " process several times), deadline (took too long), unknown (an unexpected error).",
            ["topic", "reason"],
            registry=registry,
        )
        self.topic_held_back = Gauge(
            "clips_topic_held_back",
            "1 while the topic is held back because its dead-letter limit or skip limit is reached, else 0.",
            ["topic"],
            registry=registry,
        )
        self.backlog = Backlog(registry)

    def add(self, topic: str, partitions: Partitions, retries: Retries) -> None:
        """Show a topic from the start: Prometheus sees a first increase only of a series that it knows."""
        for outcome in ("handled", "dead_lettered", "retried"):
            self.handled.labels(topic, outcome)
        for reason in DeadLetterReason:
            self.dead_letters.labels(topic, reason)
        self.seconds.labels(topic)
        self.in_progress.labels(topic)
        self.backlog.add(topic, partitions)
        self.held_back.labels(topic).set_function(lambda: retries.held_back(topic))
        self.topic_held_back.labels(topic).set_function(lambda: retries.held_back(topic) > 0)
        self.oldest_retry.labels(topic).set_function(lambda: retries.oldest_seconds(topic))
