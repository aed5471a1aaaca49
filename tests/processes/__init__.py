"""Real processes for the tests that need them: a broker, actors, their ledgers."""
