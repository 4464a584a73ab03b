"""HTTP: the shape of a service, its operations port, and errors as problems."""
