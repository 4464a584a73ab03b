"""Purges the clips that no owner kept, and deletes the objects that no clip owns any more."""
