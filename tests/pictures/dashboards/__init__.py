"""Images of the dashboards, drawn without Grafana: ``make dashboard-pictures``."""
