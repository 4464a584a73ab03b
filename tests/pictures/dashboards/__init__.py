"""Pictures of what the dashboards show, made without Grafana: ``make dashboard-pictures``."""
