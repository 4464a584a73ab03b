"""VODs: where they lie, and one class for each way of reading them."""
