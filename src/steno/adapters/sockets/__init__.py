"""WebSocket transports."""
