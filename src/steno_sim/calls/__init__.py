"""Simulated calls: the platform's end of AudioHook and of the JSON form, dialling any server.

It shares no code with the product, so that it can check a server from outside: ``rules.RULES``
are the rules, ``faults.FAULTS`` what a caller does wrong on demand. Start with
``playing.play_calls``, ``audiohook.AudioHookCaller``, or ``steno-sim call --help``.
"""
