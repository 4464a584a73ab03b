"""The servers that services need: Kafka, PostgreSQL, S3, and the monitoring."""
