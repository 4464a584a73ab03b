"""What an account sees: its clips, VODs, skipped highlights and feed."""
