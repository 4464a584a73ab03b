"""The images of the documentation: screenshots of the pages, and the dashboards."""
