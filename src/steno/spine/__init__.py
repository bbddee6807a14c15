"""From what was said to stored records: what every source of speech shares.

``pipeline`` decides (assembly, language, redaction, gaps), without I/O; ``service`` commits what
it decides. Live transcripts and recognised call audio both come through here.
"""
