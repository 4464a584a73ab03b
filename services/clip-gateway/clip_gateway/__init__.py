"""The public edge: streamers watch, download, keep and publish their clips."""
