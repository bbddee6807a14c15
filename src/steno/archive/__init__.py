"""Archive: stored transcripts fetched, streamed, aligned, filtered, archived and summarised."""
