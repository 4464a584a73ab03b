"""The gateway: the only service that users reach. Streamers watch, keep and publish their clips here."""
