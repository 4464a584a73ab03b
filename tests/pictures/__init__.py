"""The pictures of the documents: screenshots of the pages, and the panels of the dashboards."""
