"""Kafka: consuming and publishing events, delivery, and the tools for operators."""
