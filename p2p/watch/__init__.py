"""Judging a cluster: alerts, health and insights, from what one peer knows."""
