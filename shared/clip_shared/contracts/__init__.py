"""What services tell each other: events, topics, object keys, and the HTTP API of the registry."""
