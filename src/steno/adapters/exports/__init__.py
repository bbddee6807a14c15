"""Whole exports: to files that are replaced in one step, standard output, and object stores."""

from steno.adapters.exports.export import ExportReport, Form, export
from steno.adapters.exports.targets import replace_file, require_target

__all__ = ["ExportReport", "Form", "export", "replace_file", "require_target"]
