"""A receiver of webhooks that misbehaves on demand."""
