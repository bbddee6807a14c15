"""From stored record to acknowledged delivery."""
