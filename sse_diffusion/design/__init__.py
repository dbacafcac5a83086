"""Design: from a question to tested candidates, resumable, with a ledger."""
