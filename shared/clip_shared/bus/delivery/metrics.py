"""What SREs see of a service's consumers."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clip_shared.bus.backlog import Backlog
from clip_shared.bus.delivery.dead_letters import DeadLetterReason


class DeliveryMetrics:
    """What SREs see of a service's consumers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "clips_events",
            "Messages of a topic by what became of an attempt at them: handled, dead_lettered, retried"
            " (delivered again after a pause; a batch counts once).",
            ["topic", "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "clips_event_seconds",
            "Time that one attempt at a message (or a batch of messages) took, whatever became of it.",
            ["topic"],
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
            registry=registry,
        )
        self.in_progress = Gauge(
            "clips_events_in_progress",
            "Messages (or batches of messages) that a handler is working on now.",
            ["topic"],
            registry=registry,
        )
        self.held_back = Gauge(
            "clips_dead_letters_held_back",
            "Messages that wait, and hold up their partition, because the topic reached its limit of dead"
            " letters or of skips.",
            ["topic"],
            registry=registry,
        )
        self.oldest_retry = Gauge(
            "clips_oldest_retry_seconds",
            "Time since the first failure of the message that has been delivered again for longest; 0 when no"
            " message is.",
            ["topic"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "clips_dead_letters",
            "Messages put into the topic's dead letters (its .dlq topic), by reason: invalid (breaks its"
            " contract), refused (can never be handled), given_up (failed for hours while others succeeded),"
            " record_refused (Kafka does not take the event that follows from it), killed_process (again and"
            " again), deadline (it takes too long), unknown (an error that nobody foresaw).",
            ["topic", "reason"],
            registry=registry,
        )
        self.topic_held_back = Gauge(
            "clips_topic_held_back",
            "1 while messages of the topic wait because its limit of dead letters or of skips is reached,"
            " else 0.",
            ["topic"],
            registry=registry,
        )
        self.backlog = Backlog(registry)

    def add(self, topic: str) -> None:
        """Show a topic from the start, so that the first of a kind is seen as an increase."""
        for outcome in ("handled", "dead_lettered", "retried"):
            self.handled.labels(topic, outcome)
        for reason in DeadLetterReason:
            self.dead_letters.labels(topic, reason)
        self.seconds.labels(topic)
        self.in_progress.labels(topic)
