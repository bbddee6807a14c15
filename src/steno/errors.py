"""Every error Steno raises, in one tree.

Fields come first and the message is built from them, never from a peer's text: a peer's
text may quote a transcript, a token or a signed address, and exceptions end up in logs.
``retryable`` is decided where the error is born and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

Field = str | int | float | bool | None


class StenoError(Exception):
    """Base of all errors of ours.

    Args:
        summary: What went wrong, in words of ours.
        fix: What the reader can do about it; shown after the summary.
        fields: Facts safe to log: ids, counts, states, status codes, error classes.
    """

    retryable: ClassVar[bool] = False
    default_summary: ClassVar[str] = "Steno failed"

    def __init__(self, summary: str = "", *, fix: str = "", **fields: Field) -> None:
        self.summary = summary or self.default_summary
        self.fix = fix
        self.fields = fields
        super().__init__(self.summary, fix, fields)

    def __str__(self) -> str:
        facts = ", ".join(f"{k}={v}" for k, v in self.fields.items() if v is not None)
        text = f"{self.summary} ({facts})" if facts else self.summary
        return f"{text}. {self.fix}" if self.fix else text

    @property
    def error_class(self) -> str:
        """Name for logs, metrics and dead letters; never peer text."""
        return type(self).__name__


class ConfigError(StenoError):
    """A setting is missing, unknown or wrong; ``setting`` and ``origin`` name it."""

    default_summary = "configuration error"

    def __init__(
        self, summary: str, *, setting: str, origin: str = "", fix: str = "", **fields: Field
    ) -> None:
        super().__init__(summary, fix=fix, setting=setting, origin=origin or None, **fields)
        self.setting = setting
        self.origin = origin


class ConfigProblems(ConfigError):
    """Several settings are wrong at once; ``problems`` holds one error for each."""

    def __init__(self, problems: Sequence[ConfigError]) -> None:
        first = problems[0]
        super().__init__(
            f"{len(problems)} settings are wrong", setting=first.setting, origin=first.origin
        )
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([f"{self.summary}:", *(f"  {problem}" for problem in self.problems)])


class ProtocolError(StenoError):
    """A rule of a wire protocol was broken."""

    default_summary = "protocol error"


class LocalProtocolError(ProtocolError):
    """We broke the rule: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rule; ``close_code`` is what to close the connection with."""

    def __init__(
        self, summary: str = "", *, fix: str = "", close_code: int = 1002, **fields: Field
    ) -> None:
        super().__init__(summary, fix=fix, close_code=close_code, **fields)
        self.close_code = close_code


class AuthError(StenoError):
    """Refused for who we are or what we may do; never retried with the same credentials."""

    default_summary = "the platform refused our credentials"


class TransportError(StenoError):
    """The way to a peer failed; trying again later can help."""

    retryable = True
    default_summary = "the connection failed"


class ConnectFailed(TransportError):
    """No connection could be made."""

    default_summary = "could not connect"


class TimedOut(TransportError):
    """The peer did not answer in time."""

    default_summary = "the peer did not answer in time"


class RateLimited(TransportError):
    """The peer asked us to slow down; ``retry_after_s`` is its wish, already bounded."""

    default_summary = "the peer limits our rate"

    def __init__(
        self,
        summary: str = "",
        *,
        fix: str = "",
        retry_after_s: float | None = None,
        **fields: Field,
    ) -> None:
        super().__init__(summary, fix=fix, retry_after_s=retry_after_s, **fields)
        self.retry_after_s = retry_after_s


class PeerUnavailable(TransportError):
    """The peer answered that it cannot serve now (5xx, UNAVAILABLE)."""

    default_summary = "the peer is unavailable"


class DeliveryError(StenoError):
    """A record could not be handed over."""

    default_summary = "delivery failed"


class SinkRejected(DeliveryError):
    """The consumer refused this record for good: a dead letter."""

    default_summary = "the consumer refused the record"


class SinkUnavailable(DeliveryError):
    """The consumer cannot take records now."""

    retryable = True
    default_summary = "the consumer is unavailable"


class LeaseLost(DeliveryError):
    """An outcome arrived for a lease that had ended."""

    default_summary = "the lease had ended"


class StorageError(StenoError):
    """A store failed."""

    default_summary = "storage failed"


class StorageFull(StorageError):
    """There is no room to write; the same work can succeed later."""

    retryable = True
    default_summary = "no space is left to store records"


class ObjectMissing(StorageError):
    """Nothing is stored under that name."""

    default_summary = "no such object"


class PreconditionFailed(StorageError):
    """The object is there already, or changed meanwhile."""

    default_summary = "the stored object differs from what was expected"


class IntegrityError(StorageError):
    """What was read is not what was written."""

    default_summary = "stored data are damaged"


class SpeechError(StenoError):
    """Speech recognition failed."""

    default_summary = "speech recognition failed"


class EngineUnavailable(SpeechError):
    """The recogniser cannot work now."""

    retryable = True
    default_summary = "the speech engine is unavailable"


class UnsupportedAudio(SpeechError):
    """The recogniser cannot work with this audio, ever."""

    default_summary = "unsupported audio"


class RedactionError(StenoError):
    """Redaction failed, so the text is withheld: redaction fails closed."""

    default_summary = "redaction failed and the text is withheld"
