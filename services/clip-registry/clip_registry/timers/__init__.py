"""What every registry does on a timer: count for the metrics, and trim what is no longer needed."""
