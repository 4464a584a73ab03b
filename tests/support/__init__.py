"""Helpers of the tests: browsers, containers, documents, and servers of other projects."""
