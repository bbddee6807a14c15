"""The store of transcription jobs: one SQLite file of its own beside that of the records.

``SqliteJobStore`` is the owner's side (``ports.jobs.JobStore``); ``JobReader`` lists and shows
beside it, ``leave_wish`` asks the owner to pause, resume or cancel, and ``delete_jobs`` erases.
Results are not in it.
"""

from steno.adapters.job_store.erasing import delete_jobs, jobs_about, purge_jobs
from steno.adapters.job_store.reader import JobReader, leave_wish
from steno.adapters.job_store.store import JobStoreSettings, SqliteJobStore

__all__ = [
    "JobReader",
    "JobStoreSettings",
    "SqliteJobStore",
    "delete_jobs",
    "jobs_about",
    "leave_wish",
    "purge_jobs",
]
