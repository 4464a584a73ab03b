"""The contracts that the Clips services share and the few parts that all of them need."""
