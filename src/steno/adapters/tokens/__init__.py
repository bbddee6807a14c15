"""Access tokens: fetched, kept, renewed early, shared between callers and processes."""

from steno.adapters.tokens.cache import Clock, TokenCache, shared_cache
from steno.adapters.tokens.fallback import FallbackTokens
from steno.adapters.tokens.manager import TokenManager, TokenTiming

__all__ = ["Clock", "FallbackTokens", "TokenCache", "TokenManager", "TokenTiming", "shared_cache"]
