"""The servers that integration and e2e tests run on: real ones, started once per run.

By default those of the local stack. ``TEST_KAFKA_BOOTSTRAP_SERVERS``, ``TEST_DATABASE_URL``
and ``TEST_S3_ENDPOINT_URL`` (with ``TEST_S3_ACCESS_KEY`` and ``TEST_S3_SECRET_KEY``) point at servers that already
run; ``TEST_CONTAINERS=1`` starts containers instead, where a Docker engine is.
"""
