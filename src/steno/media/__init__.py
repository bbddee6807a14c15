"""Call audio in, words out: AudioHook and the JSON form, language identified, speech recognised."""
