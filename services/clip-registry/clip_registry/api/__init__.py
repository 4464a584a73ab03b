"""The internal HTTP API, for the gateway and the janitor."""
