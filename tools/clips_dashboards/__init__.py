"""The Grafana dashboards of Clips: what they show. ``make dashboards`` makes their JSON of it."""
