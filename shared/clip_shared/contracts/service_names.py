"""The names of the services, as Kafka users and groups, event sources, metrics, logs and traces show them."""

CLIP_CUTTER = "clip-cutter"
CLIP_REGISTRY = "clip-registry"
CLIP_GATEWAY = "clip-gateway"
JANITOR = "janitor"
CLIP_SHARED = "clip-shared"
"""Not a service: the command line that sends ticks and replays messages."""
