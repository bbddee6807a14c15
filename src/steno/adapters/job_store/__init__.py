"""The store of transcription jobs: one SQLite file of its own beside that of the records.

``SqliteJobStore`` is the owner's side (``ports.jobs.JobStore``); ``JobReader`` lists and shows
beside it, and ``leave_wish`` asks the owner to pause, resume or cancel. Results are not in it.
"""

from steno.adapters.job_store.reader import JobReader, leave_wish
from steno.adapters.job_store.store import JobStoreSettings, SqliteJobStore

__all__ = ["JobReader", "JobStoreSettings", "SqliteJobStore", "leave_wish"]
