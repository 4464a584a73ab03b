"""Events on their way to Kafka: written with the rows that they describe, sent afterwards."""
