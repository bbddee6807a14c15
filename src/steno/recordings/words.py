"""The words of a finished transcript, as the service gives them."""
