"""The Grafana dashboards of Clips. ``make dashboards`` writes their JSON."""
