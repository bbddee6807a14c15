"""Whole exports: to files that are replaced in one step, standard output, and object stores."""

from steno.adapters.exports.export import ExportReport, Form, export

__all__ = ["ExportReport", "Form", "export"]
