"""What becomes of a message whose handler fails: one concern a file.

===================== ==================================================================================
middleware            the way of a message through a handler; it only composes the others
settlement            decides: redelivered, or dead-lettered
retries               remembers the messages that failed and are redelivered
redelivery            pauses their partitions
dead_letter_queue     publishes dead letters, within the limit
dead_letters          the record of a dead letter
dead_letter_limit     how many dead letters a topic may have in a time window
deadline              ends a handler that takes too long
crash_marks           counts the processes that crashed while they handled a message
standstill            which topics do not go on (readiness), and how long a handler has run (liveness)
metrics               what Prometheus scrapes of all this
===================== ==================================================================================
"""
